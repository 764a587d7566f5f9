"""What a data set says of others: a raster that names files, or holds several images, is none that can be taken as it is."""

from __future__ import annotations

import os
import re

import rasterio

from geoseg.addresses import shown
from geoseg.errors import NotARasterError

__all__ = ["refuse_references", "refuse_several"]

REFERENCES = {"OVERVIEWS": ("OVERVIEW_FILE",), "GEOLOCATION": ("X_DATASET", "Y_DATASET")}
"""Metadata by which a raster names others: its overviews, and the coordinates of its pixels."""
PAGE = re.compile(r"\((?P<width>\d+)P x (?P<height>\d+)L x (?P<bands>\d+)B\)")
"""How GDAL describes an image of a TIFF file that has several."""
LISTED_PAGES = 6
"""A message names so many of them."""


def refuse_references(dataset: rasterio.DatasetReader, path: str) -> None:
    """Refuse a raster that names others in its own metadata, or in those beside it.

    Raises:
        NotARasterError: It does.
    """
    for domain, keys in REFERENCES.items():
        named = [name for name in dataset.tags(ns=domain) if name.upper() in keys]
        if named:
            raise NotARasterError(
                f"{shown(path)}: its metadata name another file ({domain}: {named[0]}), which was not opened; remove them, for "
                "example with gdal_translate -co COPY_SRC_MDD=NO"
            )


def refuse_several(dataset: rasterio.DatasetReader, path: str) -> None:
    """Refuse a TIFF of several images, of which GDAL opens the first; overviews, masks and marked previews are none.

    Raises:
        NotARasterError: It is one.
    """
    told = dataset.tags(ns="SUBDATASETS")
    pages = {int(key.split("_")[1]): value for key, value in told.items() if re.fullmatch(r"SUBDATASET_\d+_DESC", key)}
    if len(pages) < 2:
        return
    sizes = []
    for number, text in sorted(pages.items())[:LISTED_PAGES]:
        match, named = PAGE.search(text), re.match(r"GTIFF_DIR:(\d+):", told.get(f"SUBDATASET_{number}_NAME", ""))
        many = "" if match is None or match["bands"] == "1" else "s"
        size = text if match is None else "{height} x {width} px, {bands} band".format(**match.groupdict()) + many
        sizes.append((named[1] if named is not None else str(number), size))
    listed = "; ".join(f"{number}: {size}" for number, size in sizes) + ("; …" if len(pages) > len(sizes) else "")
    last = sizes[-1][0]
    raise NotARasterError(
        f"{shown(path)}: a TIFF of {len(pages)} images ({listed}), and which one is meant is not known; write it to a file of "
        "its own, for example with gdal_translate (or rio convert) "
        f"GTIFF_DIR:{last}:{os.path.basename(shown(path))} image{last}.tif"
    )
