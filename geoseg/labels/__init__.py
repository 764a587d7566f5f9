"""Labels: rasters, polygons and COCO files, as class codes on a scene's grid."""
