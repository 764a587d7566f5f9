"""The codes of class and confidence rasters: every pixel is a class, no data, or not analysed."""

from __future__ import annotations

__all__ = ["MAX_CLASS", "MAX_CONFIDENCE", "NODATA", "NOT_ANALYSED", "NO_SEGMENT", "UNLABELLED", "VOID"]

MAX_CLASS = 253
"""Largest class code."""
VOID = MAX_CLASS
"""In panoptic maps, what was analysed and belongs to no segment; models with so many classes make none."""
NOT_ANALYSED = 254
"""There was data, but no result could be computed."""
NODATA = 255
"""There was no data."""
NO_SEGMENT = 2**32 - 1
"""In both bands of a panoptic raster, where there was no data."""
MAX_CONFIDENCE = 100
"""Confidence is the probability of the class in percent."""
UNLABELLED = 255
"""Code of pixels that nothing is learned from: not labelled, ignored, without data, outside the scene."""
