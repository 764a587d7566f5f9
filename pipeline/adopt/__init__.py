"""Adoption: a network that others have trained becomes a model folder, measured and compared with its original."""
