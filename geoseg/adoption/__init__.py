"""Adoption: networks that others have trained, as model folders."""
