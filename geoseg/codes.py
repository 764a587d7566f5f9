"""The codes of class and confidence rasters: every pixel is a class, no data, or not analysed."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "ANALYSED",
    "COVERAGE",
    "HIDDEN",
    "MAX_CLASS",
    "MAX_CONFIDENCE",
    "MAX_VALUE",
    "NODATA",
    "NOT_ANALYSED",
    "NO_SEGMENT",
    "NO_SOURCE",
    "NO_VALUE",
    "OUTSIDE_AREA",
    "RESERVED",
    "UNGRADED",
    "UNLABELLED",
    "VALUE_NOT_ANALYSED",
    "VOID",
    "keeps_codes",
]

MAX_CLASS = 253
"""Largest class code."""
VOID = MAX_CLASS
"""In panoptic maps, what was analysed and belongs to no segment; models with so many classes make none."""
NOT_ANALYSED = 254
"""There was data, but no result could be computed."""
NODATA = 255
"""There was no data."""
OUTSIDE_AREA = 252
"""In coverage alone, what lies outside of the area of interest; it is no data in all other layers."""
RESERVED = (NOT_ANALYSED, NODATA)
"""Codes that are no class in rasters of this program; in those of others they are values like all."""
NO_SEGMENT = 2**32 - 1
"""In both bands of a panoptic raster, where there was no data."""
NO_SOURCE = 2**16 - 1
"""In the raster that says which scene of a mosaic a pixel is of, where it is of none."""
MAX_VALUE = 2**16 - 3
"""In rasters of values, the largest code that stands for a value: physical value = code * scale + offset."""
VALUE_NOT_ANALYSED = 2**16 - 2
"""In rasters of values, what ``NOT_ANALYSED`` is in those of classes."""
NO_VALUE = 2**16 - 1
"""In rasters of values, what ``NODATA`` is in those of classes."""
MAX_CONFIDENCE = 100
"""Confidence is the probability of the class in percent."""
ANALYSED = 0
"""In coverage, a pixel that has a class."""
HIDDEN = 253
"""In coverage, what clouds or their shadows hide; in maps, that is not analysed."""
COVERAGE = {ANALYSED: "analysed", HIDDEN: "cloud", NOT_ANALYSED: "not analysed", NODATA: "no data"}
"""Codes of coverage and what they are called there: why a pixel has no class."""
UNLABELLED = 255
"""Code of pixels that nothing is learned from: not labelled, ignored, without data, outside the scene."""


def keeps_codes(tags: Mapping[str, str], band_tags: Mapping[str, str]) -> bool:
    """Whether a class raster says that it is of this program, so that 254 and 255 are no class in it.

    Args:
        tags: Metadata of the file.
        band_tags: Metadata of its first band.
    """
    return any(key.lower().startswith("geoseg_") for key in tags) or band_tags.get(f"class_{NOT_ANALYSED}") == "not analysed"


UNGRADED = "not analysed"
"""The class of what could not be graded."""
