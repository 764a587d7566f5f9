"""How a forest model holds in other places: figures by place, pooled, and as papers on the Amazon print them.

    python benchmarks/bench_places.py
    python benchmarks/bench_places.py build/accuracy/amazon/unet-fine--imagenet-0 --places held

Maps are made by ``geoseg segment``, as they are and turned in eight ways, and judged by ``geoseg evaluate``. ``val`` are the
eight places of amazon_forest's val; ``held`` are those that the recipe of the shipped model holds out of train. Intervals
come from drawing places with replacement. The maps are kept in build/accuracy/places.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench_accuracy import DATA, RECIPES, WORK, evaluated, slug

from geoseg.evaluation.confusion import ConfusionMatrix, image_means
from geoseg.sampling.bootstrap import drawn, interval
from pipeline.config.document import read_toml

MODEL = "amazon-forest"
WAYS = {"as it is": [], "`--tta d4`": ["--tta", "d4"]}
DRAWS = 500
TITLES = ("mIoU, pooled", "mIoU, mean of places", "accuracy", "F1", "Jaccard")
"""The last three are means over places, F1 and Jaccard weighted by the share of each class in the truth."""


def places(name: str) -> Path:
    """The folder of images and masks of some places."""
    data = DATA / "amazon_forest"
    if name == "val":
        return data / "val"
    folder = WORK / "places" / name
    recipe: dict[str, Any] = read_toml(RECIPES / "amazon_forest.toml")
    for scene in recipe["split"]["val"]:
        for kind in ("images", "masks"):
            link = folder / kind / f"{scene}.tif"
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(data / "train" / kind / link.name)
    return folder


def figures(matrices: Sequence[ConfusionMatrix]) -> tuple[float, ...]:
    """The figures of ``TITLES``."""
    pooled = sum(matrices[1:], matrices[0]).miou()
    return (pooled, float(np.mean([matrix.miou() for matrix in matrices])), *image_means(matrices).values())


def spread(matrices: Sequence[ConfusionMatrix], judge: Callable[[Sequence[ConfusionMatrix]], tuple[float, ...]]) -> list[str]:
    """Each figure with its 95 % interval over places."""
    draws = drawn(len(matrices), np.random.default_rng(0), DRAWS)
    found = np.array([judge([matrices[k] for k in np.repeat(np.arange(len(matrices)), draw).tolist()]) for draw in draws])
    cells = []
    for k, value in enumerate(judge(matrices)):
        low, high = interval(found[:, k]) or (np.nan, np.nan)
        cells.append(f"{value:.3f} ({low:.3f} to {high:.3f})")
    return cells


def lines(title: str, document: dict[str, Any]) -> tuple[str, list[tuple[str, float, float]]]:
    """The row of a table, and mIoU and Jaccard by place."""
    scenes = document["scenes"]
    matrices = [ConfusionMatrix(np.asarray(scene["confusion"])) for scene in scenes]
    by_place = [(scene["scene"], m.miou(), m.weighted_iou()) for scene, m in zip(scenes, matrices, strict=True)]
    return f"| {title} | {' | '.join(spread(matrices, figures))} |", by_place


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=[MODEL], help="Model folders, or names of shipped models.")
    parser.add_argument("--places", choices=("val", "held"), default="val")
    arguments = parser.parse_args()
    folder, by_place = places(arguments.places), {}
    print(f"| {arguments.places} | {' | '.join(TITLES)} |", "|---" * (len(TITLES) + 1) + "|", sep="\n")
    for model in arguments.models:
        for number, (way, options) in enumerate(WAYS.items()):
            maps = WORK / "places" / f"{slug(model)}-{arguments.places}-{number}"
            row, by_place[f"{model}, {way}"] = lines(f"{model}, {way}", evaluated(model, maps, options, folder))
            print(row, flush=True)
    for title, rows in by_place.items():
        print(f"\n{title}: " + "; ".join(f"{place} {miou:.3f}, {jaccard:.3f}" for place, miou, jaccard in rows))


if __name__ == "__main__":
    main()
