"""Recipes judged by places that they have not seen: every place of train is held out once, in folds.

    python benchmarks/imagenet_weights.py
    python benchmarks/bench_folds.py plain factor-3 strong --folds 3
    python benchmarks/bench_folds.py plain --set loop.steps=200

Each training of ``geoseg train`` learns from the recipe of amazon-forest without a third of the places, and is judged on these;
the last checkpoint is kept, so that nothing is chosen on what judges. The eight places of val take no part: they judge once
what this has chosen. What is finished is kept in build/folds and not trained again. Figures pool the pixels of all places,
each by the network that has not seen it; intervals come from drawing places with replacement; *bias* is the share that is
mapped as forest less the share that is forest. The curve is the mean over folds of mIoU at each check.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench_accuracy import DATA, RECIPES, ROOT, slug, toml
from bench_places import figures, spread

from geoseg.evaluation.confusion import ConfusionMatrix

WORK = ROOT / "build" / "folds"
PLACES = DATA / "amazon_forest" / "train" / "images"
STRONG = {"gain": 0.15, "band_gain": 0.06, "offset": 0.25, "band_offset": 0.12, "haze": 0.35, "noise": 0.1, "gamma": 0.3}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "factor-4": {"loss.factors": {"non-forest": 4.0}},
    "factor-2": {"loss.factors": {"non-forest": 2.0}},
    "factor-1": {"loss.factors": {"non-forest": 1.0}},
    "strong": {f"augment.{key}": value for key, value in STRONG.items()},
    "frozen": {"init.encoder_rate": 0.0},
    "unfrozen": {"init.unfreeze": 0.5},
    "whole": {"sample.chip": 512, "sample.batch": 2},
}
"""Changes of the recipe, by name; several are joined by +."""
COMMON = {"loop.choose": "last", "loop.precision": "bf16", "calibrate.method": "none", "loop.check": 25}


def folds(count: int) -> list[list[str]]:
    """Names of the places that each fold holds out; the numbers of scenes lie apart in each."""
    names = sorted(path.stem for path in PLACES.iterdir())
    return [names[k::count] for k in range(count)]


def trained(name: str, held: Sequence[str], fold: int, extra: Sequence[str]) -> Path:
    """The model folder of one fold."""
    out = WORK / slug("-".join([name, *extra])) / str(fold)
    if not (out / "training" / "validation.json").is_file():
        changes: dict[str, Any] = {**COMMON, "split.val": list(held)}
        for part in name.split("+"):
            changes |= VARIANTS[part]
        command = [sys.executable, "-m", "pipeline", "train", str(RECIPES / "amazon_forest.toml"), "--out", str(out), "--quiet"]
        for change in (*(f"{key}={toml(value)}" for key, value in changes.items()), *extra):
            command += ["--set", change]
        subprocess.run(command, check=True, cwd=ROOT)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="+")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--set", dest="extra", action="append", default=[], metavar="KEY=VALUE", help="Change every recipe.")
    arguments = parser.parse_args()
    print("| | mIoU, pooled | mIoU, mean of places | accuracy | F1 | Jaccard | bias |", "|---" * 7 + "|", sep="\n", flush=True)
    curves = []
    for name in arguments.variants:
        matrices, curve = [], []
        for fold, held in enumerate(folds(arguments.folds)):
            model = trained(name, held, fold, arguments.extra)
            scenes = json.loads((model / "training" / "validation.json").read_text(encoding="utf-8"))["scenes"]
            matrices += [ConfusionMatrix(np.asarray(scene["confusion"])) for scene in scenes]
            with (model / "training" / "curve.csv").open(newline="", encoding="utf-8") as file:
                curve.append({int(row["step"]): float(row["val/miou"]) for row in csv.DictReader(file)})
        counts = sum(matrices[1:], matrices[0]).counts
        bias = (counts[:, 1].sum() - counts[1].sum()) / counts.sum()
        print(f"| {name} | {' | '.join(spread(matrices, figures))} | {bias:+.3f} |", flush=True)
        steps = [(step, np.mean([each[step] for each in curve])) for step in curve[0]]
        curves.append(f"{name}: " + ", ".join(f"{step} {value:.3f}" for step, value in steps))
    print("", *curves, sep="\n")


if __name__ == "__main__":
    main()
