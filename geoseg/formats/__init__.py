"""Formats: the files that a GIS opens."""
