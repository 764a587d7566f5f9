"""The report of a training where figures are not defined."""

from __future__ import annotations

import numpy as np

from geoseg.evaluation.confusion import ConfusionMatrix
from geoseg.models.model_folder import load_model
from pipeline.train.report import ObjectFigures, Validation, readme


def test_figures_that_are_not_defined_are_dashes_and_null() -> None:
    """A detector that finds nothing in a scene of one class is judged, too."""
    card = load_model("amazon-forest").card
    matrix = ConfusionMatrix(np.array([[9, 0], [0, 0]], np.int64))
    objects = ObjectFigures(
        {"f1": None, "precision": None, "recall": 0.5}, 0, 2, iou=0.5, cross_fitted=True, windows=2, thresholds={"score": 0.0}
    )
    validation = Validation("0" * 64, matrix, (("scene", matrix),), ("other",), objects, None)
    text, document = readme(card, validation, "toy"), validation.to_json(card)
    assert "F1 **-**, precision -, recall 0.500, 2 in the truth" in text
    assert f"| {card.classes[1].name} | - | - | - | 0 |" in text
    assert document["classes"][1]["iou"] is None
    assert document["objects"]["f1"] is None
    assert "calibration" not in document
