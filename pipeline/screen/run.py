"""Screen: maps in, a coarse grid of scores out, for what is rare: where to look first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geoseg.codes import NODATA, NOT_ANALYSED
from geoseg.digits import figure
from geoseg.errors import ConfigError
from geoseg.formats.geojson import FeaturePart, write_geojson_parts
from geoseg.formats.vector import check_formats
from geoseg.georeference import Georeference
from geoseg.polygons.features import GEOMETRY
from geoseg.polygons.rings import Polygons, offsets_of
from geoseg.scenes.scene import OpenOptions
from geoseg.windows import Window
from pipeline.config.units import parse_distance
from pipeline.files.class_rasters import RasterFile, open_class_raster
from pipeline.files.maps import MapFiles, find_maps
from pipeline.files.outputs import check_new_file, output_file
from pipeline.screen.settings import ScreenOptions

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Screened", "screen"]

SIDE = 1024
CELL = np.dtype(
    [
        ("scene", np.int32),
        ("row", np.int32),
        ("col", np.int32),
        ("height", np.int32),
        ("width", np.int32),
        ("score", np.float64),
        ("highest", np.float32),
        ("share", np.float32),
        ("analysed", np.float32),
    ]
)
PROBABILITY, SHARE = "probability", "share"


@dataclass(frozen=True, slots=True)
class Screened:
    """Counts of cells, and their measures."""

    cells: int
    """Cells that were written."""
    seen: int
    """Cells of all maps that hold data."""
    not_analysed: int
    """Of them, those that hold no analysed pixel: nothing is known of them, and none is written."""
    measures: Mapping[str, str]
    """Score of each map: the mean probability of the class, or its share of the pixels."""


def screen(
    inputs: Sequence[str],
    wanted: str,
    cell: str,
    out: Path,
    *,
    kept: ScreenOptions | None = None,
    names: Mapping[int, str] | None = None,
    options: OpenOptions | None = None,
    overwrite: bool = False,
) -> Screened:
    """Write the cells of a coarse grid over maps as GeoJSON, with a score for a class, the highest first.

    The score is the mean over the analysed pixels of a cell of the probability of the class, where the map has
    probabilities, or the confidence of two classes; else the share of pixels that are of the class. Cells partition a
    map, from its upper left corner; those at its right and lower rim may be smaller. Cells without an analysed pixel are
    left out: a score of 0 would be a lie. Memory grows by cell, not by pixel, and by ``top`` not even so.

    Args:
        inputs: Class rasters, globs, folders, or what ``segment`` wrote.
        wanted: The class, by name or code.
        cell: Side of a cell: ``64px``, or ``640m``, which becomes whole pixels of each map.
        out: The file to write, .geojson.
        kept: Cells that are written; all by default.
        names: Names of the classes by code, where the maps don't have them.
        options: How maps are opened.
        overwrite: Replace the file.

    Raises:
        ConfigError: A class or a size is not known.
        SceneError: A map can't be read, or has no place on Earth.
        OutputError: The file is there.
    """
    if out.suffix.lower() not in (".geojson", ".json"):
        raise ConfigError(f"--out: {out}: cells are written as GeoJSON; end the name with .geojson")
    check_new_file(out, overwrite=overwrite)
    maps = find_maps(inputs)
    best = _Best(kept or ScreenOptions())
    places: list[tuple[Georeference, tuple[int, int]]] = []
    measures: dict[str, str] = {}
    for number, files in enumerate(maps):
        raster, legend = open_class_raster(files.classes, options or OpenOptions())
        list(check_formats(("geojson",), raster.georeference))
        known = dict(legend.names) | dict(names or {})
        code = _code_of(wanted, known, files)
        side = _pixels(cell, raster, files)
        places.append((raster.georeference, raster.shape))
        measures[files.name] = _measure_of(files, known)
        for found, data in _cells(raster, files, code, side, measures[files.name]):
            found["scene"] = number
            best.add(found, data)
    cells = best.ranked()
    with output_file(out) as temporary:
        write_geojson_parts(temporary, _parts(cells, maps, places, wanted, measures))
    return Screened(len(cells), best.seen, best.missing, measures)


class _Best:
    """The cells with the highest scores of those that come."""

    def __init__(self, kept: ScreenOptions) -> None:
        self._at_least, self._top = kept.at_least, kept.top
        self._kept: list[NDArray[np.void]] = []
        self.seen = self.missing = 0

    def add(self, cells: NDArray[np.void], data: int) -> None:
        """Analysed cells, of so many that hold data."""
        self.seen += data
        self.missing += data - len(cells)
        self._kept.append(cells[cells["score"] >= self._at_least])
        if self._top is not None and sum(map(len, self._kept)) > 2 * self._top + 1000:
            self._kept = [self.ranked()]

    def ranked(self) -> NDArray[np.void]:
        """These, the highest first."""
        return _ranked(self._kept)[: self._top]


def _measure_of(files: MapFiles, names: Mapping[int, str]) -> str:
    # The confidence says of the other class only where there are two, and that is a matter of the whole map.
    binary = files.probabilities is None and files.confidence is not None and set(names) == {0, 1}
    return PROBABILITY if files.probabilities is not None or binary else SHARE


def _code_of(wanted: str, names: Mapping[int, str], files: MapFiles) -> int:
    by_name = {name: code for code, name in names.items()}
    if wanted in by_name:
        return by_name[wanted]
    if wanted.isdecimal() and int(wanted) < NOT_ANALYSED:
        return int(wanted)
    known = ", ".join(by_name) or "none; name them with --names, or give the code"
    raise ConfigError(f"--class: {files.classes} has no class {wanted!r}; it has {known}")


def _pixels(text: str, raster: RasterFile, files: MapFiles) -> int:
    try:
        number, unit = parse_distance(text)
    except ValueError as error:
        raise ConfigError(f"--cell: {error}") from None
    if unit == "m":
        size = raster.georeference.pixel_size(*raster.shape)
        if size is None:
            raise ConfigError(f"--cell: {text}: pixels of {files.classes} have no size in metres; give pixels")
        number /= size
    if round(number) < 1:
        raise ConfigError(f"--cell: {text} is less than a pixel of {files.classes}")
    return round(number)


def _cells(raster: RasterFile, files: MapFiles, code: int, side: int, measure: str) -> Iterator[tuple[NDArray[np.void], int]]:
    """Cells with an analysed pixel, window by window; and how many cells of the window hold data."""
    whole = Window.of(raster.shape)
    for window in whole.parts(max(1, SIDE // side) * side):
        codes = raster.classes(window)
        analysed, data = codes < NOT_ANALYSED, codes != NODATA
        p = _scores(files, window, raster.shape, codes, code, measure)
        analysed &= np.isfinite(p)
        rows, cols = np.arange(0, window.height, side), np.arange(0, window.width, side)

        def summed(
            values: NDArray[np.generic], rows: NDArray[np.intp] = rows, cols: NDArray[np.intp] = cols
        ) -> NDArray[np.float64]:
            return np.add.reduceat(np.add.reduceat(np.asarray(values, np.float64), rows, axis=0), cols, axis=1)

        count, pixels = summed(analysed), summed(np.ones_like(analysed))
        there = np.nonzero(count > 0)
        cells = np.zeros(len(there[0]), CELL)
        cells["row"], cells["col"] = window.row_off + rows[there[0]], window.col_off + cols[there[1]]
        cells["height"] = np.minimum(side, window.height - rows[there[0]])
        cells["width"] = np.minimum(side, window.width - cols[there[1]])
        cells["score"] = summed(np.where(analysed, p, 0))[there] / count[there]
        highest = np.maximum.reduceat(np.maximum.reduceat(np.where(analysed, p, 0), rows, axis=0), cols, axis=1)
        cells["highest"] = highest[there]
        cells["share"] = summed(analysed & (codes == code))[there] / count[there]
        cells["analysed"] = count[there] / pixels[there]
        yield cells, int((summed(data) > 0).sum())


def _scores(
    files: MapFiles, window: Window, shape: tuple[int, int], codes: NDArray[np.uint8], code: int, measure: str
) -> NDArray[np.float32]:
    """Probability of the class; 0 or 1 where the map says no more than the class. NaN where there is none."""
    scores: NDArray[np.float32] = (codes == code).astype(np.float32)
    percents = files.percents(window, shape) if measure == PROBABILITY else None
    if percents is None:
        return scores
    if files.probabilities is None:
        scores = np.where(scores > 0, percents[0], 1 - percents[0])
    elif code < len(percents):
        scores = percents[code]
    else:
        raise ConfigError(f"{files.probabilities}: {len(percents)} bands; there is none for code {code}")
    return scores


def _ranked(parts: Sequence[NDArray[np.void]]) -> NDArray[np.void]:
    """By falling score; of equals, in the order of maps, rows and columns."""
    cells = np.concatenate(parts) if parts else np.empty(0, CELL)
    return cells[np.lexsort((cells["col"], cells["row"], cells["scene"], -cells["score"]))]


def _parts(
    cells: NDArray[np.void],
    maps: Sequence[MapFiles],
    places: Sequence[tuple[Georeference, tuple[int, int]]],
    wanted: str,
    measures: Mapping[str, str],
) -> Iterator[FeaturePart]:
    """Features by runs of the same map, so that the file is in the order of ranks."""
    edges = np.flatnonzero(np.diff(cells["scene"], prepend=-1, append=-1))
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        number = int(cells["scene"][start])
        georeference, shape = places[number]
        name = maps[number].name
        yield [_batch(cells[start:stop], start + 1, georeference, name, wanted, measures[name])], georeference, shape


def _batch(
    cells: NDArray[np.void], rank: int, georeference: Georeference, scene: str, wanted: str, measure: str
) -> pa.RecordBatch:
    import pyarrow as pa

    count = len(cells)
    top, left = cells["row"].astype(np.float64), cells["col"].astype(np.float64)
    bottom, right = top + cells["height"], left + cells["width"]
    corners = ((top, left), (bottom, left), (bottom, right), (top, right))
    rc = np.stack([np.stack(corner, -1) for corner in corners], 1).reshape(-1, 2)
    data, offsets = Polygons(rc, offsets_of(np.full(count, 4)), offsets_of(np.ones(count, np.int64))).wkb(georeference)
    raw = data.tobytes()
    ranks = np.arange(rank, rank + count)
    fields: dict[str, pa.Array] = {
        "id": pa.array(ranks),
        "rank": pa.array(ranks),
        "scene": pa.repeat(scene, count),
        "class": pa.repeat(wanted, count),
        "score": pa.array(np.round(cells["score"], 6)),
        "measure": pa.repeat(measure, count),
        "highest": pa.array(np.round(cells["highest"].astype(np.float64), 6)),
        "share": pa.array(np.round(cells["share"].astype(np.float64), 6)),
        "analysed": pa.array(np.round(cells["analysed"].astype(np.float64), 6)),
        "area_m2": pa.array([_area(cell, georeference) for cell in cells], pa.float64()),
        "row": pa.array(cells["row"]),
        "col": pa.array(cells["col"]),
        GEOMETRY: pa.array([raw[a:b] for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)], pa.binary()),
    }
    return pa.RecordBatch.from_pydict(fields)


def _area(cell: np.void, georeference: Georeference) -> float | None:
    """Square metres: pixels by their mean size at the corners."""
    window = Window.at((int(cell["row"]), int(cell["col"])), (int(cell["height"]), int(cell["width"])))
    metric = georeference.metric(window, spacing=max(window.shape))
    return None if metric is None else figure(float(metric.area.mean()) * window.pixels, 1)
