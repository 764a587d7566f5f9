"""Judgement of a finished model that regresses, on held-out data, through the engine that will run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from geoseg.errors import ConfigError
from geoseg.evaluation.value_errors import FIGURES, ErrorSums
from geoseg.models.card import Card
from geoseg.models.model_folder import Model
from geoseg.training.validation import judge, open_for_chips
from pipeline.train.data import TrainingData

__all__ = ["ValueValidation", "judge_values"]

SIDE = 1024


@dataclass(frozen=True, slots=True, eq=False)
class ValueValidation:
    """A model that regresses on held-out data."""

    data: str
    """Fingerprint of the data."""
    total: ErrorSums
    """Over all scenes."""
    scenes: tuple[tuple[str, ErrorSums], ...]
    """By scene."""
    trained_on: tuple[str, ...]
    """Names of scenes."""

    @property
    def pixels(self) -> int:
        """Pixels that it was judged on."""
        return self.total.pixels

    def to_json(self, card: Card) -> dict[str, object]:
        """For ``validation.json``."""
        assert card.quantity is not None
        return {
            "model": card.name,
            "data": self.data,
            "quantity": card.quantity.name,
            "unit": card.quantity.unit,
            "pixels": self.total.pixels,
            **_plain(self.total),
            "scenes": [{"scene": name, "pixels": sums.pixels, **_plain(sums)} for name, sums in self.scenes],
            "trained_on": list(self.trained_on),
        }

    def headline(self, card: Card) -> str:
        """The figures in a sentence."""
        assert card.quantity is not None
        figures, unit = _plain(self.total), card.quantity.suffix
        rmse, mae, bias, r2 = ("-" if figures[name] is None else f"{figures[name]:.4g}" for name in FIGURES)
        return f"RMSE **{rmse}{unit}**, MAE {mae}{unit}, bias {bias}{unit}, R2 {r2}"

    def rows(self, card: Card) -> list[str]:
        """Lines of a Markdown table of the figures by scene."""
        assert card.quantity is not None
        lines = [f"| Scene | RMSE | MAE | bias | R2 | pixels, {card.quantity.title} |", "|---|---|---|---|---|---|"]
        for name, sums in self.scenes:
            figures = _plain(sums)
            cells = " | ".join("-" if figures[key] is None else f"{figures[key]:.4g}" for key in FIGURES)
            lines.append(f"| {name} | {cells} | {sums.pixels:,} |")
        return lines


def _plain(sums: ErrorSums) -> Mapping[str, float | None]:
    return {name: value if np.isfinite(value) else None for name, value in sums.figures().items()}


def judge_values(model: Model, data: TrainingData, engine: str) -> ValueValidation:
    """Run a model over the validation data, which chose the checkpoint.

    Args:
        model: The model.
        data: What it is judged on.
        engine: ``onnx``, ``torch``, or ``auto`` for the one that will run it here.

    Raises:
        ConfigError: No pixel has a number.
    """
    quantity, running = model.card.quantity, open_for_chips(model, engine)
    assert quantity is not None
    found: dict[int, ErrorSums] = {}
    areas = [(k, part) for k, area in data.areas for part in area.parts(SIDE)]
    # Near the values, so that their squares lose no digits.
    shift = quantity.intercept
    for one in judge(running, model.card, data.validation, areas=areas):
        assert one.numbers is not None
        values = quantity.values(one.scores[0])
        sums = ErrorSums.tally(one.numbers.astype(np.float64), values, shift)
        found[one.source] = found.get(one.source, ErrorSums.zeros(shift)) + sums
    if not found:
        raise ConfigError("data: the validation data holds no number")
    by_scene = tuple((data.validation[k].name, sums) for k, sums in sorted(found.items()))
    trained_on = tuple(source.name for source in data.training)
    return ValueValidation(data.fingerprint, sum(found.values(), ErrorSums.zeros(shift)), by_scene, trained_on)
