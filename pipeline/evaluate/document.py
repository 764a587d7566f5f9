"""What an evaluation says: pooled figures, intervals, and those of each scene, as one document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import geoseg
from geoseg.calibration.measures import Tally
from geoseg.evaluation.boundary import BoundaryTally
from geoseg.evaluation.confusion import ConfusionMatrix, class_figures
from geoseg.evaluation.curves import ScoreHistogram
from geoseg.evaluation.errormap import ErrorMap
from geoseg.evaluation.intervals import bootstrap
from pipeline.evaluate.pairs import Classes, Pair

__all__ = ["Measured", "document_of"]


@dataclass(slots=True, eq=False)
class Measured:
    """What was counted in one pair."""

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
) -> dict[str, Any]:
    """All figures, for JSON: None where one is not defined.

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
    return {
        "geoseg": geoseg.__version__,
        "figures": _plain(total.figures()),
        "intervals_95": {"of": "scenes drawn with replacement", "scenes": len(counted), "seed": seed, **intervals},
        "coverage": _coverage(scenes),
        "classes": _class_rows(total, classes, intervals),
        "confusion": total.counts.tolist(),
        "boundary": _boundary(boundary, classes, distances),
        "scores": _scores(scenes, classes),
        "isbi": _mean_isbi(scenes),
        "scenes": [
            {
                "scene": scene.pair.name,
                "prediction": scene.pair.prediction,
                "truth": scene.pair.truth,
                "pixels": scene.matrix.pixels,
                **_plain(scene.matrix.figures()),
                "coverage": _coverage([scene]),
                "confusion": scene.matrix.counts.tolist(),
                "boundary_px": list(scene.distances),
                "isbi": None if scene.isbi is None else dict(scene.isbi),
            }
            for scene in scenes
        ],
        "unpaired": list(alone),
    }


def _class_rows(total: ConfusionMatrix, classes: Classes, intervals: Mapping[str, Any]) -> list[dict[str, Any]]:
    by_class = {name: values.tolist() for name, values in class_figures(total.counts).items()}
    support = total.support().tolist()
    return [
        {
            "class": name,
            "code": k,
            "pixels": support[k],
            **_plain({key: values[k] for key, values in by_class.items()}),
            "iou_95": intervals.get(f"iou:{k}"),
        }
        for k, name in enumerate(classes.names)
    ]


def _boundary(tally: BoundaryTally, classes: Classes, distances: Sequence[str]) -> list[dict[str, Any]]:
    iou, f1 = tally.iou(), tally.f1()
    return [
        {
            "distance": text,
            "iou": _plain(dict(zip(classes.names, iou[d].tolist(), strict=True))),
            "f1": _plain(dict(zip(classes.names, f1[d].tolist(), strict=True))),
        }
        for d, text in enumerate(distances)
    ]


def _scores(scenes: Sequence[Measured], classes: Classes) -> dict[str, Any] | None:
    curves = [scene.curves for scene in scenes if scene.curves is not None]
    tallies = [scene.reliability for scene in scenes if scene.reliability is not None]
    if not tallies:
        return None
    tally = sum(tallies[1:], tallies[0])
    found: dict[str, Any] = {"pixels": tally.pixels, "ece": tally.ece(), "reliability": tally.diagram().to_json()}
    if curves:
        total = sum(curves[1:], curves[0])
        found |= {"brier": tally.brier, "nll": tally.nll, "classwise_ece": tally.classwise_ece()}
        found["average_precision"] = _plain({name: total.average_precision(k) for k, name in enumerate(classes.names)})
        found["roc_area"] = _plain({name: total.roc_area(k) for k, name in enumerate(classes.names)})
        found["curves"] = {
            name: dict(zip(("threshold", "precision", "recall"), (v.tolist() for v in total.precision_recall(k)), strict=True))
            for k, name in enumerate(classes.names)
        }
    return found


def _coverage(scenes: Sequence[Measured]) -> dict[str, Any]:
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
