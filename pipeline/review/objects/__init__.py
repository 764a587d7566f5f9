"""Review of objects: their masks are changed, and rasters and polygons made of these."""
