"""Files of an evaluation: JSON, CSV, and a report in one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from geoseg.dialect import number_of
from geoseg.errors import ConfigError
from geoseg.evaluation.confusion import SCALARS
from geoseg.evaluation.pictures import confusion_svg, curves_svg, png_uri, reliability_svg
from geoseg.formats.page.elements import Entry, Inline, Link, Links, Page, Part, Picture, Pictures, Section, Swatch, Table, Words
from geoseg.formats.page.rendering import render
from geoseg.formats.text import write_table
from pipeline.evaluate.classical_table import BASELINES, baseline_rows, baseline_section
from pipeline.evaluate.document import Document, Figures, Intervals, SceneRow
from pipeline.evaluate.run import Evaluation
from pipeline.files.atomic import write_json
from pipeline.files.outputs import atomic_folder
from pipeline.files.version import code_version

__all__ = ["by_name", "write_evaluation"]

JSON, SCENES, CLASSES, REPORT = "evaluation.json", "scenes.csv", "classes.csv", "report.html"
PICTURES = 24
"""Most error maps in a report; the worst scenes come first."""
TITLES = {"miou": "mean IoU", "mean_dice": "mean Dice (F1)", "accuracy": "accuracy", "kappa": "Cohen's kappa", "mcc": "MCC"}
ERRORS = (
    Swatch("#295938", "right"),
    Swatch("#edede6", "right, class 0"),
    Swatch("#d95e00", "wrong, another class is mapped"),
    Swatch("#75299e", "wrong, class 0 is mapped"),
    Swatch("#b8b8b8", "not compared"),
)
"""Colours of error maps."""


def write_evaluation(found: Evaluation, out: Path, *, overwrite: bool = False) -> None:
    """Write ``evaluation.json``, ``scenes.csv``, ``classes.csv``, ``report.html``, and ``baselines.csv`` if asked, all or none.

    Raises:
        ConfigError: matplotlib, which draws the report, is not installed.
    """
    try:
        import matplotlib  # noqa: F401, ICN001 - looked for, not used
    except ImportError as error:
        raise ConfigError("evaluate: the report needs matplotlib; pip install 'geoseg[train]'") from error
    with atomic_folder(out, replace=overwrite) as folder:
        write_json(folder / JSON, found.document)
        _write_csv(folder / SCENES, _scene_rows(found.document))
        _write_csv(folder / CLASSES, _class_rows(found.document))
        if "baselines" in found.document:
            _write_csv(folder / BASELINES, baseline_rows(found.document["baselines"]))
        (folder / REPORT).write_text(render(report(found)), encoding="utf-8")


def _write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    write_table(path, list(rows[0]), rows)


def _scene_rows(document: Document) -> list[dict[str, object]]:
    """A row a scene, and one of all together."""
    whole: SceneRow = {
        "scene": "all",
        "prediction": "",
        "truth": "",
        "pixels": document["coverage"]["compared"],
        **document["figures"],
        "coverage": document["coverage"],
        "confusion": document["confusion"],
        "boundary_px": [],
        "isbi": document["isbi"],
    }
    rows = []
    for scene in [*document["scenes"], whole]:
        facts: dict[str, object] = {**scene}
        row = {key: facts[key] for key in ("scene", "prediction", "truth", "pixels", *SCALARS)}
        row |= {key: scene["coverage"][key] for key in ("labelled", "not_analysed", "no_data")}
        rows.append(row | (scene["isbi"] or dict.fromkeys(document["isbi"] or {})))
    return rows


def _class_rows(document: Document) -> list[dict[str, object]]:
    rows = []
    for entry in document["classes"]:
        low, high = entry["iou_95"] or (None, None)
        row: dict[str, object] = {key: value for key, value in entry.items() if key != "iou_95"}
        row |= {"iou_low": low, "iou_high": high}
        for line in document["boundary"]:
            row[f"boundary_iou_{line['distance']}"] = line["iou"][entry["class"]]
            row[f"boundary_f1_{line['distance']}"] = line["f1"][entry["class"]]
        rows.append(row)
    return rows


def report(found: Evaluation) -> Page:
    """The report as a page."""
    document, figures = found.document, by_name(found.document["figures"])
    count = len(document["scenes"])
    beside = [baseline_section(document["baselines"])] if "baselines" in document else []
    files = [Link(JSON, "all figures, for programs"), Link(SCENES), Link(CLASSES), *(Link(BASELINES) for _ in beside)]
    sections = [
        Section("What was compared", tuple(_summary(document))),
        _figures(document, found.intervals),
        *beside,
        _classes(document),
        *_boundaries(document),
        _confusion(document),
        *_scores(document),
        *_isbi(document),
        _scenes(document),
        _pictures(found),
        Section("Files", (Links(tuple(files)),)),
    ]
    return Page(
        title=f"{number_of(count, 'map')} against the truth",
        kind="Evaluation",
        lead=tuple(Entry(TITLES[name], _number(figures[name])) for name in SCALARS),
        sections=tuple(sections),
        footer=f"Made by geoseg {code_version()}.",
    )


def _summary(document: Document) -> list[Words]:
    coverage = document["coverage"]
    share = "" if coverage["share"] is None else f" ({100 * coverage['share']:.2f} %)"
    parts = [
        Words(
            f"Of {coverage['pixels']:,} pixels {coverage['labelled']:,} are labelled, of which {coverage['compared']:,} are "
            f"compared{share}. {coverage['not_analysed']:,} were not analysed and {coverage['no_data']:,} have no data in the "
            "map: they count neither as right nor as wrong."
        )
    ]
    if document["unpaired"]:
        parts.append(Words(f"Left out, for they have no partner: {', '.join(document['unpaired'])}."))
    return parts


def _figures(document: Document, intervals: Intervals) -> Section:
    drawn = sum(scene["pixels"] > 0 for scene in document["scenes"])
    values = by_name(document["figures"])
    rows = [[TITLES[name], _number(values[name]), _interval(intervals.get(name))] for name in SCALARS]
    note = (
        f"Intervals come from drawing the {drawn} scenes with replacement. They say nothing of places that none of "
        "the scenes is like."
        if drawn > 1
        else "There is no interval: pixels of a single scene are too alike to say how other scenes would do."
    )
    table = _table(("Figure", "#Value", "#95 % interval"), rows, "All compared pixels together")
    return Section("Figures", (table, Words(note)))


def _classes(document: Document) -> Section:
    head = ("Class", "#IoU", "#95 % interval", "#Dice (F1)", "#Precision", "#Recall", "#Pixels in the truth")
    rows = [
        [
            c["class"],
            _number(c["iou"]),
            _interval(c["iou_95"]),
            _number(c["dice"]),
            _number(c["precision"]),
            _number(c["recall"]),
            f"{c['pixels']:,}",
        ]
        for c in document["classes"]
    ]
    return Section("Classes", (_table(head, rows, "Figures by class"),))


def _boundaries(document: Document) -> list[Section]:
    if not document["boundary"]:
        return []
    names = [c["class"] for c in document["classes"]]
    head = ("Distance", *(f"#IoU {name}" for name in names), *(f"#F1 {name}" for name in names))
    rows = [
        [line["distance"], *(_number(line["iou"][n]) for n in names), *(_number(line["f1"][n]) for n in names)]
        for line in document["boundary"]
    ]
    note = (
        "Boundary IoU: of the pixels of a class at most this far from its boundary. Boundary F1: boundary pixels at most "
        "this far off."
    )
    return [Section("Boundaries", (_table(head, rows, note),))]


def _confusion(document: Document) -> Section:
    names = [c["class"] for c in document["classes"]]
    rows = [[name, *(f"{value:,}" for value in row)] for name, row in zip(names, document["confusion"], strict=True)]
    picture = Inline(confusion_svg(document["confusion"], names), "Confusion matrix", "Shares of each class of the truth.")
    return Section("Confusion", (picture, _table(("Truth \\ map", *(f"#{name}" for name in names)), rows, "Pixels")))


def _scores(document: Document) -> list[Section]:
    scores = document["scores"]
    if scores is None:
        return []
    parts: list[Part] = []
    if "curves" in scores:
        curves = curves_svg(scores["curves"], scores["average_precision"])
        parts.append(Inline(curves, "Precision against recall by class", "What other thresholds would give."))
    diagram = reliability_svg(scores["reliability"], scores["ece"])
    caption = "How often the map is right where it says how sure it is. ECE: expected calibration error."
    return [Section("Probabilities", (*parts, Inline(diagram, "Reliability diagram", caption)))]


def _isbi(document: Document) -> list[Section]:
    found = document["isbi"]
    if found is None:
        return []
    rows = [[name.replace("_", " "), _number(value)] for name, value in found.items()]
    table = _table(("Measure", "#Mean over scenes"), rows, "Measures of the ISBI 2012 challenge")
    return [Section("Objects and borders", (table,))]


def _scenes(document: Document) -> Section:
    head = ("Scene", *(f"#{TITLES[name]}" for name in SCALARS), "#Compared", "#Not analysed")
    rows = [
        [s["scene"], *map(_number, by_name(s).values()), f"{s['pixels']:,}", f"{s['coverage']['not_analysed']:,}"]
        for s in sorted(document["scenes"], key=_badness)
    ]
    return Section("Scenes", (_table(head, rows, "The worst first"),))


def _badness(scene: SceneRow) -> tuple[bool, float, str]:
    return scene["miou"] is None, scene["miou"] or 0.0, scene["scene"]


def _pictures(found: Evaluation) -> Section:
    measured = {scene.pair.name: scene for scene in found.scenes}
    shown = []
    for scene in sorted(found.document["scenes"], key=_badness)[:PICTURES]:
        errors = measured[scene["scene"]].errors
        if errors is None or scene["miou"] is None:
            continue
        text, image = f"{scene['scene']}: mean IoU {_number(scene['miou'])}", errors.picture()
        shown.append(Picture(png_uri(image), image.shape[1], image.shape[0], f"Error map of {text}", text, crisp=True))
    zero = found.classes.names[0]
    legend = tuple(replace(one, name=one.name.replace("class 0", f"class 0 ({zero})")) for one in ERRORS)
    more = [Words(f"The {PICTURES} worst of {len(found.scenes)} scenes.")] if len(found.scenes) > PICTURES else []
    return Section("Where the maps are wrong", (Pictures(tuple(shown), legend), *more))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> Table:
    return Table.of(caption, head, [[*row] for row in rows])


def by_name(figures: Figures) -> dict[str, float | None]:
    """The figures of ``SCALARS`` by name."""
    return {
        "miou": figures["miou"],
        "mean_dice": figures["mean_dice"],
        "accuracy": figures["accuracy"],
        "kappa": figures["kappa"],
        "mcc": figures["mcc"],
    }


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _interval(values: Sequence[float] | None) -> str:
    return "-" if values is None else f"{values[0]:.4f} to {values[1]:.4f}"
