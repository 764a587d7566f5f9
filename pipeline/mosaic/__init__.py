"""Mosaic: many overlapping scenes as one map."""
