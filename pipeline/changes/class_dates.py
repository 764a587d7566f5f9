"""Ready class maps of several dates as one map of first changes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from geoseg.arrays import I64, U8
from geoseg.clouds.hidden import Hidden
from geoseg.codes import MAX_CLASS, NODATA, NOT_ANALYSED
from geoseg.crs import crs_of
from geoseg.dates.series import first_changes
from geoseg.dialect import setting
from geoseg.errors import ConfigError, GeoreferenceError
from geoseg.polygons.block_grid import BlockGrid
from geoseg.scenes.legend import Legend
from geoseg.scenes.overlap import SAME_PLACE_PX, farthest, share_ground
from geoseg.scenes.scene import OpenOptions, View
from geoseg.windows import Window
from pipeline.files.class_rasters import RasterFile, open_class_raster

__all__ = ["ClassDate", "FirstChanges", "open_class_dates"]

LEAST_DATES = 2
OWN = "geoseg_"
"""How tags of this program's rasters begin."""
ABSENT, PRESENT, UNKNOWN = 0, 1, 2


@dataclass(frozen=True, slots=True, eq=False)
class ClassDate:
    """The class map of a date, on the grid of the first one."""

    path: str
    raster: RasterFile
    code: int
    """The class whose changes are mapped."""
    class_name: str
    scene: str
    """What it is a map of."""
    acquired: str | None
    made_by: Mapping[str, str]
    """What a map of this program says of the model and the run that made it; empty of others."""


def open_class_dates(paths: Sequence[str], of: str, options: OpenOptions) -> list[ClassDate]:
    """Open the class maps of several dates; those on other grids than the first are read by their nearest pixels.

    Args:
        paths: They, the oldest first.
        of: The class, by name or code.
        options: How they are opened.

    Raises:
        SceneError: One can't be read, or is no class raster.
        GeoreferenceError: They can't be laid over each other.
        ConfigError: One has no such class.
    """
    found: list[ClassDate] = []
    for path in paths:
        raster, legend = open_class_raster(path, options)
        raster = raster.all_values()
        value, name = _class_of(of, legend, raster.scene.path)
        code = next((code for code, stands in raster.written.items() if stands == value), value)
        here = raster if not found else _on(found[0].raster, raster)
        scene = legend.tags.get("geoseg_scene", raster.scene.name)
        made_by = {key: text for key, text in sorted(legend.tags.items()) if key.startswith(OWN)}
        found.append(ClassDate(path, here, code, name, scene, raster.scene.acquired, made_by))
    return found


def _class_of(of: str, legend: Legend, path: str) -> tuple[int, str]:
    """Value and name of a class that is given by name or code."""
    by_name = {name.casefold(): value for value, name in legend.names.items()}
    text = of.strip()
    value = by_name.get(text.casefold(), int(text) if text.isdecimal() and int(text) <= NODATA else None)
    if value is None:
        known = ", ".join(f"{value} {name}" for value, name in sorted(legend.names.items())) or "no names"
        raise ConfigError(
            f"dates.of: {path} has no class {of!r}; it has {known}: say whose changes are mapped, by name or code, with "
            f"{setting('of')}"
        )
    return value, legend.names.get(value, f"class {value}")


def _on(first: RasterFile, raster: RasterFile) -> RasterFile:
    """A raster on the grid of another one."""
    here, there = first.georeference, raster.georeference
    if here.crs is None or there.crs is None:
        if here.crs == there.crs and first.shape == raster.shape and farthest(here, there, raster.shape) < SAME_PLACE_PX:
            return raster
        raise GeoreferenceError(
            f"{raster.scene.path}: without a CRS a class map is compared with one of the same place and size only; give both one"
        )
    if (
        first.shape == raster.shape
        and crs_of(here.crs) == crs_of(there.crs)
        and farthest(here, there, raster.shape) < SAME_PLACE_PX
    ):
        return raster
    if not share_ground(here, first.shape, there, raster.shape):
        raise GeoreferenceError(f"{raster.scene.path}: does not overlap {first.scene.path}; dates are those of one place")
    height, width = first.shape
    view = View(crs=here.crs, transform=here.transform, height=height, width=width, resampling="nearest", source_crs=there.crs)
    moved = RasterFile(replace(raster.scene, view=view, georeference=here, height=height, width=width), own=raster.own)
    moved.written = raster.written
    return moved


class FirstChanges:
    """Codes of the first change of a class between dates, as ``series_classes`` has them; as a class raster.

    A pixel that fewer than two dates know is not analysed where one holds data, and else no data.

    Args:
        dates: The class maps, the oldest first.
        hidden: By date, what hides the ground, if anything does.
        rate: Probability of a change between two dates; only series, where dates are missing in between, depend on it.
    """

    has_confidence = False

    def __init__(self, dates: Sequence[ClassDate], hidden: Sequence[Hidden | None], rate: float) -> None:
        self.shape, self.georeference = dates[0].raster.shape, dates[0].raster.georeference
        self._dates, self._hidden, self._rate = dates, hidden, rate

    def classes(self, window: Window) -> U8:
        """Class codes of a window."""
        number, known = np.zeros(window.shape, np.int64), np.zeros(window.shape, np.int64)
        data = np.zeros(window.shape, np.bool_)
        for date, hidden in zip(self._dates, self._hidden, strict=True):
            codes = date.raster.classes(window)
            there = codes != NODATA
            seen = codes <= MAX_CLASS
            if hidden is not None and there.any():
                seen &= ~hidden.read(window)
            data |= there
            known += seen
            number = number * 3 + np.where(seen, codes == date.code, UNKNOWN)
        states, at = np.unique(number, return_inverse=True)
        found = self._of_states(states)[at.reshape(window.shape)]
        return np.where(known >= LEAST_DATES, found, np.where(data, np.uint8(NOT_ANALYSED), np.uint8(NODATA)))

    def confidence(self, window: Window) -> U8:
        """No data: class maps don't say how sure they are of a change."""
        return np.full(window.shape, NODATA, np.uint8)

    def uniform(self, window: Window) -> int | None:
        """No data, where no map has blocks."""
        return NODATA if all(date.raster.uniform(window) == NODATA for date in self._dates) else None

    def blocks(self, grid: BlockGrid) -> Iterable[int]:
        """The blocks that one of the maps holds."""
        return iter(sorted({*itertools.chain.from_iterable(date.raster.blocks(grid) for date in self._dates)}))

    def _of_states(self, numbers: I64) -> U8:
        """(N,) codes by (N,) numbers whose digits to the base of 3 are the states by date."""
        count = len(self._dates)
        digits = np.stack([numbers // 3 ** (count - 1 - t) % 3 for t in range(count)])
        probability = np.array([0.0, 1.0, 0.5], np.float32)[digits]
        return np.asarray(np.argmax(first_changes(probability, self._rate), axis=0), np.uint8)
