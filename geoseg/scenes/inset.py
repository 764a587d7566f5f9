"""Scenes that begin before their files do: rows above and columns left of the first pixel, without data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np

from geoseg.scenes.reader import Pixels, ReadStats, SceneReader
from geoseg.scenes.scene import Scene
from geoseg.windows import Window

__all__ = ["FileReader", "InsetReader", "reader_of_files", "with_margin"]


def with_margin(scene: Scene, rows: int, cols: int) -> Scene:
    """The scene with so many rows above and columns to the left, which hold no data."""
    a, b, c, d, e, f = scene.georeference.transform
    transform = (a, b, c - a * cols - b * rows, d, e, f - d * cols - e * rows)
    return replace(
        scene,
        height=scene.height + rows,
        width=scene.width + cols,
        margin=(scene.margin[0] + rows, scene.margin[1] + cols),
        georeference=replace(scene.georeference, transform=transform),
    )


class InsetReader:
    """Reads windows of a scene that has a margin; may be used by several threads. Arguments are those of ``SceneReader``."""

    def __init__(self, scene: Scene, bands: Sequence[int], **options: Any) -> None:
        rows, cols = scene.margin
        self._files = Window.between(rows, scene.height, cols, scene.width)
        inner = replace(scene, height=self._files.height, width=self._files.width, margin=(0, 0))
        self._reader = SceneReader(inner, bands, **options)

    @property
    def stats(self) -> ReadStats:
        """Counts of what was read."""
        return self._reader.stats

    def __enter__(self) -> Self:
        """Open until the block ends."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Stop the threads and close the files."""
        self._reader.close()

    def expect(self, windows: Iterable[Window]) -> None:
        """Say which windows will be read, once each."""
        self._reader.expect(inner for window in windows if (inner := self._inner(window)) is not None)

    def is_empty(self, window: Window) -> bool:
        """Whether no block in the window was ever written, as far as that is known without decoding."""
        inner = self._inner(window)
        return inner is None or self._reader.is_empty(inner)

    def read(self, window: Window) -> Pixels:
        """Read a window that lies within the scene.

        Raises:
            ReadError: A block can't be read.
        """
        inner = self._inner(window)
        if inner is None:
            nothing = np.zeros((len(self._reader.bands), *window.shape), self._reader.dtype)
            return Pixels(nothing, np.zeros(window.shape, np.bool_), None)
        pixels = self._reader.read(inner)
        top, left = window.height - inner.height, window.width - inner.width
        if not top and not left:
            return pixels
        bad = None if pixels.bad is None else np.pad(pixels.bad, ((top, 0), (left, 0)))
        return Pixels(np.pad(pixels.data, ((0, 0), (top, 0), (left, 0))), np.pad(pixels.valid, ((top, 0), (left, 0))), bad)

    def _inner(self, window: Window) -> Window | None:
        """The part of a window that the files hold, in their pixels."""
        common = window & self._files
        if common is None:
            return None
        return Window.at((common.row_off - self._files.row_off, common.col_off - self._files.col_off), common.shape)


FileReader = SceneReader | InsetReader


def reader_of_files(scene: Scene, bands: Sequence[int], **options: Any) -> FileReader:
    """The reader of a scene of one date, whatever hides its ground; arguments are those of ``SceneReader``."""
    return SceneReader(scene, bands, **options) if scene.margin == (0, 0) else InsetReader(scene, bands, **options)
