"""Images of composites chunk by chunk: what is read of each scene, what becomes of it, and where it waits for its file."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import I64, U16, U32, Bools
from geoseg.dates.composites import best_observation, mean_of, median_of, picked, stored
from geoseg.dates.stack import PixelReader
from geoseg.inference.reading import open_reader
from geoseg.vectors.area_of_interest import AreaOfInterest
from geoseg.windows import Window
from pipeline.composite.observing import Observation, Values
from pipeline.config.compositing import CompositeConfig
from pipeline.files.atomic import atomic_path

__all__ = ["CHUNK", "ChunkSpool", "Imager", "Reading", "cells_of", "chunks_of"]

CHUNK = 1024
"""Rows and columns of the unit of work and of resume."""
OPEN = 64
"""Scenes of an image that stay open; further ones are opened for each window."""
MOST_COUNT = 2**16 - 1


@dataclass(frozen=True, slots=True)
class Reading:
    """How scenes are read; none of it changes the result."""

    side: int
    """Rows and columns that are read at once of all scenes."""
    cache_bytes: int
    """Decoded blocks that are kept of each open scene."""
    mask_bad_blocks: bool
    """Whether what can't be read is taken for no data."""


@dataclass(frozen=True, slots=True, eq=False)
class Composed:
    """A window of an image."""

    pixels: NDArray[np.generic]
    """(bands, h, w)."""
    count: U16
    """(h, w) clear observations."""
    days: U32
    """(h, w) date of the observation as YYYYMMDD, 0 where there is none or it is of several."""
    moved: int
    """Pixels that would have been taken for no data."""


class ChunkSpool:
    """Finished chunks in a folder, each whole or not at all.

    Args:
        folder: The folder.
        chunks: All that there are to be; elsewhere there is no data.
    """

    def __init__(self, folder: Path, chunks: Sequence[Window]) -> None:
        self._folder, self.chunks, self._known = folder, tuple(chunks), {(c.row_off, c.col_off): c for c in chunks}
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, chunk: Window, found: Composed) -> None:
        """Keep a chunk; its pixels come last, so that where these are, all is."""
        for kind, array in (
            ("count", found.count),
            ("days", found.days),
            ("moved", np.array(found.moved)),
            ("pixels", found.pixels),
        ):
            with atomic_path(self._path(chunk, kind)) as part, part.open("wb") as file:
                np.save(file, array)

    def has(self, chunk: Window) -> bool:
        """Whether it is finished."""
        return self._path(chunk, "pixels").is_file()

    def moved(self, chunk: Window) -> int:
        """Pixels of it that were moved."""
        return int(np.load(self._path(chunk, "moved")))

    def read(self, kind: str, band: int | None, fill: NDArray[np.generic], window: Window) -> NDArray[np.generic]:
        """(h, w) of a window; of one band, where there are several.

        Args:
            kind: ``pixels``, ``count`` or ``days``.
            band: Which.
            fill: What stands where there is no chunk, of the type of the pixels.
            window: The window.
        """
        out = np.full(window.shape, fill, fill.dtype)
        for chunk in self.touched(window):
            common = chunk & window
            assert common is not None
            array = np.load(self._path(chunk, kind), mmap_mode="r")
            part = array if band is None else array[band]
            out[common.slices_in(window)] = part[common.slices_in(chunk)]
        return out

    def touched(self, window: Window) -> list[Window]:
        """Its chunks that a window touches."""
        rows, cols = window.cells((CHUNK, CHUNK))
        places = ((row * CHUNK, col * CHUNK) for row in rows for col in cols)
        return [self._known[place] for place in places if place in self._known]

    def _path(self, chunk: Window, kind: str) -> Path:
        return self._folder / f"{chunk.row_off}_{chunk.col_off}.{kind}.npy"


def chunks_of(observations: Sequence[Observation], origin: Window, area: AreaOfInterest | None) -> list[Window]:
    """The chunks of an image over which a scene lies, in the order of reading; those of the area of interest."""
    places = {place for one in observations for place in cells_of(one, origin)}
    whole = Window.of(origin.shape)
    found = [Window.cell(place, (CHUNK, CHUNK)) & whole for place in sorted(places)]
    return [chunk for chunk in found if chunk is not None and (area is None or area.touches(chunk))]


def cells_of(one: Observation, origin: Window) -> list[tuple[int, int]]:
    """Row and column of the chunks that a scene lies over."""
    common = one.image & origin
    if common is None:
        return []
    own = Window.at((common.row_off - origin.row_off, common.col_off - origin.col_off), common.shape)
    rows, cols = own.cells((CHUNK, CHUNK))
    return [(row, col) for row in rows for col in cols]


class Imager:
    """Makes the image of one period window by window; may be used by several threads."""

    def __init__(
        self,
        observations: Sequence[Observation],
        origin: Window,
        values: Values,
        config: CompositeConfig,
        area: AreaOfInterest | None,
        reading: Reading,
    ) -> None:
        """Open nothing yet.

        Args:
            observations: Scenes of the period, the latest first.
            origin: What the image fills of their lattice.
            values: What its numbers are.
            config: How they are made.
            area: Outside of it there is no data.
            reading: How scenes are read.
        """
        self._observations, self._origin, self._values, self._config = observations, origin, values, config
        self._area, self._reading = area, reading
        self._open: dict[int, PixelReader] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close all scenes."""
        for reader in self._open.values():
            reader.close()
        self._open.clear()

    def chunk(self, chunk: Window) -> Composed:
        """A chunk of the image.

        Raises:
            ReadError: A block of a scene can't be read.
        """
        bands = len(self._values.names)
        pixels = np.full((bands, *chunk.shape), self._values.nodata, self._values.dtype)
        count, days, moved = np.zeros(chunk.shape, np.uint16), np.zeros(chunk.shape, np.uint32), 0
        for part in chunk.parts(self._reading.side):
            if self._area is not None and not self._area.touches(part):
                continue
            found = self._composed(part)
            if found is not None:
                at = part.slices_in(chunk)
                pixels[(slice(None), *at)], count[at], days[at] = found.pixels, found.count, found.days
                moved += found.moved
        return Composed(pixels, count, days, moved)

    def _composed(self, window: Window) -> Composed | None:
        """A window of the image; None where there is no scene."""
        row, col = self._origin.row_off, self._origin.col_off
        place = Window.at((window.row_off + row, window.col_off + col), window.shape)
        near = [i for i, one in enumerate(self._observations) if one.image & place]
        if not near:
            return None
        stack, clear = self._stacked(near, place)
        if self._area is not None:
            clear &= self._area.mask(window)
        counted = clear.sum(axis=0)
        known = counted >= self._config.least
        index: I64 | None = None
        found: NDArray[np.generic]
        if self._config.method == "best":
            index = best_observation(stack, clear, self._config.best)
            found = picked(stack, index)
        else:
            found = (median_of if self._config.method == "median" else mean_of)(stack, clear)
        pixels, moved = stored(found, known, self._values.dtype, self._values.nodata)
        return Composed(pixels, np.minimum(counted, MOST_COUNT).astype(np.uint16), self._days(near, index, known), moved)

    def _days(self, near: Sequence[int], index: I64 | None, known: Bools) -> U32:
        """(h, w) date of the observation that each pixel is of, where it is of one."""
        days = np.array([self._observations[i].day for i in near], np.uint32)
        return np.zeros(known.shape, np.uint32) if index is None else np.where(known, days[np.maximum(index, 0)], np.uint32(0))

    def _stacked(self, near: Sequence[int], place: Window) -> tuple[NDArray[np.generic], Bools]:
        """(n, bands, h, w) pixels of scenes in a window of the lattice, and (n, h, w) where they show the ground."""
        stack = clear = None
        for number, i in enumerate(near):
            one = self._observations[i]
            common = one.image & place
            assert common is not None
            own = Window.at((common.row_off - one.image.row_off, common.col_off - one.image.col_off), common.shape)
            with ExitStack() as held:
                pixels = self._reader(i, held).read(own)
            data = self._physical(one, pixels.data) if self._values.physical else pixels.data
            if stack is None or clear is None:
                stack = np.zeros((len(near), len(data), *place.shape), self._stack_type())
                clear = np.zeros((len(near), *place.shape), np.bool_)
            at = common.slices_in(place)
            stack[(number, slice(None), *at)] = np.where(pixels.shown, data, 0)
            clear[(number, *at)] = pixels.shown
        assert stack is not None
        assert clear is not None
        return stack, clear

    def _stack_type(self) -> np.dtype[np.generic]:
        """A type that holds the pixels of all scenes."""
        if self._values.physical:
            return np.dtype(np.float64)
        return np.result_type(*{one.scene.bands[i].dtype for one in self._observations for i in one.bands})

    def _physical(self, one: Observation, data: NDArray[np.generic]) -> NDArray[np.generic]:
        scale, offset = np.array([(one.scene.bands[i].scale, one.scene.bands[i].offset) for i in one.bands]).T[:, :, None, None]
        return np.asarray(data * scale + offset)

    def _reader(self, index: int, held: ExitStack) -> PixelReader:
        """The reader of a scene: one that stays open, or one for this window."""
        with self._lock:
            if index in self._open:
                return self._open[index]
            one = self._observations[index]
            reader = open_reader(
                one.scene,
                one.bands,
                threads=1,
                cache_bytes=self._reading.cache_bytes,
                mask_bad_blocks=self._reading.mask_bad_blocks,
                keep_blocks=True,
            )
            if len(self._open) < OPEN:
                self._open[index] = reader
            else:
                held.callback(reader.close)
            return reader
