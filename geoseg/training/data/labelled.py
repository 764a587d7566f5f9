"""Labelled scenes and labelled images, read by window while training: no chip files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.codes import UNLABELLED
from geoseg.dates.stack import PixelReader
from geoseg.errors import BandError, GeoreferenceError
from geoseg.georeference import Georeference
from geoseg.inference.reading import open_reader
from geoseg.labels.images import read_image
from geoseg.labels.labels import Labels, without_borders
from geoseg.labels.number_rasters import numbers_on
from geoseg.scenes.bands.choosing import choose_bands
from geoseg.scenes.bands.value_map import ValueMap, value_map
from geoseg.scenes.scene import Scene
from geoseg.training.data.chips import Chip
from geoseg.windows import Window

__all__ = ["LabelledImage", "LabelledScene", "Values"]


@dataclass(frozen=True, slots=True)
class Values:
    """Values that the network takes; as in a model's card."""

    bands: tuple[str, ...]
    """Names of the bands, in order."""
    data_type: str
    """Data type of the images."""
    value_range: tuple[float, float] | None = None
    """Smallest and largest value."""
    physical: bool = False
    """Whether scale and offset of the files are applied."""


def padded(chip: Chip, inside: Window, window: Window) -> Chip:
    """A chip of a part of a window, surrounded by pixels that are neither valid nor labelled."""
    if inside == window:
        return chip
    rows, cols = inside.slices_in(window)
    before_after = (rows.start, window.height - rows.stop), (cols.start, window.width - cols.stop)

    def pad(values: NDArray[Any], fill: float) -> NDArray[Any]:
        return np.pad(values, [(0, 0)] * (values.ndim - 2) + list(before_after), constant_values=fill)

    return Chip(
        pad(chip.image, 0),
        pad(chip.valid, False),  # noqa: FBT003 - what fills the border
        pad(chip.labels, UNLABELLED),
        pad(chip.objects, 0) if chip.objects is not None else None,
        pad(chip.rasters, np.nan) if chip.rasters is not None else None,
    )


def outside(bands: int, rasters: int, shape: tuple[int, int], *, objects: bool) -> Chip:
    """A chip that lies wholly past a scene."""
    return Chip(
        np.zeros((bands, *shape), np.float32),
        np.zeros(shape, np.bool_),
        np.full(shape, UNLABELLED, np.uint8),
        np.zeros(shape, np.int32) if objects else None,
        np.full((rasters, *shape), np.nan, np.float32) if rasters else None,
    )


class LabelledScene:
    """A scene of the main job with its labels; the network sees in training exactly the values that it sees in use. Picklable.

    Args:
        scene: The scene.
        labels: Its labels; None for a scene without.
        values: What the network is to take.
        chosen: Bands that the user named; None to choose by name.
        rescale: Pixel values that are mapped to the ends of the range.
        border: Pixels to each side of a border between classes or objects that are not labelled.
        rasters: Files to regress.
        cache_bytes: For decoded blocks; chips of a scene that fits are read from memory.

    Raises:
        BandError, DtypeError: The scene's bands or values are not what the network is to take.
    """

    def __init__(
        self,
        scene: Scene,
        labels: Labels | None,
        values: Values,
        *,
        chosen: Sequence[str] | None = None,
        rescale: tuple[float, float] | None = None,
        border: int = 0,
        rasters: Sequence[str] = (),
        cache_bytes: int = 256 << 20,
    ) -> None:
        self.name = scene.name
        self.height, self.width = scene.height, scene.width
        self.georeference: Georeference | None = scene.georeference if scene.georeference.crs is not None else None
        self.scene, self._labels, self._border = scene, labels, border
        self._bands, self.notes = choose_bands(scene, values.bands, chosen)
        picked = [scene.bands[i] for i in self._bands]
        self._map: ValueMap = value_map(
            scene,
            picked,
            dtype=values.data_type,
            value_range=values.value_range,
            physical=values.physical,
            rescale=None if rescale is None else [rescale] * len(picked),
        )
        self._rasters = tuple(rasters)
        self._cache_bytes = cache_bytes
        self._reader: tuple[int, PixelReader] | None = None

    @property
    def labels(self) -> Labels | None:
        """Its labels; None for a scene without."""
        return self._labels

    def __getstate__(self) -> dict[str, object]:
        """State without open files, so that it pickles."""
        return {**self.__dict__, "_reader": None}

    def _open(self) -> PixelReader:
        # Threads and GDAL's handles do not survive a fork.
        if self._reader is None or self._reader[0] != os.getpid():
            reader = open_reader(self.scene, self._bands, threads=1, cache_bytes=self._cache_bytes, keep_blocks=True)
            self._reader = os.getpid(), reader
        return self._reader[1]

    def read(self, window: Window) -> Chip:
        """The chip of a window."""
        inside = window & Window.of((self.height, self.width))
        if inside is None:
            return outside(len(self._bands), len(self._rasters), window.shape, objects=self._labels is not None)
        pixels = self._open().read(inside)
        scale, shift = (np.asarray(v, np.float32).reshape(-1, 1, 1) for v in (self._map.scale, self._map.offset))
        image = np.clip(pixels.data.astype(np.float32) * scale + shift, self._map.low, self._map.high)
        image[:, ~pixels.valid] = 0
        labels, objects = self._labelled(inside)
        labels[~pixels.valid] = UNLABELLED
        shape, place = (self.height, self.width), self.scene.georeference
        found = [numbers_on(path, place, shape, inside).astype(np.float32) for path in self._rasters]
        rasters = np.stack(found) if found else None
        return padded(Chip(image, pixels.valid, labels, objects, rasters), inside, window)

    def _labelled(self, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.int32] | None]:
        if self._labels is None:
            return np.full(window.shape, UNLABELLED, np.uint8), None
        if not self._border:
            return self._labels.read(window)
        # Read with a margin: a window's labels are those of the whole scene.
        n = self._border
        wide = window.grown(n)
        wide_inside = wide & Window.of((self.height, self.width))
        assert wide_inside is not None
        codes, objects = self._labels.read(wide_inside)
        here = window.slices_in(wide_inside)
        return without_borders(codes, objects, n)[here].copy(), objects[here].copy() if objects is not None else None


class LabelledImage:
    """An image without a place on Earth, and its labels, both kept in memory. Picklable.

    Args:
        path: PNG, JPEG or TIFF.
        labels: (h, w) uint8 class codes or UNLABELLED; None for an image without labels.
        values: What the network is to take.
        name: Unique among the sources.
        objects: (h, w) int32 numbers of objects.
        border: Pixels to each side of a border between classes or objects that are not labelled.
        chosen: Numbers of the bands, from 1; None for all in order.
        later: The images of later dates, whose bands follow.

    Raises:
        BandError: The image has other bands.
        GeoreferenceError: The labels have another size.
    """

    georeference: Georeference | None = None

    def __init__(
        self,
        path: str,
        labels: NDArray[np.uint8] | None,
        values: Values,
        name: str | None = None,
        objects: NDArray[np.int32] | None = None,
        chosen: Sequence[str] | None = None,
        border: int = 0,
        later: Sequence[str] = (),
    ) -> None:
        self.name, self.path, self.later = name or Path(path).stem, path, tuple(later)
        parts = [read_image(one) for one in (path, *later)]
        if len({part.shape for part in parts}) > 1:
            sizes = ", ".join(" x ".join(map(str, part.shape)) for part in parts)
            raise GeoreferenceError(f"{path}: its dates have other sizes or bands: {sizes}")
        pixels = np.concatenate(parts)
        if chosen is not None:
            pixels = pixels[[int(number) - 1 for number in chosen]]
        if len(pixels) == 4 and len(values.bands) == 3:
            raise BandError(f"{path}: 4 bands, of which the last may be alpha; choose three with bands")
        if len(pixels) != len(values.bands):
            raise BandError(f"{path}: {len(pixels)} bands, but the network takes {len(values.bands)} ({', '.join(values.bands)})")
        if pixels.dtype != np.dtype(values.data_type):
            raise BandError(f"{path}: {pixels.dtype} pixels, but the network takes {values.data_type}")
        self.height, self.width = pixels.shape[1:]
        if labels is not None and labels.shape != pixels.shape[1:]:
            raise GeoreferenceError(
                f"{path}: labels of {labels.shape[0]} x {labels.shape[1]} pixels for an image of {self.height} x {self.width}"
            )
        self._pixels = pixels
        codes = labels if labels is not None else np.full(pixels.shape[1:], UNLABELLED, np.uint8)
        self._codes = without_borders(codes, objects, border) if border else codes
        self._objects = objects

    def read(self, window: Window) -> Chip:
        """The chip of a window."""
        inside = window & Window.of((self.height, self.width))
        if inside is None:
            return outside(len(self._pixels), 0, window.shape, objects=self._objects is not None)
        rows, cols = inside.slices
        objects = self._objects[rows, cols] if self._objects is not None else None
        chip = Chip(
            self._pixels[:, rows, cols].astype(np.float32),
            np.ones(inside.shape, np.bool_),
            self._codes[rows, cols].copy(),
            objects,
        )
        return padded(chip, inside, window)
