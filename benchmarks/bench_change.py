"""Change between two dates on pairs that nothing was trained on: F1 of thresholds on differences and of networks, in Markdown.

    python benchmarks/imagenet_weights.py
    python benchmarks/bench_accuracy.py cities --set loop.steps=1500
    python benchmarks/bench_change.py

Differences are those of change vector analysis (Malila 1980): the length of the difference of all bands, both dates brought
to the same mean and deviation, smoothed by a Gaussian; threshold and smoothing are those with the best F1 on the training pairs,
which is more than Otsu's threshold would know. Intervals come from drawing the judged pairs with replacement.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bench_accuracy import DATA, RECIPES, WORK, Row, trained
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from geoseg.inference.decision import Decision
from geoseg.inference.engine import TileBatch
from geoseg.labels.images import read_image
from geoseg.models.model_folder import load_model
from geoseg.training.validation import open_for_chips
from pipeline.train.recipe import Recipe

PAIRS = DATA / "change_pairs"
BUILDINGS = WORK / "cities" / "unet--imagenet-0"
"""What ``bench_accuracy.py cities`` has trained: single dates, whose buildings teach the encoder."""
LONGER = {"loop.steps": 600, "loop.check": 300, "loop.precision": "bf16"}
SMOOTHED = (0.0, 1.0, 2.0, 4.0)
Pair = tuple[str, NDArray[np.uint8], NDArray[np.bool_]]
"""Name, (6, h, w) both dates, and (h, w) what changed."""


def pairs(role: str) -> list[Pair]:
    """The pairs of a role of the recipe."""
    from pipeline.train.data import images_of

    recipe = Recipe.read(RECIPES / "change_pairs.toml")
    found: list[Pair] = []
    for data in recipe.data:
        if data.role != role:
            continue
        for path in images_of(data):
            both = np.concatenate([read_image(str(path)), read_image(str(Path(data.later[0]) / path.name))])
            found.append((path.stem, both, read_image(str(Path(str(data.labels)) / path.name))[0] > 127))
    return found


def difference(both: NDArray[np.uint8], sigma: float) -> NDArray[np.float64]:
    """The length of the difference of two dates (6, h, w) in deviations, smoothed."""
    first, second = (
        (part - part.mean(axis=(1, 2), keepdims=True)) / (part.std(axis=(1, 2), keepdims=True) + 1e-6)
        for part in (both[:3].astype(np.float64), both[3:].astype(np.float64))
    )
    length = np.sqrt(((second - first) ** 2).sum(axis=0))
    return np.asarray(ndimage.gaussian_filter(length, sigma) if sigma else length)


def counts(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> NDArray[np.int64]:
    """True positives, found, true."""
    return np.array([(found & truth).sum(), found.sum(), truth.sum()])


def f1(tally: NDArray[Any]) -> float:
    """F1 of counts (..., 3), summed up."""
    total = tally.reshape(-1, 3).sum(axis=0)
    return float(2 * total[0] / max(1, total[1] + total[2]))


def best_threshold(train: list[Pair]) -> tuple[float, float]:
    """Smoothing and threshold with the best F1 on pairs."""
    best = (-1.0, 0.0, 0.0)
    for sigma in SMOOTHED:
        lengths = [difference(both, sigma) for _, both, _ in train]
        for threshold in np.linspace(0.5, 6, 45):
            value = f1(np.stack([counts(d > threshold, truth) for d, (_, _, truth) in zip(lengths, train, strict=True)]))
            best = max(best, (value, sigma, float(threshold)))
    return best[1], best[2]


def network(path: Path) -> Callable[[NDArray[np.uint8]], NDArray[np.bool_]]:
    """A trained network on whole pairs."""
    model = load_model(str(path))
    engine, decision = open_for_chips(model), Decision.of(model.card)

    def detect(both: NDArray[np.uint8]) -> NDArray[np.bool_]:
        valid = np.ones(both.shape[1:], np.bool_)
        whole = slice(0, both.shape[1]), slice(0, both.shape[2])
        scores = engine.scores(TileBatch([both], [valid], valid.shape, [whole]))[0]
        return np.asarray(decision.decide(scores, valid)[0] == 1)

    return detect


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    train, judged = pairs("train"), pairs("val")
    sigma, threshold = best_threshold(train)
    rows: dict[str, list[Callable[[NDArray[np.uint8]], NDArray[np.bool_]]]] = {
        "everything changed": [lambda both: np.ones(both.shape[1:], np.bool_)],
        "difference, Otsu's threshold": [lambda both: difference(both, sigma) > threshold_otsu(difference(both, sigma))],
        f"difference, threshold of the training pairs ({threshold:.2f}, smoothed by {sigma:g} px)": [
            lambda both: difference(both, sigma) > threshold
        ],
    }
    for name, changes in (
        ("U-Net, dates stacked", {"network.architecture": "unet"}),
        ("U-Net, Siamese", {}),
        ("U-Net, Siamese, differences alone", {"network.parameters.fusion": "difference"}),
        ("U-Net, Siamese, 600 steps", LONGER),
        ("U-Net, Siamese, 600 steps, begun as a network of buildings", LONGER | {"init.weights": str(BUILDINGS)}),
    ):
        rows[name] = [
            network(trained("change", Row(name, "change_pairs", dict(changes)), seed, [])) for seed in range(args.seeds)
        ]
    rng = np.random.default_rng(0)
    draws = rng.integers(len(judged), size=(2000, len(judged)))
    print("| | F1 of change | 95 % | LEVIR | DSIFN |\n|---|---|---|---|---|")
    for name, ways in rows.items():
        tallies = np.stack([np.stack([counts(way(both), truth) for _, both, truth in judged]) for way in ways])
        mean = np.mean([f1(tally) for tally in tallies])
        low, high = np.percentile([np.mean([f1(tally[draw]) for tally in tallies]) for draw in draws], (2.5, 97.5))
        parts = [
            np.mean([f1(tally[[name[0].isdigit() == by_number for name, _, _ in judged]]) for tally in tallies])
            for by_number in (False, True)
        ]
        print(f"| {name} | {mean:.3f} | {low:.3f} to {high:.3f} | {parts[0]:.3f} | {parts[1]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
