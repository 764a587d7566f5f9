"""Classical methods on real data, in the evaluation that networks are judged by: the tables of docs/accuracy.md.

    python benchmarks/bench_baselines.py amazon_forest deepglobe_forest isbi2012

Each method is fitted on the scenes of train, and judged on those of val, which choose nothing. Scenes are those of the
recipes in benchmarks/recipes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bench_accuracy import DATA, PREPARE, RECIPES

from geoseg.baselines.catalogue import BASELINES
from geoseg.baselines.judgement import judge_baseline
from geoseg.training.data.chips import ChipSource
from pipeline.train.data import open_data
from pipeline.train.recipe import Recipe
from pipeline.train.recipe_data import DataRecipe


def opened(name: str) -> tuple[Recipe, Sequence[ChipSource], Sequence[ChipSource]]:
    """The recipe, and the scenes of train and val."""
    PREPARE.get(name.split("_", maxsplit=1)[0], lambda: None)()
    recipe = Recipe.read(RECIPES / f"{name}.toml")
    data = [entry.model_copy(update={"role": "train"}) if entry.role == "split" else entry for entry in recipe.data]
    if not any(entry.role == "val" for entry in data):
        val = DATA / name / "val"
        data.append(DataRecipe(images=(str(val / "images"),), labels=str(val / "masks"), role="val"))
    found = open_data(recipe.model_copy(update={"data": tuple(data)}))
    return recipe, found.training, found.validation


def table(name: str, methods: Sequence[str]) -> str:
    """Mean IoU and IoU of each class, seconds to fit and to predict a megapixel."""
    recipe, training, validation = opened(name)
    names = [c.name for c in recipe.classes]
    head = ("method", "mIoU", *(f"IoU {n}" for n in names), "fit s", "predict s/Mpx")
    lines = [f"### {name}", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for method in methods:
        found = judge_baseline(method, training, validation, recipe.bands, classes=len(names))
        matrix = found.matrix
        seconds = found.predict_s / (matrix.pixels / 1e6)
        cells = (f"{matrix.miou():.3f}", *(f"{value:.3f}" for value in matrix.iou()), f"{found.fit_s:.0f}", f"{seconds:.1f}")
        label = method if found.index is None else f"{method} ({found.index})"
        lines.append(f"| {label} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", choices=("amazon_forest", "deepglobe_forest", "isbi2012"))
    parser.add_argument("--method", dest="methods", action="append", choices=BASELINES)
    args = parser.parse_args()
    print("\n\n".join(table(name, args.methods or BASELINES) for name in args.data))


if __name__ == "__main__":
    main()
