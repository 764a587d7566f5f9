"""Damage of the buildings of Joplin, trained on the left chip and judged on the right one, as a table in Markdown.

    python benchmarks/imagenet_weights.py
    python benchmarks/bench_damage.py

Compared are: always the class that is most frequent in training; a random forest on the colours of each building (means,
deviations and quantiles of all bands at both dates, and their differences), and one that also learns the image before as
undamaged, as the network does; the network on the image after alone, and on both. Intervals come from drawing the buildings of the
right chip with replacement; differences to the better forest from drawing the same ones for both.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from bench_accuracy import DATA, WORK
from numpy.typing import NDArray
from rasterio.windows import Window as RasterioWindow
from sklearn.ensemble import RandomForestClassifier

from geoseg.damage.scale import building_figures, class_f1
from geoseg.models.card import Card, DamageFacts
from geoseg.models.folder import load_model
from geoseg.training.damage import DamageSettings
from pipeline.buildings import collect_buildings, crops_of, labels_of, open_pair
from pipeline.config import Config
from pipeline.damage import map_damage
from pipeline.deforestation import pair_of
from pipeline.judge_damage import judge_damage
from pipeline.polygon_files import PolygonFile
from pipeline.train_damage import train_on_buildings

LABELS = DATA / "joplin_damage" / "post_buildings.geojson"
FOOTPRINTS = DATA / "joplin_damage" / "pre_buildings.geojson"
WEIGHTS = Path(__file__).parent.parent / "build" / "weights" / "efficientnet_lite0.safetensors"
CONFIG = Config.parse({"run": {"overwrite": True}})
DRAWS = 2000


def prepare() -> dict[str, list[str]]:
    """Both halves of both dates."""
    folder = WORK / "damage"
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[str]] = {"left": [], "right": []}
    for date, day in (("pre", "2009-01-01"), ("post", "2011-05-29")):
        with rasterio.open(DATA / "joplin_damage" / f"{date}.tif") as scene:
            half = scene.width // 2
            for name, left in (("left", 0), ("right", half)):
                window = RasterioWindow(left, 0, half, scene.height)
                path = folder / f"{name}_{date}.tif"
                profile = scene.profile | {"width": half, "transform": scene.window_transform(window)}
                with rasterio.open(path, "w", **profile) as part:
                    part.write(scene.read(window=window))
                    part.update_tags(ACQUISITION_DATE=day)
                found[name].append(str(path))
    return found


def features(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Statistics of the pixels (3, P) of a building at both dates."""
    both = np.concatenate([first, second])
    stats = np.concatenate([both.mean(1), both.std(1), np.percentile(both, (10, 50, 90), axis=1).ravel()])
    return np.concatenate([stats, second.mean(1) - first.mean(1), second.std(1) - first.std(1)]).astype(np.float64)


@dataclass(frozen=True)
class Colours:
    """The colours of the buildings of a chip."""

    names: list[str]
    """Their ids."""
    both: NDArray[np.float64]
    """(N, F) of both dates."""
    before: NDArray[np.float64]
    """(N, F) of the image before, twice."""
    label: NDArray[np.int64]
    """(N,) classes."""


def colours(paths: list[str], card: Card) -> Colours:
    """The colours of the buildings of a chip."""
    opened = open_pair(pair_of(paths), card, CONFIG)
    file = PolygonFile.open(LABELS)
    buildings = collect_buildings(file, opened, file.fields)
    kinds = labels_of(buildings, "damage")
    names, both, before, labels = [], [], [], []
    for (building, crop), kind in zip(crops_of(buildings, opened, DamageFacts()), kinds, strict=True):
        if crop.reason is None and kind >= 0:
            first, second = crop.image[:3, crop.mask > 0], crop.image[3:, crop.mask > 0]
            names.append(building.name)
            both.append(features(first, second))
            before.append(features(first, first))
            labels.append(kind)
    return Colours(names, np.array(both), np.array(before), np.array(labels))


def drawn_f1(found: NDArray[np.int64], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """Macro F1 (DRAWS,) of buildings drawn with replacement; the draws are the same each time."""
    rng = np.random.default_rng(0)
    draws = (rng.integers(len(truth), size=len(truth)) for _ in range(DRAWS))
    return np.array([np.nanmean(class_f1(found[some], truth[some])) for some in draws])


def line(
    name: str, found: NDArray[np.int64], truth: NDArray[np.int64], forest: NDArray[np.int64] | None = None, more: str = " | "
) -> str:
    figures = building_figures(found, truth)
    low, high = np.percentile(drawn_f1(found, truth), (2.5, 97.5))
    by_class = " / ".join(f"{figures['f1'][k] or 0:.2f}" for k in figures["f1"])
    beyond = ""
    if forest is not None:
        difference = drawn_f1(found, truth) - drawn_f1(forest, truth)
        beyond = "{:+.3f} ({:+.3f} to {:+.3f})".format(difference.mean(), *np.percentile(difference, (2.5, 97.5)))
    return (
        f"| {name} | **{figures['macro_f1']:.3f}** | {low:.3f} to {high:.3f} | {beyond} | {by_class} | {figures['accuracy']:.3f} "
        f"| {figures['steps_off']:.2f} | {figures['kappa']:.2f} | {more} |"
    )


def network(
    chips: dict[str, list[str]], used: tuple[int, ...], settings: DamageSettings
) -> tuple[dict[str, int], dict[str, Any]]:
    """Classes of the right chip by building, and figures, those of the held-out buildings of the left chip among them."""
    folder = WORK / "damage" / f"{'both' if len(used) > 1 else 'post'}-{settings.seed}"
    with tempfile.TemporaryDirectory() as out:
        model, trained = train_on_buildings(
            pair_of(chips["left"]), str(LABELS), "damage", folder, replace(settings, used=used), CONFIG, license_name="CC-BY-NC-SA-4.0",
            overwrite=True,
        )  # fmt: skip
        ref = pair_of(chips["right"])
        done = map_damage(ref, str(FOOTPRINTS), load_model(str(folder)), CONFIG, Path(out))
        figures = judge_damage(done.folder / "buildings.gpkg", LABELS, "damage", open_pair(ref, model.card, CONFIG).scene)
        rows = csv.DictReader((done.folder / "buildings.csv").open(encoding="utf-8"))
        return {row["name"]: int(row["code"]) for row in rows}, {**figures, "training": trained}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=DamageSettings().steps)
    parser.add_argument("--ridge", type=float, default=DamageSettings().ridge)
    parser.add_argument("--undamaged", type=float, default=DamageSettings().undamaged)
    args = parser.parse_args()
    chips = prepare()
    card = Card.model_validate({
        "name": "rgb", "description": "x", "license": "x", "architecture": "x", "bands": ("red", "green", "blue"), "stride": 1,
        "global_context": True, "scaling": [{"mean": 0.0, "stddev": 1.0}] * 3,
        "classes": [{"value": k, "name": str(k), "color": "#000000"} for k in range(4)],
    })  # fmt: skip
    left, right = colours(chips["left"], card), colours(chips["right"], card)
    print(
        "| | macro F1 | 95 % | beyond the better forest | F1: none / minor / major / destroyed | accuracy | steps off | kappa | xView2 "
        "| calibration error |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    print(line("always the most frequent", np.full(len(right.label), np.bincount(left.label).argmax()), right.label))
    undamaged = np.concatenate([left.both, left.before]), np.concatenate([left.label, np.zeros_like(left.label)])
    forests = []
    for name, (x, y) in (
        ("colours, random forest", (left.both, left.label)), ("the same, which learns the image before as undamaged", undamaged)
    ):  # fmt: skip
        forest = RandomForestClassifier(500, class_weight="balanced", min_samples_leaf=2, random_state=args.seed, n_jobs=2)
        forests.append(np.asarray(forest.fit(x, y).predict(right.both)))
        print(line(name, forests[-1], right.label), flush=True)
    better = max(forests, key=lambda found: building_figures(found, right.label)["macro_f1"])
    settings = DamageSettings(weights=str(WEIGHTS), steps=args.steps, seed=args.seed, ridge=args.ridge, undamaged=args.undamaged)
    for name, used in (("network, image after alone", (1,)), ("network, both images", (0, 1))):
        codes, figures = network(chips, used, settings)
        found = np.array([codes[one] if codes[one] < 4 else -1 for one in right.names])
        score, ece = figures["xview2"], figures["calibration"]["ece"]
        low, high = score["score_95"]
        print(line(name, found, right.label, better, f"{score['score']:.3f} ({low:.3f} to {high:.3f}) | {ece:.3f}"), flush=True)
        path = WORK / "damage" / f"{'both' if len(used) > 1 else 'post'}.json"
        path.write_text(json.dumps(figures, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
