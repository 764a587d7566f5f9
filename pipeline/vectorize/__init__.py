"""Vectorize: polygons of a class raster, or of objects."""
