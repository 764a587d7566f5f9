"""Match: objects found against objects of a truth, or of another date, over files of any size."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from geoseg.evaluation.instances import Overlaps
from geoseg.vectors.folder_datasets import is_dataset
from geoseg.vectors.polygon_file import PolygonFile
from geoseg.vectors.polygon_index import Area, PolygonIndex
from geoseg.vectors.reprojecting import equal_area
from pipeline.evaluate.match_document import Matched, measured
from pipeline.evaluate.settings import MatchOptions
from pipeline.evaluate.sides import Side, check_crs, polygons_of
from pipeline.evaluate.tile_borders import Seams
from pipeline.files.maps import is_result, one_result

__all__ = ["match_files"]

AT_ONCE = 20_000


def match_files(
    found: str,
    truth: str,
    options: MatchOptions | None = None,
    *,
    within: str | None = None,
    assume_crs: str | None = None,
    at_once: int = AT_ONCE,
) -> Matched:
    """Match polygons one to one, and measure how many match.

    Both are brought to a CRS around the truth in which areas are those on the ground. By falling score, each polygon takes
    the one of the truth that it overlaps most, by intersection over union, if no other has taken it. Polygons are compared
    place by place; memory follows their number, not their vertices.

    Args:
        found: A file of polygons, or the folder of a map, whose seams then are known.
        truth: A file of polygons, or the folder of another map.
        options: What counts, and what matches.
        within: A file of polygons outside of which nothing is known: what lies there for more than a half does not count.
        assume_crs: The CRS of files that have none.
        at_once: Polygons that are compared together, about; has no influence on any figure.

    Raises:
        ConfigError: A file can't be read, or one has a CRS and another has none.
    """
    options = options or MatchOptions()
    ours, theirs = one_result(Path(found)), one_result(Path(truth))
    files = {
        "found": PolygonFile.open(polygons_of(ours), assume_crs),
        "truth": PolygonFile.open(polygons_of(theirs) if is_result(theirs) else theirs, assume_crs),
    }
    if within is not None:
        files["within"] = PolygonFile.open(Path(within), assume_crs)
    check_crs(list(files.values()))
    seams = Seams.of(ours) if ours.is_dir() and not is_dataset(ours) else None
    with tempfile.TemporaryDirectory(prefix="geoseg-match-") as work:
        crs = equal_area(files["truth"]) or equal_area(files["found"])
        area = Area(files["within"], crs) if within is not None else None
        sides = {}
        for name in ("found", "truth"):
            only = options.classes if name == "found" else None
            sides[name] = Side.of(files[name], crs, Path(work) / f"{name}.fgb", area, seams, only, options.score)
        overlaps = _overlaps(sides["found"].index, sides["truth"].index, at_once)
    return measured(sides["found"], sides["truth"], overlaps, options.iou, options.sizes, near=seams is not None)


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
        # Each is compared in the cell of its lower left corner.
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
