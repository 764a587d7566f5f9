"""What GDAL and PROJ read once, at the first file of a process: their drivers, codecs and tables of CRSs."""

from __future__ import annotations

import struct
from functools import cache

from geoseg.crs import crs_of
from geoseg.scenes.gdal import gdal_env, open_written
from geoseg.scenes.ranges.excerpt import directories_alone
from geoseg.tiff import IMAGE_LENGTH, IMAGE_WIDTH, STRIP_BYTE_COUNTS, STRIP_OFFSETS, Entry

__all__ = ["be_ready"]

SHORT, DOUBLE = 3, 12
UTM = 32633
SHORTS = {
    IMAGE_WIDTH: (1,),
    IMAGE_LENGTH: (1,),
    258: (8,),
    259: (1,),
    262: (1,),
    STRIP_OFFSETS: (0,),
    277: (1,),
    278: (1,),
    STRIP_BYTE_COUNTS: (0,),
    # OGC 19-008r4: version 1.1.0 and three keys, a projected CRS, pixels as areas, and which CRS.
    34735: (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, UTM),
}
"""Fields of an image of one pixel that was not written."""
DOUBLES = {33550: (10.0, 10.0, 0.0), 33922: (0.0, 0.0, 0.0, 5e5, 0.0, 0.0)}
"""The size of its pixel, and where it lies."""


@cache
def be_ready() -> None:
    """Open a file of one pixel in memory, once: a server can be waited for meanwhile, instead of before."""
    entries = [Entry(tag, SHORT, len(values), struct.pack(f"<{len(values)}H", *values)) for tag, values in SHORTS.items()]
    entries += [Entry(tag, DOUBLE, len(values), struct.pack(f"<{len(values)}d", *values)) for tag, values in DOUBLES.items()]
    with gdal_env(), open_written(directories_alone([{entry.tag: entry for entry in entries}], "<")) as dataset:
        crs_of(dataset.crs.to_wkt())
