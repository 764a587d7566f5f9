"""Several dates of one place as one scene: on one grid, read window by window.

The first date gives the grid; the others are warped to it while they are read, never before. A pixel of the stack holds
data where enough dates do; where fewer do, or something hides the ground, it is not analysed, and where none does there is
no data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol, Self

import numpy as np

from geoseg.arrays import Bools
from geoseg.dates.clouds import Hidden, hidden_of
from geoseg.dates.overlap import SAME_PLACE_PX, farthest, outline_in, share_ground
from geoseg.dialect import setting
from geoseg.errors import GeoreferenceError
from geoseg.scenes.fingerprint import fingerprint
from geoseg.scenes.inset import InsetReader
from geoseg.scenes.reader import Pixels, ReadStats, SceneReader
from geoseg.scenes.scene import Scene, View
from geoseg.windows import Window

__all__ = ["Hidden", "PixelReader", "StackReader", "align", "at_date", "hidden_of", "moved", "open_reader", "stacked"]

COARSER = 1.5
"""Pixels that are so many times finer than the grid's are averaged."""


class PixelReader(Protocol):
    """Reads windows of a scene, of one date or of several."""

    @property
    def stats(self) -> ReadStats:
        """Counts of what was read."""
        ...

    def __enter__(self) -> Self:
        """Itself."""
        ...

    def __exit__(self, *exc: object) -> None:
        """Close it."""
        ...

    def close(self) -> None:
        """Stop the threads and close the files."""
        ...

    def expect(self, windows: Iterable[Window]) -> None:
        """Say which windows will be read, once each."""
        ...

    def is_empty(self, window: Window) -> bool:
        """Whether no block in the window was ever written, as far as that is known without decoding."""
        ...

    def read(self, window: Window) -> Pixels:
        """Read a window that lies within the scene."""
        ...


def at_date(name: str, date: int) -> str:
    """The name of a band of one of several dates: ``red@2`` is the red of the second."""
    return f"{name}@{date + 1}"


def align(dates: Sequence[Scene]) -> tuple[Scene, ...]:
    """Bring scenes to the grid of the first one.

    Raises:
        GeoreferenceError: They can't be brought there, or do not overlap.
    """
    first = dates[0]
    return (first, *(_onto(first, scene) for scene in dates[1:]))


def _onto(first: Scene, scene: Scene) -> Scene:
    here, there = first.georeference, scene.georeference
    shape, its_shape = (first.height, first.width), (scene.height, scene.width)
    if here.crs is None or there.crs is None:
        if here.crs is None and there.crs is None and shape == its_shape and farthest(here, there, shape) < SAME_PLACE_PX:
            return replace(scene, georeference=here)
        lacking = first if here.crs is None else scene
        raise GeoreferenceError(
            f"{lacking.path}: no CRS, so it can't be laid over the other date; pass "
            f"{setting('assume_crs', 'EPSG:xxxx')} if you know it"
        )
    if not share_ground(here, shape, there, its_shape):
        rows, cols = outline_in(here, there, its_shape).T
        raise GeoreferenceError(
            f"{scene.path}: does not overlap {first.path}: in its grid it lies at rows {rows.min():.0f} to {rows.max():.0f}, "
            f"cols {cols.min():.0f} to {cols.max():.0f} of {first.height} x {first.width}; two dates of one place are needed"
        )
    if shape == its_shape and farthest(here, there, shape) < SAME_PLACE_PX:
        return replace(scene, georeference=here)
    size = [s.pixel_size for s in (first, scene)]
    assert size[0] is not None
    assert size[1] is not None
    resampling = "average" if size[0] > COARSER * size[1] else "bilinear"
    own = scene.view.source_crs if scene.view is not None else there.crs
    view = View(
        crs=str(here.crs),
        transform=here.transform,
        height=first.height,
        width=first.width,
        resampling=resampling,
        source_crs=own,
    )
    return replace(scene, view=view, georeference=here, height=first.height, width=first.width)


def moved(scene: Scene, rows: float, cols: float) -> Scene:
    """A scene of a stack whose pixels are read some rows and cols further, which moves what it shows up and left."""
    view = scene.view or View(
        crs=scene.georeference.crs or "",
        transform=scene.georeference.transform,
        height=scene.height,
        width=scene.width,
        resampling="bilinear",
        source_crs=scene.georeference.crs,
    )
    a, b, c, d, e, f = view.transform
    return replace(scene, view=replace(view, transform=(a, b, c + a * cols + b * rows, d, e, f + d * cols + e * rows)))


def stacked(dates: Sequence[Scene], *, least: int, flags: bool, masks: Sequence[str | None] = ()) -> Scene:
    """Scenes on one grid as one; its bands are those of all dates in order, named ``red@1``.

    Args:
        dates: The scenes, each on the grid of the first.
        least: How many dates must hold data where anything is analysed.
        flags: Whether a band for each date follows all others in what is read: 1 where that date holds data.
        masks: By date, the file of what hides the ground.
    """
    first, bands, offset = dates[0], [], 0
    for number, scene in enumerate(dates):
        for band in scene.bands:
            name = None if band.name is None else at_date(band.name, number)
            role = None if band.role is None else at_date(band.role, number)
            bands.append(replace(band, file=band.file + offset, name=name, role=role, color=at_date(band.color, number)))
        offset += len(scene.files)
    known = [scene.modified for scene in dates if scene.modified is not None]
    paths = [file.path for scene in dates for file in scene.files] + [path for path in masks if path is not None]
    return replace(
        first,
        files=tuple(file for scene in dates for file in scene.files),
        bands=tuple(bands),
        dates=tuple(dates),
        least_dates=least,
        date_flags=flags,
        masks=tuple(masks) or (None,) * len(dates),
        acquired=dates[-1].acquired,
        modified=max(known) if known else None,
        fingerprint=fingerprint(paths),
        view=None,
        warnings=tuple(dict.fromkeys(f"{scene.path}: {note}" for scene in dates for note in scene.warnings)),
    )


class StackReader:
    """Reads windows of a stack; may be used by several threads. Takes what ``SceneReader`` takes."""

    def __init__(self, scene: Scene, bands: Sequence[int], *, hidden: Sequence[Hidden | None] = (), **options: Any) -> None:
        self.scene = scene
        self._readers, self._places = [], []
        first = 0
        threads = max(1, int(options.pop("threads", 2)) // len(scene.dates))
        cache = int(options.pop("cache_bytes", 256 << 20)) // len(scene.dates)
        for one in scene.dates:
            chosen = [(place, i - first) for place, i in enumerate(bands) if first <= i < first + len(one.bands)]
            self._places.append([place for place, _ in chosen])
            self._readers.append(SceneReader(one, [i for _, i in chosen], threads=threads, cache_bytes=cache, **options))
            first += len(one.bands)
        self.bands = len(bands)
        self._hidden = list(hidden) or [None] * len(scene.dates)

    def __enter__(self) -> Self:
        """Open until the block ends."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close."""
        self.close()

    @property
    def stats(self) -> ReadStats:
        """Counts of all dates together."""
        every = [reader.stats for reader in self._readers]
        return ReadStats(
            sum(s.decoded_pixels for s in every),
            sum(s.asked_pixels for s in every),
            sum(s.seconds for s in every),
            sum(s.bad_blocks for s in every),
        )

    def close(self) -> None:
        """Stop the threads and close the files."""
        for reader in self._readers:
            reader.close()

    def expect(self, windows: Iterable[Window]) -> None:
        """Say which windows will be read, once each."""
        listed = list(windows)
        for reader in self._readers:
            reader.expect(listed)

    def is_empty(self, window: Window) -> bool:
        """Whether no date has a block there, as far as that is known without decoding."""
        return all(reader.is_empty(window) for reader in self._readers)

    def by_date(self, window: Window) -> tuple[list[Pixels], Bools]:
        """Pixels of each date, and (dates, h, w) where they show the ground."""
        every = [reader.read(window) for reader in self._readers]
        clear = np.stack([pixels.valid for pixels in every])
        for number, hidden in enumerate(self._hidden):
            if hidden is not None:
                clear[number] &= ~hidden.read(window)
        return every, clear

    def read(self, window: Window) -> Pixels:
        """Read a window; ``bad`` is where some dates hold data, but too few show the ground.

        Raises:
            ReadError: A block can't be read.
        """
        count = self.bands + (len(self._readers) if self.scene.date_flags else 0)
        dtype = np.result_type(*(reader.dtype for reader in self._readers))
        data = np.zeros((count, *window.shape), dtype)
        shown, some, bad = np.zeros(window.shape, np.uint8), np.zeros(window.shape, np.bool_), np.zeros(window.shape, np.bool_)
        # Date by date, so that no more than one of them is there twice.
        for number, (reader, places, hidden) in enumerate(zip(self._readers, self._places, self._hidden, strict=True)):
            pixels = reader.read(window)
            data[places] = pixels.data
            some |= pixels.valid
            if pixels.bad is not None:
                bad |= pixels.bad
            clear = pixels.valid if hidden is None else pixels.valid & ~hidden.read(window)
            del pixels
            shown += clear
            if self.scene.date_flags:
                data[self.bands + number] = clear
        valid = shown >= self.scene.least_dates
        bad |= some
        bad &= ~valid
        return Pixels(data, valid, bad if bad.any() else None)


def open_reader(scene: Scene, bands: Sequence[int], **options: Any) -> PixelReader:
    """The reader of a scene of one date or of several; arguments are those of ``SceneReader``."""
    if scene.margin != (0, 0):
        return InsetReader(scene, bands, **options)
    if not scene.dates:
        return SceneReader(scene, bands, **options)
    return StackReader(scene, bands, hidden=hidden_of(scene), **options)
