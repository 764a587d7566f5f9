"""Instances: objects that are distinguished one by one, each once and whole, across any seam."""
