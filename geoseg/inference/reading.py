"""Readers of scenes, of one date or of several, which know what hides the ground: files, layers, networks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np

from geoseg.arrays import Bools
from geoseg.clouds.growing import Grown
from geoseg.clouds.hidden import Hidden
from geoseg.clouds.opening import open_source
from geoseg.dates.date_masks import masks_of
from geoseg.dates.stack import PixelReader, StackReader
from geoseg.georeference import Georeference
from geoseg.scenes.clouds import CloudFile, CloudLayer
from geoseg.scenes.inset import FileReader, reader_of_files
from geoseg.scenes.reader import Pixels, ReadStats
from geoseg.scenes.scene import Scene
from geoseg.windows import Window

__all__ = ["clouds_of", "hidden_of", "is_wholly_hidden", "open_reader"]

BLOCK_PX = 1024


def open_reader(scene: Scene, bands: Sequence[int], **options: Any) -> PixelReader:
    """The reader of a scene of one date or of several; arguments are those of ``SceneReader``.

    Raises:
        SceneError: What hides the ground can't be opened, or laid over the scene.
        ModelError: Of a model that maps clouds.
    """
    if scene.dates:
        return StackReader(scene, bands, hidden=hidden_of(scene), **options)
    reader = reader_of_files(scene, bands, **options)
    clouds = clouds_of(scene)
    return reader if clouds is None else _Clouded(reader, clouds)


def hidden_of(scene: Scene) -> list[Hidden | None]:
    """What hides the ground, by date of a stack: the mask that was given for it, and its clouds."""
    masks = masks_of(scene) or [None] * len(scene.dates)
    return [_either(mask, clouds_of(date)) for mask, date in zip(masks, scene.dates, strict=True)]


def clouds_of(scene: Scene) -> Hidden | None:
    """What hides the ground of a scene of one date; None where nothing was asked for."""
    if scene.clouds is None:
        return None
    shape, source = (scene.height, scene.width), scene.clouds.source
    if isinstance(source, CloudFile | CloudLayer):
        # A quality layer lies as its scene does, which may have been moved onto another date.
        moved = scene.view is not None and isinstance(source, CloudLayer)
        place = Georeference(scene.view.transform, scene.georeference.crs) if scene.view and moved else scene.georeference
        found = open_source(source, place, shape)
    else:
        from geoseg.inference.cloud_models import open_model

        found = open_model(replace(scene, clouds=None), source)
    return found if scene.clouds.buffer == (0.0, 0.0) else Grown(found, shape, scene.clouds.buffer)


def is_wholly_hidden(scene: Scene, bands: Sequence[int]) -> bool:
    """Whether something hides all of a scene that holds data; reads it as far as it is hidden.

    Args:
        scene: The scene.
        bands: Indices of the bands that say where it holds data; of each date in turn.

    Raises:
        ReadError: A block can't be read.
    """
    if not scene.every_clouds:
        return False
    some = False
    with open_reader(scene, bands, threads=2, cache_bytes=32 << 20) as reader:
        for window in Window.of((scene.height, scene.width)).parts(BLOCK_PX):
            pixels = reader.read(window)
            if pixels.shown.any():
                return False
            some = some or (pixels.hidden is not None and bool(pixels.hidden.any()))
    return some


def _either(one: Hidden | None, other: Hidden | None) -> Hidden | None:
    return one or other if one is None or other is None else _Both(one, other)


class _Both:
    """What one of two masks hides."""

    def __init__(self, one: Hidden, other: Hidden) -> None:
        self._one, self._other = one, other

    def read(self, window: Window) -> Bools:
        return self._one.read(window) | self._other.read(window)


class _Clouded:
    """A reader that says where the ground is hidden; the pixels stay as they are, so that a network sees them."""

    def __init__(self, reader: FileReader, clouds: Hidden) -> None:
        self._reader, self._clouds = reader, clouds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def stats(self) -> ReadStats:
        """Counts of the scene's own files."""
        return self._reader.stats

    def close(self) -> None:
        """Stop the threads and close the files."""
        self._reader.close()

    def expect(self, windows: Iterable[Window]) -> None:
        """Say which windows will be read, once each."""
        self._reader.expect(windows)

    def is_empty(self, window: Window) -> bool:
        """Whether no block in the window was ever written, as far as that is known without decoding."""
        return self._reader.is_empty(window)

    def read(self, window: Window) -> Pixels:
        """Read a window.

        Raises:
            ReadError: A block can't be read.
        """
        pixels = self._reader.read(window)
        hidden = np.zeros(window.shape, np.bool_) if not pixels.valid.any() else self._clouds.read(window) & pixels.valid
        return replace(pixels, hidden=hidden)
