"""Accuracy of graded buildings: figures by building with intervals, and the score of the xView2 challenge by pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import rasterio
import rasterio.features
import shapely
from numpy.typing import NDArray

from geoseg.calibration.measures import Tally
from geoseg.damage.crops import pixel_shapes
from geoseg.damage.scale import CLASSES, LABELS, building_figures, class_f1, xview2_score
from geoseg.errors import ConfigError
from geoseg.sampling.bootstrap import DRAWS, interval
from geoseg.scenes.scene import Scene
from geoseg.vectors.polygon_file import Geometries, PolygonFile
from geoseg.vectors.texts import text_of
from geoseg.windows import Window
from pipeline.damage.buildings import ID_FIELDS
from pipeline.damage.document import probability_names

__all__ = ["DamageFigures", "judge_damage"]

PART = 2048
"""Pixels are compared in windows of so many rows and columns."""

Ints = NDArray[np.int64]
Interval = tuple[float, float] | None


class DamageFigures(TypedDict):
    """Figures of graded buildings, as ``evaluation.json`` has them; intervals are at 95 %."""

    buildings: int
    not_analysed: int
    macro_f1: float
    f1: dict[str, float | None]
    accuracy: float
    steps_off: float | None
    kappa: float
    confusion: list[list[int]]
    macro_f1_95: Interval
    f1_95: dict[str, Interval]
    calibration: dict[str, float] | None
    xview2: dict[str, float | Interval]


@dataclass(frozen=True, slots=True, eq=False)
class _Buildings:
    """Buildings of a file, those that lie off the image left out."""

    names: list[str]
    shapes: Geometries
    """(N,) in pixels of the scene."""
    code: Ints
    """(N,) classes; -1 where there is none."""
    probability: NDArray[np.float64] | None = None
    """(N, K), NaN where not analysed."""


def judge_damage(found_path: Path, truth_path: Path, column: str, scene: Scene, *, seed: int = 0) -> DamageFigures:
    """Figures of graded buildings against a truth with the same footprints, with 95 % intervals, and the xView2 score by pixels.

    Buildings match by their ``name`` (the ``uid`` of the truth). Intervals come from drawing buildings with replacement; what
    was found where the truth has no building is the same in each draw. Buildings that lie wholly off the image are not judged.

    Args:
        found_path: The buildings that were graded.
        truth_path: The truth.
        column: Its column of classes.
        scene: Gives the pixels.
        seed: Of the draws.

    Raises:
        ConfigError: The truth has no such column, or none of the buildings.
    """
    found, truth = _found(found_path, scene), _truth(truth_path, column, scene)
    at = {name: k for k, name in enumerate(found.names)}
    pairs = np.array([(at[name], k) for k, name in enumerate(truth.names) if name in at], np.int64).reshape(-1, 2)
    if not len(pairs):
        raise ConfigError(f"{truth_path}: none of its buildings is among those of {found_path}; both need the same ids")
    code, label = found.code[pairs[:, 0]], truth.code[pairs[:, 1]]
    counts, outside = _pixels(found, truth, Window.of((scene.height, scene.width)))
    rng = np.random.default_rng(seed)
    drawn = np.array([class_f1(code[some], label[some]) for some in _draws(rng, len(label))])
    scores = [xview2_score(counts[some], truth.code[some], outside)["score"] for some in _draws(rng, len(counts))]
    assert found.probability is not None
    p = found.probability[pairs[:, 0]]
    known = np.isfinite(p).all(axis=1)
    tally = Tally(len(CLASSES))
    tally.add(p[known].T, label[known].astype(np.uint8))
    figures = building_figures(code, label)
    return {
        "buildings": figures["buildings"],
        "not_analysed": figures["not_analysed"],
        "macro_f1": figures["macro_f1"],
        "f1": figures["f1"],
        "accuracy": figures["accuracy"],
        "steps_off": figures["steps_off"],
        "kappa": figures["kappa"],
        "confusion": figures["confusion"],
        "macro_f1_95": interval(np.nanmean(drawn, axis=1)),
        "f1_95": {name: interval(values) for name, values in zip(CLASSES, drawn.T, strict=True)},
        "calibration": None
        if not known.any()
        else {"ece": tally.ece(), "classwise_ece": tally.classwise_ece(), "brier": tally.brier, "nll": tally.nll},
        "xview2": {**xview2_score(counts, truth.code, outside), "score_95": interval(np.array(scores))},
    }


def _draws(rng: np.random.Generator, count: int) -> list[Ints]:
    return [rng.integers(count, size=count) for _ in range(DRAWS)]


def _found(path: Path, scene: Scene) -> _Buildings:
    file, columns = PolygonFile.open(path), ("name", "code", *probability_names())
    names, shapes, codes, probability = [], [], [], []
    for geometries, values in file.batches(columns):
        names += [text_of(name) for name in values["name"]]
        shapes.append(pixel_shapes(geometries, file.crs, scene.georeference))
        codes.append(np.array([int(code) if int(code) < len(CLASSES) else -1 for code in values["code"]], np.int64))
        columns_of_p = ([np.nan if v is None else float(v) for v in values[key]] for key in probability_names())
        probability.append(np.array(list(columns_of_p), np.float64).T)
    return _Buildings(names, np.concatenate(shapes), np.concatenate(codes), np.concatenate(probability))


def _truth(path: Path, column: str, scene: Scene) -> _Buildings:
    file, image = PolygonFile.open(path), shapely.box(0, 0, scene.width, scene.height)
    names, shapes, codes = [], [], []
    for geometries, values in file.batches((*ID_FIELDS, column)):
        field = next((f for f in ID_FIELDS if f in values), None)
        if column not in values or field is None:
            raise ConfigError(f"{path}: needs a column {column!r} and one of {', '.join(ID_FIELDS)}")
        moved = pixel_shapes(geometries, file.crs, scene.georeference)
        for shape, name, text in zip(moved, values[field], values[column], strict=True):
            label = LABELS.get(str(text).strip().lower(), -1)
            if label >= 0 and shape is not None and shape.intersects(image):
                names.append(text_of(name))
                shapes.append(shape)
                codes.append(label)
    return _Buildings(names, np.array(shapes, object), np.array(codes, np.int64))


def _pixels(found: _Buildings, truth: _Buildings, scene: Window) -> tuple[Ints, int]:
    """Pixels (N, 5) of each building of the truth by what was found there, and those found where the truth has none."""
    counts, outside = np.zeros((len(truth.names), 1 + len(CLASSES)), np.int64), 0
    trees = [shapely.STRtree(one.shapes) for one in (found, truth)]
    values = found.code + 1, np.arange(1, len(truth.names) + 1)
    for window in scene.parts(PART):
        seen, there = (
            _burned(one.shapes, tree, value, window) for one, tree, value in zip((found, truth), trees, values, strict=True)
        )
        outside += int(((seen > 0) & (there == 0)).sum())
        inside = there > 0
        np.add.at(counts, (there[inside] - 1, seen[inside]), 1)
    return counts, outside


def _burned(shapes: Geometries, tree: shapely.STRtree, value: Ints, window: Window) -> NDArray[np.int32]:
    box = shapely.box(window.col_off, window.row_off, window.col_stop, window.row_stop)
    near = [(shapes[k], int(value[k])) for k in np.sort(tree.query(box)) if value[k]]
    if not near:
        return np.zeros(window.shape, np.int32)
    move = rasterio.Affine.translation(window.col_off, window.row_off)
    return np.asarray(rasterio.features.rasterize(near, window.shape, transform=move, dtype="int32"))
