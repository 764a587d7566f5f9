"""The folders of models that are made of others: of calibrated ones, with figures and reliability diagram, and of others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TypedDict

from geoseg.calibration.measures import Tally
from geoseg.calibration.selection import BEFORE
from geoseg.dialect import number_of
from geoseg.errors import OutputError
from geoseg.evaluation.reliability import draw_reliability
from geoseg.models.card import Card
from geoseg.models.model_folder import CARD, CONFIG, ONNX, README, WEIGHTS, Model, load_model
from pipeline.files.atomic import write_json
from pipeline.files.outputs import atomic_folder, check_new_folder

__all__ = ["CalibrationReport", "target_of", "write_calibrated", "write_readme"]

FIGURES, PICTURE = "calibration.json", "calibration.png"


class Part(TypedDict):
    """Pixels and scenes of one part of the division."""

    pixels: int
    scenes: list[str]


class CalibrationReport(TypedDict):
    """Content of ``calibration.json``."""

    model: str
    model_sha256: str
    method: str
    seed: int
    fitted_on: Part
    held_out: Part
    measures: dict[str, dict[str, float]]
    """By method."""
    intervals_95: dict[str, dict[str, tuple[float, float]]]
    """By method: before, and the chosen one."""
    reliability: dict[str, dict[str, list[float]]]
    """Diagrams of the same."""


def target_of(model: Model, out: Path | None, ending: str, *, overwrite: bool) -> Path:
    """The folder to make of a model: the one that is asked for, or one of its name and an ending, here.

    Raises:
        OutputError: It is the model's own, or there.
    """
    out = out or Path(f"{model.card.name}{ending}")
    if out.exists() and out.resolve() == model.path.resolve():
        raise OutputError(f"{out}: is the model itself; choose another --out")
    check_new_folder(out, overwrite=overwrite)
    return out


def write_readme(model: Model, card: Card, folder: Path, heading: str, text: str) -> None:
    """Write the README of a model that was made of another: what the other's says, and a section in place of an earlier one."""
    given = model.path / README
    whole = given.read_text(encoding="utf-8") if given.is_file() else f"# {card.name}\n\n{card.description}\n"
    before = whole.split(f"\n{heading}\n")[0].rstrip()
    (folder / README).write_text(f"{before}\n\n{heading}\n\n{text}", encoding="utf-8")


def write_calibrated(
    model: Model, card: Card, tallies: dict[str, Tally], chosen: str, figures: CalibrationReport, out: Path, *, overwrite: bool
) -> Model:
    """Write the model with another card, its figures and its reliability diagram, whole or not at all.

    Args:
        model: The model as it was.
        card: Its card with the calibration.
        tallies: Measures by method.
        chosen: The method of the card.
        figures: For ``calibration.json``.
        out: The model folder to make.
        overwrite: Replace a folder that is there.
    """
    with atomic_folder(out, replace=overwrite) as folder:
        for name in (CONFIG, ONNX, WEIGHTS):
            if (model.path / name).is_file():
                shutil.copyfile(model.path / name, folder / name)
        card.write(folder / CARD)
        write_json(folder / FIGURES, json.loads(json.dumps(figures)))
        diagrams = {name: tallies[name].diagram() for name in dict.fromkeys((BEFORE, chosen))}
        draw_reliability(diagrams, folder / PICTURE, title=f"{card.name}, held-out pixels")
        write_readme(model, card, folder, "## Calibration", _readme(figures))
        # What can't be loaded is not published.
        load_model(str(folder))
    return load_model(str(out))


def _readme(figures: CalibrationReport) -> str:
    lines = [
        (
            f"Method: {figures['method']}. Fitted on {figures['fitted_on']['pixels']:,} pixels of "
            f"{number_of(len(figures['fitted_on']['scenes']), 'scene')}, measured on {figures['held_out']['pixels']:,} pixels of "
            f"{len(figures['held_out']['scenes'])} scenes that were held out (of several methods, the one was taken under which "
            "these are likeliest). In brackets: 95 % interval over scenes.\n"
        ),
        "| | ECE | class-wise ECE | Brier score | NLL | accuracy |",
        "|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys((BEFORE, figures["method"])):
        values, ranges = figures["measures"][name], figures["intervals_95"][name]

        def cell(key: str, values: dict[str, float] = values, ranges: dict[str, tuple[float, float]] = ranges) -> str:
            interval = f" ({ranges[key][0]:.4f} to {ranges[key][1]:.4f})" if key in ranges else ""
            return f"{values[key]:.4f}{interval}"

        lines.append(f"| {name} | " + " | ".join(cell(k) for k in ("ece", "classwise_ece", "brier", "nll", "accuracy")) + " |")
    return "\n".join(lines) + f"\n\n![Reliability diagram]({PICTURE})\n"
