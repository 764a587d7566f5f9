"""What hides the ground of a scene: clouds and their shadows, of rasters, polygons and the quality layers of products."""
