"""Match: objects found against objects of a truth, or of another date, over files of any size."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray

from geoseg.crs import between
from geoseg.documents import LARGE, read_json
from geoseg.errors import ConfigError
from geoseg.evaluation.instances import Matches, Overlaps, PrecisionTally, match
from geoseg.scenes.gdal import gdal_env, open_raster
from geoseg.vectors.folder_datasets import is_dataset
from geoseg.vectors.polygon_file import PolygonFile
from geoseg.vectors.polygon_index import Area, PolygonIndex
from geoseg.vectors.reprojecting import equal_area
from geoseg.vectors.texts import text_of
from pipeline.files.columns import numbers_of
from pipeline.files.run_folder import REPORT, RunFolder

__all__ = ["Matched", "match_files"]

log = logging.getLogger(__name__)
AT_ONCE = 20_000
NEAR_PX = 8
"""How near a seam objects are near it."""
UNKNOWN = 0.5
"""Share of an object's area outside of what is known, from which on it does not count."""
POLYGONS = "polygons"
ENDINGS = (".parquet", ".gpkg", ".fgb", ".geojson")

Bools = NDArray[np.bool_]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """What was found."""

    document: dict[str, Any]
    """The figures."""
    pairs: list[tuple[int, int, float]]
    """Ids of objects that match, and their intersection over union."""


@dataclass(frozen=True, slots=True)
class Seams:
    """Where the tiles of a map meet."""

    crs: pyproj.CRS | None
    transform: Any
    step: int
    shape: tuple[int, int]

    @classmethod
    def of(cls, folder: Path) -> Seams | None:
        """Those of a map folder; None where it has no grid of tiles."""
        try:
            grid = read_json(folder / REPORT, limit=LARGE)["identity"]["grid"]
            height, width, tile, margin, *_ = map(int, grid[:4])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        with gdal_env(), open_raster(folder / "classes.tif") as dataset:
            crs, transform = dataset.crs, dataset.transform
        return cls(None if crs is None else pyproj.CRS.from_wkt(crs.to_wkt()), transform, tile - 2 * margin, (height, width))

    def near(self, geometries: NDArray[Any], crs: pyproj.CRS | None) -> Bools:
        """(N,) whether the boxes of polygons come near a border between tile cores, in pixels of the map."""
        import shapely

        move = between(crs, self.crs) if crs is not None and self.crs is not None else None
        back = ~self.transform

        def to_pixels(xy: NDArray[np.float64]) -> NDArray[np.float64]:
            x, y = (xy[:, 0], xy[:, 1]) if move is None else move.transform(xy[:, 0], xy[:, 1])
            return np.stack([back.a * x + back.b * y + back.c, back.d * x + back.e * y + back.f], axis=1)

        boxes = shapely.bounds(shapely.transform(geometries, to_pixels))
        near = np.zeros(len(geometries), np.bool_)
        for low, high, length in ((boxes[:, 0], boxes[:, 2], self.shape[1]), (boxes[:, 1], boxes[:, 3], self.shape[0])):
            first = np.maximum(1, np.ceil((low - NEAR_PX) / self.step))
            last = np.minimum((length - 1) // self.step, np.floor((high + NEAR_PX) / self.step))
            near |= first <= last
        return near


def match_files(
    found: str,
    truth: str,
    *,
    iou: float = 0.5,
    within: str | None = None,
    classes: Sequence[str] | None = None,
    sizes: Sequence[float] = (50.0, 200.0),
    score: str = "score",
    assume_crs: str | None = None,
    at_once: int = AT_ONCE,
) -> Matched:
    """Match polygons one to one, and measure how many match.

    Both are brought to a CRS around the truth in which areas are those on the ground. By falling score, each polygon takes
    the one of the truth that it overlaps most, by intersection over union, if no other has taken it. Polygons are looked at
    place by place; memory follows their number, not their vertices.

    Args:
        found: A file of polygons, or the folder of a map, whose seams then are known.
        truth: A file of polygons.
        iou: Least intersection over union of a match.
        within: A file of polygons outside of which nothing is known: what lies there for more than a half does not count.
        classes: Values of the column ``class`` of the polygons that count. [default: all]
        sizes: Areas in square metres that divide the objects into strata.
        score: The column that says how sure each polygon is; all are alike where there is none.
        assume_crs: The CRS of files that have none.
        at_once: Polygons that are looked at together, about; has no influence on any figure.

    Raises:
        ConfigError: A file can't be read, or one has a CRS and another has none.
    """
    files = {"found": PolygonFile.open(_polygons_of(found), assume_crs), "truth": PolygonFile.open(Path(truth), assume_crs)}
    if within is not None:
        files["within"] = PolygonFile.open(Path(within), assume_crs)
    _check_crs(list(files.values()))
    seams = Seams.of(Path(found)) if Path(found).is_dir() and not is_dataset(Path(found)) else None
    with tempfile.TemporaryDirectory(prefix="geoseg-match-") as work:
        crs = equal_area(files["truth"]) or equal_area(files["found"])
        area = Area(files["within"], crs) if within is not None else None
        sides = {}
        for name in ("found", "truth"):
            only = classes if name == "found" else None
            sides[name] = _Side.of(files[name], crs, Path(work) / f"{name}.fgb", area, seams, only, score)
        overlaps = _overlaps(sides["found"].index, sides["truth"].index, at_once)
    return _measured(sides["found"], sides["truth"], overlaps, iou, sizes, near=seams is not None)


def _polygons_of(text: str) -> Path:
    path = Path(text)
    if path.is_file() or is_dataset(path):
        return path
    RunFolder(path).settle()
    if not path.is_dir():
        return path
    there = [path / f"{POLYGONS}{ending}" for ending in ENDINGS if (path / f"{POLYGONS}{ending}").is_file()]
    if not there:
        raise ConfigError(f"{path}: holds no {POLYGONS} ({', '.join(ENDINGS)}); give a map folder, or a file of polygons")
    return there[0]


def _check_crs(files: Any) -> None:
    # A file of nothing lies nowhere.
    by_crs = {file.crs is None: file.path for file in files if file.extent() is not None}
    if len(by_crs) > 1:
        raise ConfigError(f"{by_crs[True]}: has no CRS, and {by_crs[False]} has one; say what it is by --assume-crs")
    first, *others = files
    flat = [file for file in files if file.crs is not None and file.crs.geodetic_crs is None]
    other = next((file for file in others if flat and file.crs != first.crs), None)
    if other is not None:
        raise ConfigError(
            f"{flat[0].path}: its CRS {flat[0].crs.name} is a map of its own, which {other.path} is not on; bring both to one CRS"
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """The polygons of one side, and what is known of them."""

    index: PolygonIndex
    score: NDArray[np.float64]
    known: Bools
    near: Bools

    @classmethod
    def of(
        cls,
        file: PolygonFile,
        crs: pyproj.CRS | None,
        path: Path,
        area: Area | None,
        seams: Seams | None,
        classes: Sequence[str] | None,
        score: str,
    ) -> _Side:
        known, near, seen = [np.empty(0, np.bool_)], [np.empty(0, np.bool_)], set[str]()
        if classes is not None and "class" not in file.fields:
            raise ConfigError(f"{file.path}: has no column class, by which --classes could choose")

        def keep(values: Mapping[str, list[Any]]) -> Bools | None:
            if classes is None:
                return None
            names = [text_of(value) for value in values["class"]]
            seen.update(names)
            return np.array([name in classes for name in names], np.bool_)

        def look(given: NDArray[Any], shapes: NDArray[Any]) -> None:
            known.append(np.ones(len(shapes), np.bool_) if area is None else area.share(shapes) >= 1 - UNKNOWN)
            near.append(np.zeros(len(shapes), np.bool_) if seams is None else seams.near(given, file.crs))

        columns = ("id", score) if classes is None else ("id", score, "class")
        index = PolygonIndex(file, crs, path, columns=columns, keep=keep, look=look)
        if classes is not None and not len(index) and seen:
            log.warning("%s: none of its classes is one of --classes; it has %s", file.path, ", ".join(sorted(seen)[:10]))
        if index.left_out:
            log.warning(
                "%s: %s features have no area and count for nothing; objects are polygons", file.path, f"{index.left_out:,}"
            )
        scores = index.columns.get(score, [1.0] * len(index))
        cure = "--score names the column that says how sure each polygon is, or one that is not there, so that all are alike"
        sure = numbers_of(file.path, score, scores, cure)
        return cls(index, np.nan_to_num(sure, nan=0.0), np.concatenate(known), np.concatenate(near))

    @property
    def ids(self) -> list[int]:
        return list(self.index.columns.get("id") or range(len(self.index)))


def _cells(bounds: tuple[float, float, float, float], side: int) -> Iterator[tuple[float, float, float, float]]:
    """Boxes that partition a box, lower and left sides included."""
    left, bottom, right, top = bounds
    xs, ys = np.linspace(left, right, side + 1), np.linspace(bottom, top, side + 1)
    xs[-1], ys[-1] = np.nextafter([right, top], np.inf)
    for row in range(side):
        for col in range(side):
            yield float(xs[col]), float(ys[row]), float(xs[col + 1]), float(ys[row + 1])


def _overlaps(found: PolygonIndex, truth: PolygonIndex, at_once: int) -> Overlaps:
    import shapely

    pairs = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    for cell in _cells(truth.bounds, math.ceil(math.sqrt(len(truth) / at_once))) if len(found) and len(truth) else ():
        number, shapes = truth.within(cell)
        corner = shapely.bounds(shapes)
        # Each is looked at in the cell of its lower left corner.
        own = (corner[:, 0] >= cell[0]) & (corner[:, 0] < cell[2]) & (corner[:, 1] >= cell[1]) & (corner[:, 1] < cell[3])
        number, shapes = number[own], shapes[own]
        if not len(number):
            continue
        other, near = found.within(tuple(shapely.total_bounds(shapes).tolist()))
        first, second = shapely.STRtree(shapes).query(near, predicate="intersects")
        common = shapely.area(shapely.intersection(near[first], shapes[second]))
        some = common > 0
        pairs.append((other[first[some]], number[second[some]], common[some]))
    first, second, common = (np.concatenate(part) for part in zip(*pairs, strict=True))
    order = np.lexsort((second, first))
    return Overlaps(first[order], second[order], common[order], found.area, truth.area)


def _measured(found: _Side, truth: _Side, every: Overlaps, iou: float, sizes: Sequence[float], *, near: bool) -> Matched:
    hidden = np.bincount(every.first, every.inside * ~truth.known[every.second], len(found.known))
    counts = found.known & (hidden <= UNKNOWN)
    overlaps = every.only(counts, truth.known)
    score = found.score[counts]
    matches = match(overlaps, score, iou=iou)
    tally = PrecisionTally()
    tally.add(overlaps, score)
    split = np.bincount(overlaps.second[overlaps.inside > 0.5], minlength=len(overlaps.truth)) > 1
    merged = np.bincount(overlaps.first[overlaps.covered > 0.5], minlength=len(overlaps.found)) > 1
    document: dict[str, Any] = {
        "iou": iou,
        "figures": _numbers(matches)
        | {name: _number(value) for name, value in tally.figures.items()}
        | {"split": int(split.sum()), "merged": int(merged.sum())},
        "sizes": [_of_size(matches, overlaps, low, high) for low, high in pairwise([0.0, *sorted(sizes), math.inf])],
        "left_out": {
            "found": int((~counts).sum()),
            "truth": int((~truth.known).sum()),
            "not_polygons": found.index.left_out + truth.index.left_out,
        },
    }
    if near:
        a, b = found.near[counts], truth.near[truth.known]
        document["seams"] = {
            name: _numbers(_stratum(matches, a == at, b == at))
            | {"split": int(split[b == at].sum()), "merged": int(merged[a == at].sum())}
            for name, at in (("near", True), ("far", False))
        }
    own, others = np.flatnonzero(counts), np.flatnonzero(truth.known)
    left, right = found.ids, truth.ids
    pairs = [
        (left[own[a]], right[others[b]], float(share))
        for a, b, share in zip(matches.found, matches.truth, matches.iou, strict=True)
    ]
    return Matched(document, pairs)


def _of_size(matches: Matches, overlaps: Overlaps, low: float, high: float) -> dict[str, Any]:
    strata = [(area >= low) & (area < high) for area in (overlaps.found, overlaps.truth)]
    return {"from_m2": low, "to_m2": None if math.isinf(high) else high} | _numbers(_stratum(matches, *strata))


def _stratum(matches: Matches, found: Bools, truth: Bools) -> Matches:
    """The matches of some objects of the truth; what matches none of them counts where it is one of ``found`` and free."""
    keep = truth[matches.truth]
    free = found.copy()
    free[matches.found] = False
    return Matches(matches.found[keep], matches.truth[keep], matches.iou[keep], int(keep.sum() + free.sum()), int(truth.sum()))


def _numbers(matches: Matches) -> dict[str, Any]:
    counts = {"matched": len(matches.found), "found": matches.found_count, "truth": matches.truth_count}
    return {name: _number(value) for name, value in matches.figures.items()} | counts


def _number(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None
