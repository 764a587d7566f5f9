"""Rules of a forest's definition, and of changes: they are applied to a map of changes before anything is made of it.

A definition says what a forest is: of at least so large an area and so wide. Patches that are not are no forest, so that
their loss is none. Then changes below the minimum mapping unit give way to what lies around them. All of it is exact
across blocks, and leaves files of those blocks that it changed.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geoseg.codes import MAX_CLASS
from geoseg.dates.series import ABSENT, PRESENT
from geoseg.errors import ConfigError, Interrupted
from geoseg.parallel import block_runner
from geoseg.polygons.block_grid import BlockGrid
from geoseg.polygons.class_raster import FINE_BLOCK, ClassRaster
from geoseg.polygons.open_regions import Run
from geoseg.polygons.sieve import drop_small, sieve_raster
from geoseg.windows import Window

if TYPE_CHECKING:
    from pipeline.config.sections import Config
    from pipeline.plan.plan import Plan

__all__ = ["Recoded", "Rules", "apply_rules", "recoded"]

Bytes = NDArray[np.uint8]
OUT = MAX_CLASS
"""In passing, what is not forest by definition."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Least sizes of patches and changes in a map of changes."""

    least_area_m2: float
    """Least area of a patch of the class; 0 for any."""
    least_width_m: float
    """Least width of it; 0 for any."""
    least_change_m2: float
    """Least area of what is mapped: the minimum mapping unit; 0 for any."""
    lost: tuple[int, ...]
    """Codes of losses."""
    gained: tuple[int, ...]
    """Codes of gains."""

    @property
    def before(self) -> tuple[int, ...]:
        """Codes of what is of the class at the first date."""
        return (PRESENT, *self.lost)

    @property
    def after(self) -> tuple[int, ...]:
        """Codes of what is of it at the last."""
        return (PRESENT, *self.gained)

    @classmethod
    def of(cls, plan: Plan, config: Config) -> Rules | None:
        """Rules that a configuration asks of a plan; None where it asks nothing, or no changes are mapped."""
        dates, least = config.dates, config.vector.min_area_m2
        if not plan.scene.dates or not (dates.least_area_m2 or dates.least_width or least):
            return None
        if plan.series is None:
            # A network that compares dates does not say what the class is, so that there is nothing to define.
            return cls(0.0, 0.0, least, (), ())
        count = len(plan.series.dates)
        lost, gained = tuple(range(2, 1 + count)), tuple(range(1 + count, 2 * count))
        if dates.least_width and plan.scene.pixel_size is None:
            raise ConfigError(
                f"dates.least_width: {plan.scene.path} has no CRS, so that nothing has a width in metres; leave it out"
            )
        return cls(dates.least_area_m2, dates.least_width, least, lost, gained)


class Recoded:
    """A class raster some of whose blocks have other codes; as a class raster."""

    def __init__(self, base: ClassRaster, folder: Path) -> None:
        """Lay the blocks of a folder over a raster; the folder may be empty or missing."""
        self.shape, self.georeference, self.has_confidence = base.shape, base.georeference, base.has_confidence
        self._base = base
        self._grid = BlockGrid(*self.shape, FINE_BLOCK)
        self._files = {int(path.stem): path for path in folder.glob("*.z")}

    def _touched(self, window: Window) -> Iterable[int]:
        return (index for index in self._grid.touched(window) if index in self._files)

    def classes(self, window: Window) -> Bytes:
        """Class codes of a window."""
        codes = self._base.classes(window)
        for block in self._touched(window):
            core = self._grid.core(block)
            common = core & window
            assert common is not None
            stored = np.frombuffer(zlib.decompress(self._files[block].read_bytes()), np.uint8).reshape(core.shape)
            codes[common.slices_in(window)] = stored[common.slices_in(core)]
        return codes

    def confidence(self, window: Window) -> Bytes:
        """Confidence of a window."""
        return self._base.confidence(window)

    def uniform(self, window: Window) -> int | None:
        """The code of all pixels of a window where that is known without reading them."""
        return None if any(True for _ in self._touched(window)) else self._base.uniform(window)

    def blocks(self, grid: BlockGrid) -> Iterable[int]:
        """The blocks that may hold anything but no data."""
        return self._base.blocks(grid)


STEPS = "width", "area", "unit"


def recoded(base: ClassRaster, folder: Path) -> ClassRaster:
    """The raster after ``apply_rules``."""
    for step in STEPS:
        base = Recoded(base, folder / step)
    return base


def apply_rules(base: ClassRaster, rules: Rules, folder: Path, threads: int, should_stop: Callable[[], bool]) -> list[Path]:
    """Apply rules to a map of changes.

    Args:
        base: The map, as the network gave it.
        rules: The rules.
        folder: Where to; made, and not there yet.
        threads: Blocks that are worked on at once.
        should_stop: Asked before every block.

    Returns:
        The files written, for ``recoded``.

    Raises:
        Interrupted: ``should_stop`` said so.
    """
    grid = BlockGrid(*base.shape, FINE_BLOCK)
    with ThreadPoolExecutor(threads, thread_name_prefix="geoseg-rules") as pool:
        work = _Work(grid, sorted(base.blocks(grid)), folder, block_runner(pool, threads), should_stop)
        raster = base
        if rules.least_width_m:
            raster = _by_width(work, raster, rules)
        if rules.least_area_m2:
            raster = _by_area(work, raster, rules)
        if rules.least_change_m2:
            read, place = work.reader_of(raster), raster.georeference
            sieve = sieve_raster(grid, work.blocks, read, place, rules.least_change_m2, run=work.run)
            work.write("unit", raster, lambda block, framed: sieve.apply(grid, block, framed))
    return sorted(path for step in STEPS for path in (folder / step).glob("*.z"))


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """Blocks of a raster that one rule after the other changes."""

    grid: BlockGrid
    blocks: list[int]
    folder: Path
    run: Run
    should_stop: Callable[[], bool]

    def reader_of(self, raster: ClassRaster) -> Callable[[int], Bytes]:
        """Reader of a block with its frame."""

        def read(block: int) -> Bytes:
            if self.should_stop():
                raise Interrupted("stopped before a block")
            return raster.classes(self.grid.framed(block))

        return read

    def core(self, block: int, framed: Bytes) -> Bytes:
        """A block without its frame."""
        return framed[self.grid.core(block).slices_in(self.grid.framed(block))]

    def write(self, step: str, raster: ClassRaster, change: Callable[[int, Bytes], Bytes]) -> ClassRaster:
        """The raster after a step, which leaves files of those blocks that it changes."""
        (self.folder / step).mkdir(parents=True, exist_ok=True)
        read = self.reader_of(raster)

        def put(block: int) -> None:
            framed = read(block)
            new = change(block, framed)
            if not np.array_equal(new, self.core(block, framed)):
                (self.folder / step / f"{block}.z").write_bytes(zlib.compress(np.ascontiguousarray(new).tobytes(), 1))

        self.run(put, self.blocks)
        return Recoded(raster, self.folder / step)


def _by_width(work: _Work, raster: ClassRaster, rules: Rules) -> ClassRaster:
    before, after = rules.before, rules.after

    def change(block: int, framed: Bytes) -> Bytes:
        narrow = [_narrow(raster, work.grid.core(block), codes, rules.least_width_m) for codes in (before, after)]
        return _without(work.core(block, framed), zip(narrow, (before, rules.gained), strict=True))

    return work.write("width", raster, change)


def _by_area(work: _Work, raster: ClassRaster, rules: Rules) -> ClassRaster:
    before, after, grid = rules.before, rules.after, work.grid
    read, place = work.reader_of(raster), raster.georeference
    sieves = [
        drop_small(grid, work.blocks, _patches(read, codes), place, rules.least_area_m2, (PRESENT,), OUT, run=work.run)
        for codes in (before, after)
    ]

    def change(block: int, framed: Bytes) -> Bytes:
        small = [
            sieve.apply(grid, block, _as_patches(framed, codes)) == OUT
            for sieve, codes in zip(sieves, (before, after), strict=True)
        ]
        return _without(work.core(block, framed), zip(small, (before, rules.gained), strict=True))

    return work.write("area", raster, change)


def _without(old: Bytes, patches: Iterable[tuple[NDArray[np.bool_], tuple[int, ...]]]) -> Bytes:
    """Codes after patches of some of them were dropped."""
    new = old.copy()
    for dropped, codes in patches:
        new[dropped & np.isin(old, codes)] = ABSENT
    return new


def _as_patches(codes: Bytes, wanted: tuple[int, ...]) -> Bytes:
    """Some classes as one, all others as another."""
    return np.where(codes > MAX_CLASS, codes, np.isin(codes, wanted).astype(np.uint8) * np.uint8(PRESENT))


def _patches(read: Callable[[int], Bytes], wanted: tuple[int, ...]) -> Callable[[int], Bytes]:
    return lambda block: _as_patches(read(block), wanted)


def _narrow(raster: ClassRaster, core: Window, wanted: tuple[int, ...], width_m: float) -> NDArray[np.bool_]:
    """Mask of where some classes together hold no disc of a diameter, within a pixel. What is not known may be of them."""
    from scipy import ndimage

    row_m, col_m = raster.georeference.pixel_sides(core) or (1.0, 1.0)
    radius = width_m / 2
    rows, cols = (2 * int(np.ceil(radius / side)) + 1 for side in (row_m, col_m))
    scene = Window.of(raster.shape)
    window = core.grown(rows, cols) & scene
    assert window is not None
    codes = raster.classes(window)
    inside = np.isin(codes, wanted) | (codes > MAX_CLASS)
    if inside.all() or not inside.any():
        return np.asarray(np.zeros(core.shape, np.bool_) if inside.all() else ~inside[core.slices_in(window)])
    middle = ndimage.distance_transform_edt(inside, sampling=(row_m, col_m)) >= radius
    if not middle.any():
        return np.ones(core.shape, np.bool_)
    opened = ndimage.distance_transform_edt(~middle, sampling=(row_m, col_m)) < radius
    return np.asarray(~opened[core.slices_in(window)])
