"""The report of a training: figures on held-out data, as ``validation.json`` and as the README of the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from geoseg.calibration.selection import BEFORE
from geoseg.dialect import number_of
from geoseg.digits import count_text
from geoseg.evaluation.confusion import ConfusionMatrix, class_figures
from geoseg.models.card import Card
from pipeline.train.value_judging import ValueValidation

__all__ = ["CalibrationFigures", "Figure", "ObjectFigures", "Validation", "readme", "rounded"]

Figure = float | int | None
"""None where it is not defined."""


def rounded(value: float | np.floating | np.integer) -> Figure:
    """A figure for JSON."""
    if isinstance(value, np.integer):
        return int(value)
    return round(float(value), 6) if np.isfinite(value) else None


@dataclass(frozen=True, slots=True, eq=False)
class ObjectFigures:
    """Figures of objects that were matched with labelled ones."""

    figures: Mapping[str, Figure]
    """F1, precision, recall, panoptic quality, average precision."""
    found: int
    truth: int
    iou: float
    """Intersection over union from which on two match."""
    cross_fitted: bool
    """Whether thresholds were chosen on other windows than those that they were judged on."""
    windows: int
    thresholds: Mapping[str, float]
    """Those chosen on all windows."""

    def to_json(self) -> dict[str, object]:
        """For ``validation.json``."""
        return {
            **self.figures,
            "found": self.found,
            "truth": self.truth,
            "iou": self.iou,
            "cross_fitted": self.cross_fitted,
            "windows": self.windows,
            "thresholds": dict(self.thresholds),
        }


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationFigures:
    """Figures of calibrations, on data that they were not fitted on."""

    method: str
    """The one that was chosen; ``none`` where none could be fitted or measured."""
    reason: str | None = None
    """Why there is none."""
    measures: Mapping[str, Mapping[str, Figure]] | None = None
    """By method."""
    reliability: Mapping[str, Mapping[str, list[float]]] | None = None
    """Diagrams before and after."""

    def to_json(self) -> dict[str, object]:
        """For ``validation.json``."""
        if self.reason is not None:
            return {"method": self.method, "reason": self.reason}
        return {"method": self.method, "measures": self.measures, "reliability": self.reliability}


@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    """A model on held-out data."""

    data: str
    """Fingerprint of the data."""
    matrix: ConfusionMatrix
    """Of the network before calibration, over all scenes."""
    scenes: tuple[tuple[str, ConfusionMatrix], ...]
    """The same by scene."""
    trained_on: tuple[str, ...]
    """Names of scenes."""
    objects: ObjectFigures | None
    """None for models that don't distinguish objects."""
    calibration: CalibrationFigures | None
    """None where none was asked for."""

    @property
    def pixels(self) -> int:
        """Pixels that it was judged on."""
        return self.matrix.pixels

    def headline(self, card: Card) -> str:
        """The figures in a sentence."""
        del card
        miou, accuracy = (_short(rounded(value)) for value in (self.matrix.miou(), self.matrix.accuracy()))
        return f"mean IoU **{miou}**, accuracy {accuracy}"

    def rows(self, card: Card) -> list[str]:
        """Lines of a Markdown table of the figures by class, and what follows it."""
        lines = ["| Class | IoU | precision | recall | pixels |", "|---|---|---|---|---|"]
        for entry, row in zip(card.classes, self.by_class(), strict=True):
            cells = " | ".join(_short(row[key]) for key in ("iou", "precision", "recall"))
            lines.append(f"| {entry.name} | {cells} | {row['pixels']:,} |")
        return lines + _objects(self.objects) + _calibration(self.calibration)

    def by_class(self) -> list[dict[str, Figure]]:
        """IoU, precision, recall and so on, and pixels, by class."""
        columns = class_figures(self.matrix.counts) | {"pixels": self.matrix.support()}
        return [{name: rounded(values[k]) for name, values in columns.items()} for k in range(len(self.matrix.counts))]

    def to_json(self, card: Card) -> dict[str, object]:
        """For ``validation.json``."""
        rows = zip(card.classes, self.by_class(), strict=True)
        document: dict[str, object] = {
            "model": card.name,
            "data": self.data,
            "pixels": self.matrix.pixels,
            **{name: rounded(value) for name, value in self.matrix.figures().items()},
            "classes": [{"class": entry.name, "code": entry.value, **figures} for entry, figures in rows],
            "confusion": self.matrix.counts.tolist(),
            "scenes": [
                {"scene": name, "miou": rounded(m.miou()), "pixels": m.pixels, "confusion": m.counts.tolist()}
                for name, m in self.scenes
            ],
            "trained_on": list(self.trained_on),
        }
        for key, part in (("objects", self.objects), ("calibration", self.calibration)):
            if part is not None:
                document[key] = part.to_json()
        return document


def readme(card: Card, validation: Validation | ValueValidation, recipe: str) -> str:
    """The README of a model: its data, its figures on held-out data, its licence.

    Args:
        card: The model's.
        validation: Its figures.
        recipe: Name of the recipe.
    """
    field = card.receptive_field
    sources = (
        "; ".join(f"{s.name} ({s.license}){f'. {s.attribution}' if s.attribution else ''}" for s in card.data) or "not stated"
    )
    lines = [
        f"# {card.name}",
        "",
        f"{card.description}",
        "",
        "| | |",
        "|---|---|",
        f"| Network | {card.architecture}, {count_text(card.total_parameters)} parameters |",
        f"| Data | {sources} |",
        f"| Trained on | {number_of(len(validation.trained_on), 'scene')} |",
        (
            f"| Held out | {number_of(len(validation.scenes), 'scene')}, {validation.pixels:,} labelled pixels, which chose the "
            f"checkpoint: {validation.headline(card)} |"
        ),
        f"| Receptive field | {'the whole tile' if field is None or card.global_context else f'{field.reach} px to each side'} |",
        f"| Licence of the weights | {card.license} |",
        "",
        *validation.rows(card),
    ]
    lines += ["", f"Made by `geoseg train` from `{recipe}`; see `training/` for the recipe, the curve and the report."]
    return "\n".join(lines) + "\n"


def _short(value: Figure) -> str:
    return "-" if value is None else f"{value:.3f}"


def _objects(objects: ObjectFigures | None) -> list[str]:
    if objects is None:
        return []
    figures = {name: _short(objects.figures[name]) for name in ("f1", "precision", "recall")}
    chosen = "thresholds were those chosen on the other windows." if objects.cross_fitted else "this chose the thresholds."
    return [
        "",
        (
            f"Objects, matched at an intersection over union of {objects.iou:g}: F1 **{figures['f1']}**, precision "
            f"{figures['precision']}, recall {figures['recall']}, {objects.truth} in the truth; {chosen}"
        ),
    ]


def _calibration(calibration: CalibrationFigures | None) -> list[str]:
    if calibration is None or calibration.measures is None:
        return []
    before, after = (calibration.measures[name] for name in (BEFORE, calibration.method))
    return [
        "",
        (
            f"Calibration ({calibration.method}), on data that it was not fitted on: expected calibration error "
            f"{before['ece']:.4f} before, {after['ece']:.4f} after; negative log-likelihood {before['nll']:.4f}, "
            f"{after['nll']:.4f}."
        ),
    ]
