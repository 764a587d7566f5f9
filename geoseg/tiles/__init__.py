"""Tiles of the web: squares of rasters and polygons in web Mercator, as browsers' maps ask for them."""
