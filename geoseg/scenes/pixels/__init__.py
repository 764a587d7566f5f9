"""The pixels of a scene's files: their blocks, their palettes, GDAL's handles, and decoded units that are kept."""
