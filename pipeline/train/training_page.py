"""``training/report.html`` of a model: how good it is on held-out data, how it came there, and what it sees."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoseg.calibration.selection import BEFORE
from geoseg.dialect import number_of
from geoseg.digits import count_text
from geoseg.errors import SceneError
from geoseg.evaluation.value_errors import VALUE_TITLES, value_text
from geoseg.formats.page.amounts import percent, share_of
from geoseg.formats.page.elements import (
    Cell,
    Entry,
    Facts,
    Link,
    Links,
    Minded,
    Notes,
    Page,
    Picture,
    Pictures,
    Row,
    Section,
    Swatch,
    Table,
    Words,
)
from geoseg.formats.page.embedding import photo
from geoseg.formats.page.plots import Line, curve_plot
from geoseg.formats.page.rendering import render
from geoseg.models.card import Card
from geoseg.scenes.gdal import open_picture
from pipeline.files.version import code_version
from pipeline.train.report import Figure, Validation, rounded
from pipeline.train.value_judging import ValueValidation

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["training_page", "value_training_page", "write_training_page"]

PAGE = "report.html"
CURVES = (("loss", "training"), ("val/loss", "validation"))
PICTURE_SIDE, PICTURE_BYTES = 1200, 600_000
MOST_SCENES = 200
HELD_OUT = (
    "These scenes were held out, and chose the checkpoint: keep other scenes apart, and give them to geoseg evaluate, for "
    "figures that chose nothing."
)


def write_training_page(
    folder: Path, card: Card, validation: Validation | ValueValidation, notes: Sequence[str], difference: float | None
) -> None:
    """Write the page beside the curve and the pictures of a training.

    Args:
        folder: ``training`` of the model.
        card: The model's.
        validation: Its figures on held-out data.
        notes: What the training has said.
        difference: Largest difference between the engines; None where only torch runs it.
    """
    told = [*notes, *([] if difference is not None else ["the network can't be exported to ONNX; torch runs it"])]
    if isinstance(validation, ValueValidation):
        page = value_training_page(folder, card, validation, told)
    else:
        page = training_page(folder, card, validation, told)
    (folder / PAGE).write_text(render(page), encoding="utf-8")


def training_page(folder: Path, card: Card, validation: Validation, told: Sequence[str]) -> Page:
    """The page of a network that tells classes, as values."""
    matrix = validation.matrix
    return Page(
        title=f"{card.name} {card.version}",
        kind="Training",
        lead=(
            Entry("Mean IoU, held out", _number(rounded(matrix.miou()))),
            Entry("Accuracy, held out", _number(rounded(matrix.accuracy()))),
            Entry("Scenes held out", f"{len(validation.scenes):,}"),
            Entry("Scenes trained on", f"{len(validation.trained_on):,}"),
            Entry("Parameters", count_text(card.total_parameters)),
            Entry("To mind", str(len(told)) if told else "nothing", tone="warn" if told else ""),
        ),
        sections=(
            *_minded(told),
            _classes(card, validation),
            _confusion(card, validation),
            *_objects(validation),
            *_calibration(validation),
            *_curve(folder / "curve.csv"),
            *_pictures(folder / "pictures", card),
            _scenes(validation),
            _model(card),
            Section("Files", (Links(tuple(_links(folder))),)),
        ),
        footer=f"Made by geoseg {code_version()}.",
    )


def value_training_page(folder: Path, card: Card, validation: ValueValidation, told: Sequence[str]) -> Page:
    """The page of a network that regresses a number, as values."""
    assert card.quantity is not None
    figures, unit = validation.total.figures(), card.quantity.unit
    rows: list[Row] = [
        [name, *(value_text(key, value, unit) for key, value in sums.figures().items()), f"{sums.pixels:,}"]
        for name, sums in validation.scenes[:MOST_SCENES]
    ]
    heads = ("Scene", *(f"#{VALUE_TITLES[key]}" for key in figures), "#Pixels")
    return Page(
        title=f"{card.name} {card.version}",
        kind="Training",
        lead=(
            *(Entry(f"{VALUE_TITLES[key]}, held out", value_text(key, value, unit)) for key, value in figures.items()),
            Entry("Scenes held out", f"{len(validation.scenes):,}"),
            Entry("Scenes trained on", f"{len(validation.trained_on):,}"),
            Entry("Parameters", count_text(card.total_parameters)),
            Entry("To mind", str(len(told)) if told else "nothing", tone="warn" if told else ""),
        ),
        sections=(
            *_minded(told),
            Section("Scenes", (Words(HELD_OUT), Table.of(f"Held out: {card.quantity.title}", heads, rows))),
            *_curve(folder / "curve.csv"),
            _model(card),
            Section("Files", (Links(tuple(_links(folder))),)),
        ),
        footer=f"Made by geoseg {code_version()}.",
    )


def _minded(told: Sequence[str]) -> tuple[Section, ...]:
    return (Section("What to mind", (Notes(tuple(Minded(text) for text in told)),)),) if told else ()


def _classes(card: Card, validation: Validation) -> Section:
    rows: list[Row] = []
    for entry, figures in zip(card.classes, validation.by_class(), strict=True):
        iou = figures["iou"]
        cells = [_number(figures[name]) for name in ("precision", "recall")]
        bar = Cell(_number(iou), share=None if iou is None else float(iou))
        rows.append([Cell(entry.name, color=entry.color), bar, *cells, f"{figures['pixels']:,}"])
    words = Words(f"Over {validation.matrix.pixels:,} labelled pixels. {HELD_OUT}")
    table = Table.of("Before calibration", ("Class", "#IoU", "#Precision", "#Recall", "#Pixels of the truth"), rows)
    return Section("Classes on held-out data", (words, table))


def _confusion(card: Card, validation: Validation) -> Section:
    rows: list[Row] = []
    for entry, line in zip(card.classes, validation.matrix.counts.tolist(), strict=True):
        shares = [share_of(count, sum(line)) for count in line]
        rows.append([entry.name, *(Cell(percent(share), share=share) for share in shares)])
    heads = ("Truth", *(f"#mapped as {entry.name}" for entry in card.classes))
    return Section("What is taken for what", (Table.of("Shares of the pixels of each class of the truth", heads, rows),))


def _objects(validation: Validation) -> tuple[Section, ...]:
    objects = validation.objects
    if objects is None:
        return ()
    rows: list[Row] = [[name.replace("_", " "), _number(value)] for name, value in objects.figures.items()]
    found = number_of(objects.found, "object")
    caption = f"{found} found, {objects.truth:,} in the truth; a match has an IoU of {objects.iou:g} or more"
    return (Section("Objects", (Table.of(caption, ("Figure", "#Value"), rows),)),)


def _calibration(validation: Validation) -> tuple[Section, ...]:
    found = validation.calibration
    if found is None:
        return ()
    if found.measures is None:
        return (Section("Calibration", (Words(f"None: {found.reason or found.method}."),)),)
    names = {BEFORE: "before", found.method: f"after ({found.method})"}
    rows: list[Row] = [
        [name, _number(found.measures[method]["ece"]), _number(found.measures[method]["nll"])] for method, name in names.items()
    ]
    head = ("Probabilities", "#Expected calibration error", "#Negative log-likelihood")
    return (Section("Calibration", (Table.of("On data that it was not fitted on", head, rows),)),)


def _curve(path: Path) -> tuple[Section, ...]:
    if not path.is_file():
        return ()
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    losses = _lines(rows, CURVES)
    figures = _lines(rows, (("val/miou", "mean IoU"),))
    plots = [
        *([curve_plot("Loss", "Loss of training and validation at each check.", losses, "steps")] if losses else []),
        *([curve_plot("Mean IoU", "Mean IoU of windows of validation at each check.", figures, "steps")] if figures else []),
    ]
    return (Section("How it learned", tuple(plots)),) if plots else ()


def _lines(rows: Sequence[dict[str, str]], columns: Sequence[tuple[str, str]]) -> list[Line]:
    found = []
    for column, name in columns:
        points = [(float(row["step"]), float(row.get(column) or "nan")) for row in rows]
        if known := tuple((step, value) for step, value in points if math.isfinite(value)):
            found.append(Line(name, known))
    return found


def _pictures(folder: Path, card: Card) -> tuple[Section, ...]:
    paths = sorted(folder.glob("*.png"))
    if not paths:
        return ()
    try:
        with open_picture(str(paths[-1])) as image:
            shown = _picture(image, paths[-1].stem)
    except (SceneError, OSError, ValueError):
        return ()
    legend = tuple(Swatch(entry.color, entry.name) for entry in card.classes)
    return (Section("What it sees", (Pictures((shown,), legend),)),)


def _picture(image: Image, name: str) -> Picture:
    caption = "Image, truth and prediction of chips that were held out; grey: without a label"
    pixels = np.asarray(image.convert("RGB"))
    return photo(
        pixels, f"Image, truth and prediction of held-out chips at {name}", caption, side=PICTURE_SIDE, most=PICTURE_BYTES
    )


def _scenes(validation: Validation) -> Section:
    found = sorted(validation.scenes, key=lambda one: (not math.isfinite(one[1].miou()), one[1].miou(), one[0]))
    rows: list[Row] = [[name, _number(rounded(matrix.miou())), f"{matrix.pixels:,}"] for name, matrix in found[:MOST_SCENES]]
    table = Table.of("Held out, the worst first", ("Scene", "#Mean IoU", "#Labelled pixels"), rows)
    left = len(found) - MOST_SCENES
    more = [Words(f"{left:,} more are in validation.json.")] if left > 0 else []
    return Section("Scenes", (table, *more))


def _model(card: Card) -> Section:
    entries = [
        Entry("Made for", card.description),
        Entry("Network", card.architecture),
        Entry("Bands", ", ".join(card.bands)),
        *([] if card.gsd_m is None else [Entry("Pixels that it learned from", f"{card.gsd_m:g} m")]),
        *(Entry("Learned from", f"{source.name} ({source.license})") for source in card.data),
        Entry("Licence of the weights", card.license),
    ]
    return Section("The model", (Facts(tuple(entry for entry in entries if entry.text)),))


def _links(folder: Path) -> Iterator[Link]:
    about = {
        "validation.json": "all figures, for programs",
        "curve.csv": "the loss and the figures at each check",
        "recipe.json": "what was asked for",
    }
    for name, text in about.items():
        if (folder / name).is_file():
            yield Link(name, text)


def _number(value: Figure) -> str:
    return "-" if value is None else f"{value:.4f}"
