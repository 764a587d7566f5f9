"""Figures of an evaluation as one document: pooled, with intervals, and those of each scene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import numpy as np

import geoseg
from geoseg.calibration.measures import Tally
from geoseg.evaluation.boundary import BoundaryTally
from geoseg.evaluation.confusion import ConfusionMatrix, class_figures
from geoseg.evaluation.curves import ScoreHistogram
from geoseg.evaluation.errormap import ErrorMap
from geoseg.evaluation.intervals import bootstrap
from pipeline.evaluate.classical_table import BaselineTable
from pipeline.evaluate.pairs import Classes, Pair

__all__ = ["ClassRow", "Coverage", "Document", "Intervals", "Measured", "SceneRow", "Scores", "document_of"]

ByClass = dict[str, float | None]
"""A figure by name of class; None where it is not defined."""
Intervals = Mapping[str, tuple[float, float] | None]
"""Lower and upper ends of intervals by figure; ``iou:0`` is the IoU of class 0."""


class Figures(TypedDict):
    """Figures of all classes together; None where one is not defined."""

    miou: float | None
    mean_dice: float | None
    accuracy: float | None
    kappa: float | None
    mcc: float | None


class Coverage(TypedDict):
    """Pixels of maps, and those of them that are compared."""

    pixels: int
    labelled: int
    compared: int
    not_analysed: int
    no_data: int
    share: float | None


# A column is named as no field can be.
ClassRow = TypedDict(
    "ClassRow",
    {
        "class": str,
        "code": int,
        "pixels": int,
        "iou": float | None,
        "dice": float | None,
        "precision": float | None,
        "recall": float | None,
        "iou_95": tuple[float, float] | None,
    },
)
"""Figures of a class."""


class BoundaryRow(TypedDict):
    """Boundary measures at a distance, by class."""

    distance: str
    iou: ByClass
    f1: ByClass


class Scores(TypedDict):
    """Figures of probabilities; the curves need those of all classes."""

    pixels: int
    ece: float
    reliability: dict[str, list[float]]
    brier: NotRequired[float]
    nll: NotRequired[float]
    classwise_ece: NotRequired[float]
    average_precision: NotRequired[ByClass]
    roc_area: NotRequired[ByClass]
    curves: NotRequired[dict[str, dict[str, list[float]]]]


class SceneRow(Figures):
    """Figures of a scene."""

    scene: str
    prediction: str
    truth: str
    pixels: int
    coverage: Coverage
    confusion: list[list[int]]
    boundary_px: list[float]
    isbi: dict[str, float] | None


class Document(TypedDict):
    """All figures, as ``evaluation.json`` has them."""

    geoseg: str
    figures: Figures
    intervals_95: dict[str, object]
    """Their ends by figure, and what was drawn."""
    coverage: Coverage
    classes: list[ClassRow]
    confusion: list[list[int]]
    boundary: list[BoundaryRow]
    scores: Scores | None
    isbi: dict[str, float] | None
    scenes: list[SceneRow]
    unpaired: list[str]
    baselines: NotRequired[BaselineTable]


@dataclass(slots=True, eq=False)
class Measured:
    """Counts of one pair."""

    pair: Pair
    matrix: ConfusionMatrix
    boundary: BoundaryTally
    distances: tuple[float, ...]
    """In pixels of the map."""
    pixels: int = 0
    """Of the map."""
    labelled: int = 0
    """Pixels of the truth that are of a class."""
    not_analysed: int = 0
    """Of them, those that the map has not analysed."""
    no_data: int = 0
    """Of them, those where the map has no data."""
    curves: ScoreHistogram | None = None
    reliability: Tally | None = None
    errors: ErrorMap | None = None
    isbi: Mapping[str, float] | None = None


def document_of(
    scenes: Sequence[Measured], classes: Classes, distances: Sequence[str], alone: Sequence[str], seed: int
) -> tuple[Document, Intervals]:
    """All figures, for JSON: None where one is not defined; and the intervals.

    Args:
        scenes: What was counted.
        classes: The classes.
        distances: Of the boundary measures, as they were asked for.
        alone: Files without a partner.
        seed: Of the intervals.
    """
    count = len(classes.names)
    total = sum((scene.matrix for scene in scenes), ConfusionMatrix.zeros(count))
    counted = [scene.matrix for scene in scenes if scene.matrix.pixels]
    intervals = bootstrap(counted, np.random.default_rng(seed))
    # Pixels of scenes may be of different sizes: distances are those that were asked for, in each scene's pixels.
    boundary = sum((scene.boundary for scene in scenes), BoundaryTally.zeros(count, (0.0,) * len(distances)))
    document: Document = {
        "geoseg": geoseg.__version__,
        "figures": _figures(total),
        "intervals_95": {"of": "scenes drawn with replacement", "scenes": len(counted), "seed": seed, **intervals},
        "coverage": _coverage(scenes),
        "classes": _class_rows(total, classes, intervals),
        "confusion": total.counts.tolist(),
        "boundary": _boundary(boundary, classes, distances),
        "scores": _scores(scenes, classes),
        "isbi": _mean_isbi(scenes),
        "scenes": [_scene_row(scene) for scene in scenes],
        "unpaired": list(alone),
    }
    return document, intervals


def _scene_row(scene: Measured) -> SceneRow:
    return {
        "scene": scene.pair.name,
        "prediction": scene.pair.prediction,
        "truth": scene.pair.truth,
        "pixels": scene.matrix.pixels,
        **_figures(scene.matrix),
        "coverage": _coverage([scene]),
        "confusion": scene.matrix.counts.tolist(),
        "boundary_px": list(scene.distances),
        "isbi": None if scene.isbi is None else dict(scene.isbi),
    }


def _figures(matrix: ConfusionMatrix) -> Figures:
    values = _plain(matrix.figures())
    return {
        "miou": values["miou"],
        "mean_dice": values["mean_dice"],
        "accuracy": values["accuracy"],
        "kappa": values["kappa"],
        "mcc": values["mcc"],
    }


def _class_rows(total: ConfusionMatrix, classes: Classes, intervals: Intervals) -> list[ClassRow]:
    by_class = class_figures(total.counts)
    support = total.support().tolist()

    def row(name: str, k: int) -> ClassRow:
        values = _plain({key: float(figures[k]) for key, figures in by_class.items()})
        return {
            "class": name,
            "code": k,
            "pixels": support[k],
            "iou": values["iou"],
            "dice": values["dice"],
            "precision": values["precision"],
            "recall": values["recall"],
            "iou_95": intervals.get(f"iou:{k}"),
        }

    return [row(name, k) for k, name in enumerate(classes.names)]


def _boundary(tally: BoundaryTally, classes: Classes, distances: Sequence[str]) -> list[BoundaryRow]:
    iou, f1 = tally.iou(), tally.f1()
    return [
        {
            "distance": text,
            "iou": _plain(dict(zip(classes.names, iou[d].tolist(), strict=True))),
            "f1": _plain(dict(zip(classes.names, f1[d].tolist(), strict=True))),
        }
        for d, text in enumerate(distances)
    ]


def _scores(scenes: Sequence[Measured], classes: Classes) -> Scores | None:
    curves = [scene.curves for scene in scenes if scene.curves is not None]
    tallies = [scene.reliability for scene in scenes if scene.reliability is not None]
    if not tallies:
        return None
    tally = sum(tallies[1:], tallies[0])
    found: Scores = {"pixels": tally.pixels, "ece": tally.ece(), "reliability": tally.diagram().to_json()}
    if curves:
        total = sum(curves[1:], curves[0])
        found["brier"], found["nll"], found["classwise_ece"] = tally.brier, tally.nll, tally.classwise_ece()
        found["average_precision"] = _plain({name: total.average_precision(k) for k, name in enumerate(classes.names)})
        found["roc_area"] = _plain({name: total.roc_area(k) for k, name in enumerate(classes.names)})
        found["curves"] = {
            name: dict(zip(("threshold", "precision", "recall"), (v.tolist() for v in total.precision_recall(k)), strict=True))
            for k, name in enumerate(classes.names)
        }
    return found


def _coverage(scenes: Sequence[Measured]) -> Coverage:
    labelled = sum(scene.labelled for scene in scenes)
    missing = sum(scene.not_analysed for scene in scenes)
    empty = sum(scene.no_data for scene in scenes)
    return {
        "pixels": sum(scene.pixels for scene in scenes),
        "labelled": labelled,
        "compared": labelled - missing - empty,
        "not_analysed": missing,
        "no_data": empty,
        "share": None if not labelled else (labelled - missing - empty) / labelled,
    }


def _mean_isbi(scenes: Sequence[Measured]) -> dict[str, float] | None:
    found = [scene.isbi for scene in scenes if scene.isbi is not None]
    return {name: float(np.mean([scene[name] for scene in found])) for name in found[0]} if found else None


def _plain(values: Mapping[str, float]) -> dict[str, float | None]:
    """For JSON: None where a figure is not defined."""
    return {name: float(value) if np.isfinite(value) else None for name, value in values.items()}
