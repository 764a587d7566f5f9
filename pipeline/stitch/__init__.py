"""Stitch: chunk results to rasters that a GIS opens."""
