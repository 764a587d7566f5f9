"""Damage of the buildings of Joplin, trained on one chip and judged on the other one, as tables in Markdown.

    python benchmarks/imagenet_weights.py
    python benchmarks/bench_damage.py
    python benchmarks/bench_damage.py --pooled

Compared are: always the class that is most frequent in training; a random forest on the colours of each building (means,
deviations and quantiles of all bands at both dates, and their differences), and one that also learns the image before as
undamaged, as the network does; the network on the image after alone, and on both. Intervals come from drawing the buildings of
the judged chip with replacement; differences to the better forest from drawing the same ones for both. Trained on the left chip,
judged on the right one; with ``--pooled`` also the other way round, and the buildings of both together, each graded by the
model that has not seen it.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from bench_accuracy import DATA, RECIPES, ROOT, WORK
from numpy.typing import NDArray
from rasterio.windows import Window as RasterioWindow
from sklearn.ensemble import RandomForestClassifier

from geoseg.damage.damage_settings import DamageSettings
from geoseg.damage.scale import building_figures, class_f1
from geoseg.models.card import Card, DamageFacts
from geoseg.models.model_folder import load_model
from geoseg.vectors.polygon_file import PolygonFile
from pipeline.changes.run import pair_of
from pipeline.config.sections import Config
from pipeline.damage.buildings import collect_buildings, crops_of, labels_of, open_pair
from pipeline.damage.evaluate import judge_damage
from pipeline.damage.labels_and_name import LabelledFootprints, ModelName
from pipeline.damage.run import map_damage
from pipeline.damage.train import train_on_buildings

LABELS = DATA / "joplin_damage" / "post_buildings.geojson"
FOOTPRINTS = DATA / "joplin_damage" / "pre_buildings.geojson"
WEIGHTS = Path(__file__).parent.parent / "build" / "weights" / "efficientnet_lite0.safetensors"
CONFIG = Config.parse({"run": {"overwrite": True}})
DRAWS = 2000
FORESTS = ("colours, random forest", "the same, which learns the image before as undamaged")
TITLES = (
    "| | macro F1 | 95 % | beyond the better forest | F1: none / minor / major / destroyed | accuracy | steps off | kappa "
    "| xView2 | calibration error |\n|---|---|---|---|---|---|---|---|---|---|"
)
ANY_RGB = Card.model_validate(
    {
        "name": "rgb",
        "description": "x",
        "license": "x",
        "architecture": "x",
        "bands": ("red", "green", "blue"),
        "stride": 1,
        "global_context": True,
        "scaling": [{"mean": 0.0, "stddev": 1.0}] * 3,
        "classes": [{"value": k, "name": str(k), "color": "#000000"} for k in range(4)],
    }
)
"""Takes the pixels as they are."""
WORDS = ("no-damage", "minor-damage", "major-damage", "destroyed")


def prepare() -> dict[str, list[str]]:
    """Both halves of both dates."""
    folder = WORK / "damage"
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[str]] = {"left": [], "right": []}
    for date, word, day in (("pre", "before", "2009-01-01"), ("post", "after", "2011-05-29")):
        with rasterio.open(DATA / "joplin_damage" / f"{date}.tif") as scene:
            half = scene.width // 2
            for name, left in (("left", 0), ("right", half)):
                window = RasterioWindow(left, 0, half, scene.height)
                path = folder / word / f"{name}.tif"
                path.parent.mkdir(exist_ok=True)
                profile = scene.profile | {"width": half, "transform": scene.window_transform(window)}
                with rasterio.open(path, "w", **profile) as part:
                    part.write(scene.read(window=window))
                    part.update_tags(ACQUISITION_DATE=day)
                found[name].append(str(path))
    # Buildings without a class of the scale teach nothing.
    document = json.loads(LABELS.read_text(encoding="utf-8"))
    for name, known in (("labels", True), ("unclassified", False)):
        some = [one for one in document["features"] if (one["properties"]["damage"] in WORDS) == known]
        (folder / f"{name}.geojson").write_text(json.dumps(document | {"features": some}), encoding="utf-8")
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


def by_crops(pair: list[str], teacher: str, settings: DamageSettings) -> tuple[Path, dict[str, Any]]:
    """A model that grades buildings one by one, and what its training found."""
    dates = "both" if len(settings.used) > 1 else "post"
    folder = WORK / "damage" / f"{dates}-{settings.seed}{'' if teacher == 'left' else '-' + teacher}"
    labels, name = LabelledFootprints(labels=str(LABELS)), ModelName(license_name="CC-BY-NC-SA-4.0")
    _, trained = train_on_buildings(pair_of(pair), labels, folder, settings, CONFIG, name, overwrite=True)
    return folder, {**trained}


def by_pixels(seed: int, *, both: bool) -> tuple[Path, dict[str, Any]]:
    """A model that maps damage by pixels, of the image after alone or of both."""
    folder = WORK / "damage" / f"pixels-{'both' if both else 'post'}-{seed}"
    recipe = (RECIPES / "joplin_damage.toml").read_text(encoding="utf-8").replace("../../build", str(ROOT / "build"))
    if not both:
        recipe = recipe.replace("damage/before", "damage/after").replace("siamese-unet", "unet")
        recipe = "\n".join(text for text in recipe.split("\n") if not text.startswith(("later", "bands")))
        recipe = recipe.replace("value_range", 'bands = ["red", "green", "blue"]\nvalue_range')
    file = WORK / "damage" / f"{folder.name}.toml"
    file.write_text(recipe, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pipeline",
        "train",
        str(file),
        "--out",
        str(folder),
        "--set",
        f"loop.seed={seed}",
        "--overwrite",
    ]
    subprocess.run(command, check=True, cwd=ROOT)
    return folder, json.loads((folder / "training" / "validation.json").read_text(encoding="utf-8"))


def judged(pair: list[str], model: Path) -> tuple[dict[str, int], dict[str, Any]]:
    """Classes of a chip by building, and figures."""
    ref, loaded = pair_of(pair), load_model(str(model))
    with tempfile.TemporaryDirectory() as out:
        done = map_damage(ref, str(FOOTPRINTS), loaded, CONFIG, Path(out))
        figures = judge_damage(done.folder / "buildings.gpkg", LABELS, "damage", open_pair(ref, loaded.card, CONFIG).scene)
        rows = csv.DictReader((done.folder / "buildings.csv").open(encoding="utf-8"))
        return {row["name"]: int(row["code"]) for row in rows}, figures


Grades = dict[str, NDArray[np.int64]]
"""Grades of the judged buildings by method."""


def judge_chip(
    chips: dict[str, list[str]], teacher: str, pupil: str, args: argparse.Namespace
) -> tuple[Grades, NDArray[np.int64]]:
    """Train on one chip, judge on the other, print a table; grades and truth."""
    taught, other = (colours(chips[side], ANY_RGB) for side in (teacher, pupil))
    print(f"\nTrained on the {teacher} chip, judged on the {pupil} one:\n\n{TITLES}")
    found: Grades = {"always the most frequent": np.full(len(other.label), np.bincount(taught.label).argmax())}
    undamaged = np.concatenate([taught.both, taught.before]), np.concatenate([taught.label, np.zeros_like(taught.label)])
    for name, (x, y) in ((FORESTS[0], (taught.both, taught.label)), (FORESTS[1], undamaged)):
        forest = RandomForestClassifier(500, class_weight="balanced", min_samples_leaf=2, random_state=args.seed, n_jobs=2)
        found[name] = np.asarray(forest.fit(x, y).predict(other.both))
    for name, grades in found.items():
        print(line(name, grades, other.label), flush=True)
    better = max((found[name] for name in FORESTS), key=lambda grades: building_figures(grades, other.label)["macro_f1"])
    settings = DamageSettings(weights=str(WEIGHTS), steps=args.steps, seed=args.seed, ridge=args.ridge, undamaged=args.undamaged)
    runs = [
        ("network, image after alone", lambda: by_crops(chips[teacher], teacher, replace(settings, used=(1,)))),
        ("network, both images", lambda: by_crops(chips[teacher], teacher, settings)),
    ]
    if args.pixels and teacher == "left":
        runs += [
            ("by pixels, image after alone", lambda: by_pixels(args.seed, both=False)),
            ("by pixels, both images", lambda: by_pixels(args.seed, both=True)),
        ]
    for name, train in runs:
        model, trained = train()
        codes, figures = judged(chips[pupil], model)
        found[name] = np.array([codes[one] if codes[one] < 4 else -1 for one in other.names])
        score, ece = figures["xview2"], figures["calibration"]["ece"]
        low, high = score["score_95"]
        more = f"{score['score']:.3f} ({low:.3f} to {high:.3f}) | {ece:.3f}"
        print(line(name, found[name], other.label, better, more), flush=True)
        document = json.dumps({**figures, "training": trained}, indent=2)
        (WORK / "damage" / f"{model.name}.json").write_text(document, encoding="utf-8")
    return found, other.label


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=DamageSettings().steps)
    parser.add_argument("--ridge", type=float, default=DamageSettings().ridge)
    parser.add_argument("--undamaged", type=float, default=DamageSettings().undamaged)
    parser.add_argument("--pooled", action="store_true", help="Both ways, and both chips together.")
    parser.add_argument(
        "--pixels", action="store_true", help="Train and judge networks that map damage by pixels, too: 20 minutes."
    )
    args = parser.parse_args()
    chips = prepare()
    ways = [("left", "right"), ("right", "left")] if args.pooled else [("left", "right")]
    both = [judge_chip(chips, teacher, pupil, args) for teacher, pupil in ways]
    if args.pooled:
        truth = np.concatenate([labels for _, labels in both])
        pooled = {name: np.concatenate([grades[name] for grades, _ in both]) for name in both[1][0]}
        better = max((pooled[name] for name in FORESTS), key=lambda grades: building_figures(grades, truth)["macro_f1"])
        print(f"\nBoth chips together:\n\n{TITLES}")
        for name, grades in pooled.items():
            print(line(name, grades, truth, better if name.startswith("network") else None), flush=True)


if __name__ == "__main__":
    main()
