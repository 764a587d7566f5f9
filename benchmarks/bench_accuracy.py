"""Train models from recipes, judge them on validation data, and print the tables of docs/accuracy.md.

    python benchmarks/bench_accuracy.py amazon deepglobe isbi transfer
    python benchmarks/bench_accuracy.py amazon --seeds 1 --set loop.steps=100

Each row is a training of ``geoseg train`` from a recipe of benchmarks/recipes with some changes. What is finished is
kept in build/accuracy and not trained again, and an interrupted training goes on where it was, so that the tables can be
made over several days. ImageNet weights come from ``benchmarks/imagenet_weights.py``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RECIPES = ROOT / "benchmarks" / "recipes"
WORK = ROOT / "build" / "accuracy"


@dataclass(frozen=True)
class Row:
    """One line of a table: a recipe with changes, trained once per seed."""

    name: str
    recipe: str
    changes: dict[str, Any] = field(default_factory=dict)
    after: str | None = None
    """Name of the row whose model this one begins with."""


@dataclass(frozen=True)
class Table:
    """Rows to compare, and the figures to compare them by."""

    title: str
    rows: tuple[Row, ...]
    figures: tuple[str, ...] = ("miou",)
    seeds: int = 1


def slug(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text.lower()).strip("-")


def trained(table: str, row: Row, seed: int, extra: list[str]) -> dict[str, Any]:
    """The validation report of one training; trains it if it is not there."""
    out = WORK / table / f"{slug(row.name)}-{seed}"
    report = out / "training" / "validation.json"
    changes = {**row.changes, "loop.seed": seed}
    if row.after is not None:
        changes["init.weights"] = str(WORK / table / f"{slug(row.after)}-{seed}")
    if not report.is_file():
        command = [sys.executable, "-m", "pipeline", "train", str(RECIPES / f"{row.recipe}.toml"), "--out", str(out)]
        for key, value in changes.items():
            command += ["--set", f"{key}={json.dumps(value)}"]
        for change in extra:
            command += ["--set", change]
        start = time.monotonic()
        subprocess.run(command, check=True, cwd=ROOT)
        print(f"{table}: {row.name}, seed {seed}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return found


def figure(report: dict[str, Any], name: str) -> float:
    """``miou``, or ``iou:CLASS``."""
    kind, _, label = name.partition(":")
    if not label:
        return float(report[kind])
    return next(float(c[kind]) for c in report["classes"] if c["class"] == label)


def printed(name: str, table: Table, seeds: int, extra: list[str]) -> str:
    """The table in Markdown: the median over the seeds, and the range where there are several."""
    lines = [
        f"### {table.title}",
        "",
        "| training | " + " | ".join(table.figures) + " |",
        "|---" * (len(table.figures) + 1) + "|",
    ]
    for row in table.rows:
        reports = [trained(name, row, seed, extra) for seed in range(seeds)]
        cells = []
        for figure_name in table.figures:
            values = sorted(figure(report, figure_name) for report in reports)
            text = f"{statistics.median(values):.3f}"
            cells.append(f"{text} ({values[0]:.3f} to {values[-1]:.3f})" if len(values) > 1 else text)
        lines.append(f"| {row.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def prepare_deepglobe() -> None:
    """Divide the chips as split.csv says, by links into folders."""
    data = ROOT.parent / "shared" / "data" / "deepglobe_forest"
    for line in (data / "split.csv").read_text(encoding="utf-8").splitlines()[1:]:
        part, _, _, _, image, mask, _ = line.split(",")
        if part not in ("train", "val"):
            continue
        for kind, file in (("images", image), ("masks", mask)):
            link = WORK / "deepglobe" / part / kind / file
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(data / "chips" / file)


PREPARE = {"deepglobe": prepare_deepglobe}
TABLES = {
    "amazon": Table("Forest in the Amazon, scenes held out of train", (Row("unet-fine, ImageNet", "amazon_forest"),), seeds=3),
    "deepglobe": Table("Forest at half a metre", (Row("unet, ImageNet", "deepglobe_forest"),), ("miou", "iou:forest")),
    "isbi": Table(
        "Cells in electron microscopy",
        (
            Row("elastic deformation and border weights", "isbi2012"),
            Row("without elastic deformation", "isbi2012", {"augment.elastic": 0}),
            Row("without border weights", "isbi2012", {"loss.border": 0}),
        ),
    ),
    "transfer": Table(
        "Transfer to forest in the Amazon",
        (
            Row("random weights", "amazon_forest", {"init": {}}),
            Row("ImageNet, frozen encoder, new decoder", "amazon_forest", {"init.encoder_rate": 0}),
            Row("ImageNet, fine-tuned", "amazon_forest"),
            Row("ImageNet, slower by layer", "amazon_forest", {"init.encoder_rate": 1.0, "init.layer_decay": 0.6}),
            Row("ImageNet, gradually unfrozen", "amazon_forest", {"init.unfreeze": 0.5}),
        ),
        seeds=3,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", choices=TABLES)
    parser.add_argument("--seeds", type=int, help="trainings of each row")
    parser.add_argument("--set", dest="extra", action="append", default=[], help="change a value of every recipe")
    args = parser.parse_args()
    for name in args.tables:
        PREPARE.get(name, lambda: None)()
        table = TABLES[name]
        print(printed(name, table, args.seeds or table.seeds, args.extra), end="\n\n")


if __name__ == "__main__":
    main()
