"""Polygons: regions of a class raster traced, joined over seams, merged, simplified and measured."""
