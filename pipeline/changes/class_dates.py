"""Ready class maps of several dates as one map of first changes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from geoseg.arrays import U8, Bools
from geoseg.clouds.hidden import Hidden
from geoseg.codes import MAX_CLASS, MAX_CONFIDENCE, NODATA, NOT_ANALYSED
from geoseg.crs import crs_of
from geoseg.dates.histories import histories
from geoseg.dates.series import first_changes, how_probable
from geoseg.dialect import setting
from geoseg.errors import ConfigError, GeoreferenceError
from geoseg.polygons.block_grid import BlockGrid
from geoseg.scenes.gdal import gdal_env, open_raster
from geoseg.scenes.legend import Legend
from geoseg.scenes.overlap import SAME_PLACE_PX, farthest, share_ground
from geoseg.scenes.scene import OpenOptions, View
from geoseg.windows import Window
from pipeline.files.class_rasters import RasterFile, open_class_raster
from pipeline.files.maps import map_at

__all__ = ["ClassDate", "FirstChanges", "open_class_dates"]

LEAST_DATES = 2
OWN = "geoseg_"
"""How tags of this program's rasters begin."""
UNKNOWN, STATES = 2, 3
"""The state of a pixel at a date that does not know it, beside without the class and with it."""
CELLS = 1 << 19
"""Pixels, of all dates together, whose probabilities are in memory at once."""


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
        paths: They, or folders that hold them, the oldest first; beside a map of this program lies how sure it is.
        of: The class, by name or code.
        options: How they are opened.

    Raises:
        SceneError: One can't be read, or is no class raster.
        GeoreferenceError: They can't be laid over each other.
        ConfigError: One has no such class.
    """
    found: list[ClassDate] = []
    for text in paths:
        given = map_at(text)
        path = given.classes
        sure = given.confidence if given.confidence is not None and _is_of(given.confidence, path) else None
        raster, legend = open_class_raster(path, options, confidence=sure)
        raster = raster.all_values()
        value, name = _class_of(of, legend, raster.scene.path)
        code = next((code for code, stands in raster.written.items() if stands == value), value)
        here = raster if not found else _on(found[0].raster, raster)
        scene = legend.tags.get("geoseg_scene", raster.scene.name)
        made_by = {key: text for key, text in sorted(legend.tags.items()) if key.startswith(OWN)}
        found.append(ClassDate(path, here, code, name, scene, raster.scene.acquired, made_by))
    return found


def _is_of(confidence: str, classes: str) -> bool:
    """Whether a raster is the confidence that this program wrote with a class raster: on its pixels, of the same making."""
    with gdal_env(), open_raster(classes) as one, open_raster(confidence) as other:
        made = [{key: text for key, text in sorted(file.tags().items()) if key.startswith(OWN)} for file in (one, other)]
        same = (one.shape, one.transform, made[0]) == (other.shape, other.transform, made[1])
        return bool(made[0]) and same and other.descriptions == ("confidence",) and other.dtypes == ("uint8",)


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
    return raster.seen_on(view, here)


class FirstChanges:
    """Codes of the first change of a class between dates, as ``series_classes`` has them; as a class raster.

    Where all maps say how sure they are, it has a confidence, which changes no class.

    A pixel that fewer than two dates know is not analysed where one holds data, and else no data.

    Args:
        dates: The class maps, the oldest first.
        hidden: By date, what hides the ground, if anything does.
        rate: Probability of a change between two dates; of the classes only series, where dates are missing in between, depend
            on it.
    """

    def __init__(self, dates: Sequence[ClassDate], hidden: Sequence[Hidden | None], rate: float) -> None:
        self.shape, self.georeference = dates[0].raster.shape, dates[0].raster.georeference
        self.has_confidence = all(date.raster.has_confidence for date in dates)
        self._dates, self._hidden, self._rate = dates, hidden, rate

    def classes(self, window: Window) -> U8:
        """Class codes of a window."""
        return self._changes(window, self._seen(window))

    def _changes(self, window: Window, dates: Iterable[tuple[U8, Bools, Bools]]) -> U8:
        known, data = np.zeros(window.shape, np.int64), np.zeros(window.shape, np.bool_)

        def states() -> Iterator[U8]:
            for codes, seen, is_it in dates:
                np.logical_or(data, codes != NODATA, out=data)
                np.add(known, seen, out=known)
                yield np.where(seen, is_it, np.uint8(UNKNOWN))

        rows, at = histories(states(), STATES)
        probability = np.array([0.0, 1.0, 0.5], np.float32)[rows]
        found = np.argmax(first_changes(probability, self._rate), axis=0).astype(np.uint8)[at]
        return np.where(known >= LEAST_DATES, found, np.where(data, np.uint8(NOT_ANALYSED), np.uint8(NODATA)))

    def confidence(self, window: Window) -> U8:
        """How probable the first changes of a window are, in percent, if dates err independently; no data without confidences.

        How sure a map is of its class is how probable it is that a pixel has the class whose changes are mapped, or has it not.
        What people have corrected in a map has no confidence, and counts as certain.
        """
        out = np.full(window.shape, NODATA, np.uint8)
        if self.has_confidence:
            for part in window.parts(max(64, int((CELLS / len(self._dates)) ** 0.5))):
                out[part.slices_in(window)] = self._confidence(part)
        return out

    def _confidence(self, window: Window) -> U8:
        dates = [*self._seen(window)]
        codes = self._changes(window, dates)
        known = codes <= MAX_CLASS
        percents = [
            _percent(date.raster.confidence(window), seen, is_it)
            for date, (_, seen, is_it) in zip(self._dates, dates, strict=True)
        ]
        rows, at = histories([np.where(known, codes, np.uint8(0)), *percents], NODATA + 1)
        probable = how_probable(rows[0], np.asarray(rows[1:] / MAX_CONFIDENCE, np.float32), self._rate)
        return np.where(known, (MAX_CONFIDENCE * probable + np.float32(0.5)).astype(np.uint8)[at], codes)

    def _seen(self, window: Window) -> Iterator[tuple[U8, Bools, Bools]]:
        """By date its class codes (h, w), where it shows a class, and where that is the one whose changes are mapped."""
        for date, hidden in zip(self._dates, self._hidden, strict=True):
            codes = date.raster.classes(window)
            seen = codes <= MAX_CLASS
            if hidden is not None and (codes != NODATA).any():
                seen &= ~hidden.read(window)
            yield codes, seen, codes == date.code

    def uniform(self, window: Window) -> int | None:
        """No data, where no map has blocks."""
        return NODATA if all(date.raster.uniform(window) == NODATA for date in self._dates) else None

    def blocks(self, grid: BlockGrid) -> Iterable[int]:
        """The blocks that one of the maps holds."""
        return iter(sorted({*itertools.chain.from_iterable(date.raster.blocks(grid) for date in self._dates)}))


def _percent(confidence: U8, seen: Bools, is_it: Bools) -> U8:
    """(h, w) how probable a class is at a date in percent, by the confidence of a map in the class that it has."""
    sure = np.where(confidence == NOT_ANALYSED, np.uint8(MAX_CONFIDENCE), np.minimum(confidence, np.uint8(MAX_CONFIDENCE)))
    return np.where(seen & (confidence != NODATA), np.where(is_it, sure, MAX_CONFIDENCE - sure), np.uint8(MAX_CONFIDENCE // 2))
