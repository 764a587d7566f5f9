"""Quality layers of products: which of their values, bits or bands hide the ground.

Sources: Sentinel-2 Level-2A scene classification (ESA, Sentinel-2 Products Specification Document, table of SCL); Landsat
Collection 2 QA_PIXEL (USGS, Landsat 8-9 Collection 2 Level 2 Science Product Guide, LSDS-1619); HLS Fmask (NASA, HLS User
Guide 2.0, table of the QA layer); UDM2 of PlanetScope (Planet, Usable Data Mask documentation).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import rasterio
from numpy.typing import NDArray

from geoseg.arrays import Bools
from geoseg.clouds.hidden import AlignedRaster, open_signed
from geoseg.errors import ConfigError, SceneError
from geoseg.georeference import Georeference
from geoseg.scenes.clouds import CloudLayer
from geoseg.scenes.gdal import open_dataset, open_sought
from geoseg.scenes.products.container import in_archive
from geoseg.scenes.products.product_facts import QualityKind
from geoseg.scenes.products.quality import QualityLayer
from geoseg.scenes.ranges.range_client import RangeClient
from geoseg.scenes.remote import is_remote, shown
from geoseg.scenes.stac.signing import probe_signed, signed
from geoseg.windows import Window

__all__ = ["QUALITY", "HiddenQuality", "QualityRule"]


MOST_BYTES = 256 << 20
"""Bytes of a JPEG 2000 layer on a server, which is got as a whole; those of Sentinel-2 have less than ten million."""


@dataclass(frozen=True, slots=True)
class QualityRule:
    """The meaning of a kind of quality layer."""

    holds: Literal["values", "bits", "bands"]
    """What its numbers are: values of pixels, bits of them, or bands that are 1 where they say yes."""
    names: tuple[tuple[str, int], ...]
    """What can hide the ground, by name."""
    default: tuple[int, ...]
    """Numbers of what does."""
    unknown: tuple[int, ...] = ()
    """Numbers of what was not judged, and is never known to be clear; of ``bands``, the one that is 1 where it is clear."""
    fill: int | None = None
    """Value of a pixel of bits that was not judged."""

    def numbers(self, classes: Sequence[str]) -> tuple[int, ...]:
        """Numbers of what hides the ground, given by name or number; the usual ones for none.

        Raises:
            ConfigError: There is no such class.
        """
        known, found = dict(self.names), []
        for text in classes:
            word = text.strip().lower()
            number = known.get(word, int(word) if word.isdecimal() else None)
            if number is None or number not in known.values():
                listed = ", ".join(f"{number} {name}" for name, number in self.names)
                raise ConfigError(f"cloud_classes: {text!r} is none of this quality layer; it has {listed}")
            found.append(number)
        return tuple(sorted(set(found))) if found else self.default

    def hides(self, values: NDArray[Any], numbers: Sequence[int]) -> Bools:
        """(h, w), True where the ground is hidden, or not known to be clear.

        Args:
            values: (bands, h, w) in the order of ``bands``.
            numbers: What hides the ground.
        """
        if self.holds == "values":
            return np.isin(values[0], [*numbers, *self.unknown])
        if self.holds == "bits":
            flags = sum(1 << number for number in (*numbers, *self.unknown))
            hidden = (values[0].astype(np.int64) & flags) != 0
            return np.asarray(hidden if self.fill is None else hidden | (values[0] == self.fill))
        if tuple(numbers) == self.unknown:
            return np.asarray(values[0] != 1)
        return np.asarray((values != 0).any(axis=0))

    def bands(self, numbers: Sequence[int], first: int) -> tuple[int, ...]:
        """Numbers of the bands that are read, of a file in which the layer begins with band ``first``."""
        return tuple(first + number - 1 for number in numbers) if self.holds == "bands" else (first,)


QUALITY: dict[QualityKind, QualityRule] = {
    "scl": QualityRule(
        "values",
        (
            ("dark", 2),
            ("shadow", 3),
            ("vegetation", 4),
            ("bare", 5),
            ("water", 6),
            ("unclassified", 7),
            ("medium", 8),
            ("high", 9),
            ("cirrus", 10),
            ("snow", 11),
        ),
        default=(3, 8, 9, 10),
        unknown=(0, 1),
    ),
    "qa": QualityRule(
        "bits",
        (("dilated", 1), ("cirrus", 2), ("cloud", 3), ("shadow", 4), ("snow", 5), ("water", 7)),
        default=(1, 2, 3, 4),
        unknown=(0,),
    ),
    "fmask": QualityRule(
        "bits",
        (("cirrus", 0), ("cloud", 1), ("adjacent", 2), ("shadow", 3), ("snow", 4), ("water", 5)),
        default=(1, 2, 3),
        fill=255,
    ),
    "udm2": QualityRule(
        "bands",
        (("snow", 2), ("shadow", 3), ("light haze", 4), ("heavy haze", 5), ("cloud", 6), ("unusable", 8)),
        default=(1,),
        unknown=(1,),
    ),
}
"""By kind of quality layer."""


def _whole(layer: QualityLayer) -> bytes:
    facts = probe_signed(layer.path, layer.signer)
    size = 0 if facts is None else facts.size
    if not 0 < size <= MOST_BYTES:
        raise SceneError(f"{shown(layer.path)}: {size:,} bytes; a quality layer on a server has {MOST_BYTES:,} at most")
    client = RangeClient(signed(layer.path, layer.signer))
    try:
        return bytes(client.get(0, size).data)
    finally:
        client.close()


def _opened(layer: QualityLayer) -> rasterio.DatasetReader:
    if is_remote(layer.path) and layer.driver != "GTiff":
        # A JPEG 2000 that came in parts could be taken for a whole one; those of products have few bytes.
        return open_sought(partial(io.BytesIO, _whole(layer)), layer.path, layer.driver)
    if in_archive(layer.path) or layer.driver != "GTiff":
        return open_dataset(layer.path, layer.driver)
    return open_signed(layer.path, layer.signer, (layer.driver,))


class HiddenQuality:
    """A quality layer that is a cloud mask.

    Args:
        source: The layer, and what of it hides the ground.
        place: Of the scene.
        shape: Rows and cols of the scene.

    Raises:
        SceneError: It can't be opened, or laid over the scene.
        ConfigError: It knows no such class.
    """

    def __init__(self, source: CloudLayer, place: Georeference, shape: tuple[int, int]) -> None:
        layer = source.layer
        self._rule = QUALITY[layer.kind]
        self._numbers = self._rule.numbers(source.classes)
        self._bands = self._rule.bands(self._numbers, layer.band)
        self._raster = AlignedRaster(layer.path, partial(_opened, layer), place, shape)

    def read(self, window: Window) -> Bools:
        """(h, w), True where the ground is hidden, or not known to be clear.

        Raises:
            ReadError: A block can't be read.
        """
        values, outside = self._raster.read(self._bands, window)
        hidden = self._rule.hides(values, self._numbers)
        return hidden if outside is None else hidden | outside
