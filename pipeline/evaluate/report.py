"""Files of an evaluation: JSON, CSV, and a report in one HTML file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from geoseg.errors import ConfigError
from geoseg.evaluation.confusion import SCALARS
from geoseg.evaluation.pictures import confusion_svg, curves_svg, png_uri, reliability_svg
from geoseg.formats.text import html_text, write_table
from pipeline.evaluate.document import Document, Figures, Intervals, SceneRow
from pipeline.evaluate.run import Evaluation
from pipeline.files.atomic import write_json
from pipeline.files.outputs import atomic_folder

__all__ = ["by_name", "write_evaluation"]

JSON, SCENES, CLASSES, REPORT = "evaluation.json", "scenes.csv", "classes.csv", "report.html"
PICTURES = 24
"""Most error maps in a report; the worst scenes come first."""
TITLES = {"miou": "mean IoU", "mean_dice": "mean Dice (F1)", "accuracy": "accuracy", "kappa": "Cohen's kappa", "mcc": "MCC"}
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #1c1c1c; \
background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse; margin: .6rem 0 } th, td { padding: .2rem .7rem; border-bottom: 1px solid #ddd; \
text-align: right }
th:first-child, td:first-child { text-align: left } caption { text-align: left; color: #555; padding-bottom: .3rem }
figure { display: inline-block; margin: .5rem 1rem .5rem 0; vertical-align: top } figcaption { color: #555; max-width: 30rem }
img { max-width: 100%; image-rendering: pixelated; border: 1px solid #ccc } .wide { overflow-x: auto }
.key span { display: inline-block; width: .9em; height: .9em; margin: 0 .3em 0 1em; vertical-align: -.1em; \
border: 1px solid #888 }
"""


def write_evaluation(found: Evaluation, out: Path, *, overwrite: bool = False) -> None:
    """Write ``evaluation.json``, ``scenes.csv``, ``classes.csv`` and ``report.html``, all or none.

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
        (folder / REPORT).write_text(report(found), encoding="utf-8")


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


def report(found: Evaluation) -> str:
    """The report: one HTML file that needs no other."""
    document = found.document
    scenes = document["scenes"]
    parts = [
        f"<h1>{len(scenes)} map{'s' if len(scenes) > 1 else ''} against the truth</h1>",
        _summary(document),
        _figures(document, found.intervals),
        _classes(document),
        _boundaries(document),
        _confusion(document),
        _scores(document),
        _isbi(document),
        _scenes(document),
        _pictures(found),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>geoseg: evaluation</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n<body>\n'
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )


def _summary(document: Document) -> str:
    coverage = document["coverage"]
    share = "" if coverage["share"] is None else f" ({100 * coverage['share']:.2f} %)"
    text = (
        f"<p>Of {coverage['pixels']:,} pixels {coverage['labelled']:,} are labelled, of which {coverage['compared']:,} are "
        f"compared{share}. {coverage['not_analysed']:,} were not analysed and {coverage['no_data']:,} have no data in the map: "
        "they count neither as right nor as wrong.</p>"
    )
    if document["unpaired"]:
        text += f"<p>Left out, for they have no partner: {html_text(', '.join(document['unpaired']))}.</p>"
    return text


def _figures(document: Document, intervals: Intervals) -> str:
    drawn = sum(scene["pixels"] > 0 for scene in document["scenes"])
    values = by_name(document["figures"])
    rows = [(TITLES[name], _number(values[name]), _interval(intervals.get(name))) for name in SCALARS]
    note = (
        f"Intervals come from drawing the {drawn} scenes with replacement. They say nothing of places that none of "
        "the scenes is like."
        if drawn > 1
        else "There is no interval: pixels of a single scene are too alike to say how other scenes would do."
    )
    return "<h2>Figures</h2>" + _table(("figure", "value", "95 % interval"), rows, "All compared pixels together. " + note)


def _classes(document: Document) -> str:
    head = ("class", "IoU", "95 % interval", "Dice (F1)", "precision", "recall", "pixels in the truth")
    rows = [
        (
            c["class"],
            _number(c["iou"]),
            _interval(c["iou_95"]),
            _number(c["dice"]),
            _number(c["precision"]),
            _number(c["recall"]),
            f"{c['pixels']:,}",
        )
        for c in document["classes"]
    ]
    return "<h2>Classes</h2>" + _table(head, rows)


def _boundaries(document: Document) -> str:
    if not document["boundary"]:
        return ""
    names = [c["class"] for c in document["classes"]]
    head = ("distance", *(f"IoU {name}" for name in names), *(f"F1 {name}" for name in names))
    rows = [
        (line["distance"], *(_number(line["iou"][n]) for n in names), *(_number(line["f1"][n]) for n in names))
        for line in document["boundary"]
    ]
    note = (
        "Boundary IoU: of the pixels of a class at most this far from its boundary. Boundary F1: boundary pixels at most "
        "this far off."
    )
    return "<h2>Boundaries</h2>" + _table(head, rows, note)


def _confusion(document: Document) -> str:
    names = [c["class"] for c in document["classes"]]
    rows = [(name, *(f"{value:,}" for value in row)) for name, row in zip(names, document["confusion"], strict=True)]
    table = _table(("truth \\ map", *names), rows, "Pixels")
    picture = confusion_svg(document["confusion"], names)
    return f"<h2>Confusion</h2>{_figure(picture, 'Confusion matrix', 'Shares of each class of the truth.')}{table}"


def _scores(document: Document) -> str:
    scores = document["scores"]
    if scores is None:
        return ""
    text = "<h2>Probabilities</h2>"
    if "curves" in scores:
        curves = curves_svg(scores["curves"], scores["average_precision"])
        text += _figure(curves, "Precision against recall by class", "What other thresholds would give.")
    diagram = reliability_svg(scores["reliability"], scores["ece"])
    caption = "How often the map is right where it says how sure it is. ECE: expected calibration error."
    return text + _figure(diagram, "Reliability diagram", caption)


def _isbi(document: Document) -> str:
    found = document["isbi"]
    if found is None:
        return ""
    rows = [(name.replace("_", " "), _number(value)) for name, value in found.items()]
    return "<h2>Objects and borders</h2>" + _table(("measure", "mean over scenes"), rows, "Measures of the ISBI 2012 challenge")


def _scenes(document: Document) -> str:
    head = ("scene", *(TITLES[name] for name in SCALARS), "compared", "not analysed")
    rows = [
        (s["scene"], *map(_number, by_name(s).values()), f"{s['pixels']:,}", f"{s['coverage']['not_analysed']:,}")
        for s in sorted(document["scenes"], key=_badness)
    ]
    return "<h2>Scenes</h2>" + _table(head, rows, "The worst first")


def _badness(scene: SceneRow) -> tuple[bool, float, str]:
    return scene["miou"] is None, scene["miou"] or 0.0, scene["scene"]


def _pictures(found: Evaluation) -> str:
    measured = {scene.pair.name: scene for scene in found.scenes}
    text = (
        '<h2>Where the maps are wrong</h2><p class="key">'
        '<span style="background:#295938"></span>right<span style="background:#ededE6"></span>right, class 0'
        f' ({html_text(found.classes.names[0])})<span style="background:#d95e00"></span>wrong, another class is mapped'
        '<span style="background:#75299e"></span>wrong, class 0 is mapped<span style="background:#b8b8b8"></span>not compared</p>'
    )
    for scene in sorted(found.document["scenes"], key=_badness)[:PICTURES]:
        errors = measured[scene["scene"]].errors
        if errors is None or scene["miou"] is None:
            continue
        name = html_text(scene["scene"])
        image = f'<img src="{png_uri(errors.picture())}" alt="Error map of {name}: mean IoU {_number(scene["miou"])}">'
        text += f"<figure>{image}<figcaption>{name}: mean IoU {_number(scene['miou'])}</figcaption></figure>"
    if len(found.scenes) > PICTURES:
        text += f"<p>The {PICTURES} worst of {len(found.scenes)} scenes.</p>"
    return text


def _figure(svg: str, title: str, caption: str) -> str:
    labelled = svg.replace("<svg ", f'<svg role="img" aria-label="{html_text(title)}" ', 1)
    return f"<figure>{labelled}<figcaption>{html_text(caption)}</figcaption></figure>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    cells = "".join(f'<th scope="col">{html_text(text)}</th>' for text in head)
    body = "".join("<tr>" + "".join(f"<td>{html_text(text)}</td>" for text in row) + "</tr>" for row in rows)
    above = f"<caption>{html_text(caption)}</caption>" if caption else ""
    return f'<div class="wide"><table>{above}<thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'


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
