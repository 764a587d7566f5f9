"""Damage of the buildings of Joplin, trained on the left chip and judged on the right one, as a table in Markdown.

    python benchmarks/imagenet_weights.py
    python benchmarks/bench_damage.py --seeds 2

Compared are: always the class that is most frequent in training; a random forest on the colours of each building (means,
deviations and quantiles of all bands at both dates, and their differences); the network on the image after alone, and on both.
Nothing of the right chip chose anything. Intervals come from drawing its buildings with replacement; several seeds are averaged.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from bench_accuracy import DATA, WORK
from numpy.typing import NDArray
from rasterio.windows import Window as RasterioWindow
from sklearn.ensemble import RandomForestClassifier

from geoseg.damage.scale import building_figures
from geoseg.models.card import Card, DamageFacts
from geoseg.models.folder import load_model
from geoseg.training.damage import DamageSettings
from pipeline.config import Config
from pipeline.damage import collect_buildings, crops_of, labels_of, map_damage, open_pair
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


def colours(paths: list[str], card: Card) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Features and classes of the buildings of a chip."""
    opened = open_pair(pair_of(paths), card, CONFIG)
    file = PolygonFile.open(LABELS)
    buildings = collect_buildings(file, opened, file.fields)
    kinds = labels_of(buildings, "damage")
    rows, labels = [], []
    for (_, crop), kind in zip(crops_of(buildings, opened, DamageFacts()), kinds, strict=True):
        if crop.reason is not None or kind < 0:
            continue
        inside = crop.image[:, crop.mask > 0]
        stats = np.concatenate([inside.mean(1), inside.std(1), np.percentile(inside, (10, 50, 90), axis=1).ravel()])
        first, second = crop.image[:3, crop.mask > 0], crop.image[3:, crop.mask > 0]
        rows.append(np.concatenate([stats, second.mean(1) - first.mean(1), second.std(1) - first.std(1)]))
        labels.append(kind)
    return np.array(rows), np.array(labels)


def interval(found: list[NDArray[np.int64]], truth: NDArray[np.int64]) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    values = []
    for _ in range(DRAWS):
        drawn = rng.integers(len(truth), size=len(truth))
        values.append(np.mean([building_figures(one[drawn], truth[drawn])["macro_f1"] for one in found]))
    low, high = np.percentile(values, (2.5, 97.5)).tolist()
    return low, high


def line(name: str, figures: list[dict[str, Any]], low: float, high: float, score: str) -> str:
    mean = {key: np.mean([f[key] for f in figures]) for key in ("macro_f1", "accuracy", "steps_off", "kappa")}
    by_class = " / ".join(f"{np.mean([f['f1'][k] or 0 for f in figures]):.2f}" for k in figures[0]["f1"])
    return f"| {name} | **{mean['macro_f1']:.3f}** | {low:.3f} to {high:.3f} | {by_class} | {mean['accuracy']:.3f} | {mean['steps_off']:.2f} | {mean['kappa']:.2f} | {score} |"


def network(chips: dict[str, list[str]], used: tuple[int, ...], seed: int, steps: int) -> dict[str, Any]:
    """Figures of a network."""
    folder = WORK / "damage" / f"{'both' if len(used) > 1 else 'post'}-{seed}"
    if not (folder / "card.json").is_file():
        settings = DamageSettings(weights=str(WEIGHTS), steps=steps, seed=seed, used=used)
        train_on_buildings(
            pair_of(chips["left"]),
            str(LABELS),
            "damage",
            folder,
            settings,
            CONFIG,
            license_name="CC-BY-NC-SA-4.0",
            overwrite=True,
        )
    ref = pair_of(chips["right"])
    with tempfile.TemporaryDirectory() as out:
        done = map_damage(ref, str(FOOTPRINTS), load_model(str(folder)), CONFIG, Path(out))
        scene = open_pair(ref, load_model(str(folder)).card, CONFIG).scene
        return judge_damage(done.folder / "buildings.gpkg", LABELS, "damage", scene)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=300)
    args = parser.parse_args()
    chips = prepare()
    card = Card.model_validate({
        "name": "rgb", "description": "x", "license": "x", "architecture": "x", "bands": ("red", "green", "blue"), "stride": 1,
        "global_context": True, "scaling": [{"mean": 0.0, "stddev": 1.0}] * 3,
        "classes": [{"value": k, "name": str(k), "color": "#000000"} for k in range(4)],
    })  # fmt: skip
    x, y = colours(chips["left"], card)
    judged, truth = colours(chips["right"], card)
    print(
        "| | macro F1 | 95 % | F1: none / minor / major / destroyed | accuracy | steps off | kappa | xView2 |\n|---|---|---|---|---|---|---|---|"
    )
    always = np.full(len(truth), np.bincount(y).argmax())
    print(line("always the most frequent", [building_figures(always, truth)], *interval([always], truth), ""))
    forests = [
        RandomForestClassifier(500, class_weight="balanced", min_samples_leaf=2, random_state=seed, n_jobs=2)
        .fit(x, y)
        .predict(judged)
        for seed in range(args.seeds)
    ]
    print(
        line("colours, random forest", [building_figures(f, truth) for f in forests], *interval(forests, truth), ""), flush=True
    )
    for name, used in (("network, image after alone", (1,)), ("network, both images", (0, 1))):
        figures = [network(chips, used, seed, args.steps) for seed in range(args.seeds)]
        low, high = (float(np.mean([f["macro_f1_95"][k] for f in figures])) for k in (0, 1))
        print(line(name, figures, low, high, f"{np.mean([f['xview2']['score'] for f in figures]):.3f}"), flush=True)
        (WORK / "damage" / f"{'both' if len(used) > 1 else 'post'}.json").write_text(
            json.dumps(figures, indent=2), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
