"""How models of buildings hold in other places: polygons and pixels of places that they have not learned from, in Markdown.

    python benchmarks/bench_roofs.py buildings build/accuracy/buildings/watershed--blocks-0-0
    python benchmarks/bench_roofs.py buildings --part train

Polygons are those of ``geoseg segment`` on the part of Banepa that teaches nothing, judged by ``geoseg match``. Pixels are those
of chips of Bangladesh, brought to 0.3 m, and of many cities as they are, by the engine that ``segment`` runs. Both of these sets
teach no shipped model: ``--part train`` are those places of them by which recipes may be chosen, ``val`` those that judge.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import shapely
from bench_accuracy import DATA, RECIPES, ROOT

from geoseg.evaluation.confusion import ConfusionMatrix
from geoseg.inference.decision import Decision
from geoseg.models.model_folder import Model, load_model
from geoseg.training.data.chips import ChipSource
from geoseg.training.validation import judge, open_for_chips
from pipeline.config.document import read_toml
from pipeline.evaluate.match import match_files
from pipeline.evaluate.match_document import MatchDocument
from pipeline.train.data import open_data
from pipeline.train.recipe import Recipe

SETS = {"Bangladesh": "bangladesh_buildings", "cities": "buildings_many_cities"}
PARTS = ("train", "val")
Figure = float | None


def held_out(model: str, name: str, path: Path) -> None:
    """Write the blocks of a scene that the training of a model has held out, as polygons."""
    recipe = json.loads((Path(model) / "training" / "recipe.json").read_text(encoding="utf-8"))
    data = open_data(Recipe.parse(recipe))
    scene = next(source for source in data.validation if source.name == name)
    georeference = scene.georeference
    assert georeference is not None
    shapes = []
    for window in (window for number, window in data.areas if data.validation[number] is scene):
        rows = np.array([window.row_off, window.row_off, window.row_stop, window.row_stop], np.float64)
        cols = np.array([window.col_off, window.col_stop, window.col_stop, window.col_off], np.float64)
        shapes.append(shapely.Polygon(georeference.xy(rows, cols)))
    geopandas.GeoSeries(shapes, crs=georeference.crs).to_file(path)


def judged(model: str, folder: Path, scene: str | None = None) -> MatchDocument:
    """What ``geoseg match`` says of the polygons of a folder's scene.

    Args:
        model: A model folder, or the name of a shipped model.
        folder: It holds scene.tif and buildings.geojson.
        scene: Name of the scene in the model's recipe; what its training held out of it judges. None for all of the scene.
    """
    with tempfile.TemporaryDirectory() as text:
        work = Path(text)
        command = ["segment", str(folder / "scene.tif"), "--resample", "--model", model, "--out", str(work / "maps"), "--quiet"]
        subprocess.run([sys.executable, "-m", "pipeline", *command], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        if scene is not None:
            held_out(model, scene, work / "held.gpkg")
        within = None if scene is None else str(work / "held.gpkg")
        return match_files(str(work / "maps" / "scene"), str(folder / "buildings.geojson"), within=within).document


def chips(folder: Path, part: str) -> Sequence[ChipSource]:
    """Chips of a set with their masks, read as a training would that judges by this part of it."""
    recipe: dict[str, Any] = read_toml(RECIPES / "buildings.toml")
    place = {} if (plain := folder.name == SETS["cities"]) else {"resample": True}
    data = [
        {"images": [str(folder / each / "images")], "labels": str(folder / each / "masks"), "plain": plain, **place}
        | {"role": "val" if each == part else "train"}
        for each in PARTS
    ]
    classes = [{**about, "labels": [value]} for about, value in zip(recipe["classes"], (0, 255), strict=True)]
    kept = {key: recipe[key] for key in ("name", "description", "bands", "value_range", "gsd_m", "network", "sample")}
    return open_data(Recipe.parse({**kept, "data": data, "classes": classes})).validation


def pixels(model: Model, judged: Sequence[ChipSource]) -> tuple[float, float]:
    """IoU of buildings, of all pixels of some chips together, and the mean over the chips that hold buildings."""
    engine, decision = open_for_chips(model), Decision.of(model.card)
    names = [c.name for c in model.card.classes]
    building = names.index("building")
    counts = [ConfusionMatrix.zeros(len(names)) for _ in judged]
    for found in judge(engine, model.card, judged):
        counts[found.source] += ConfusionMatrix.tally(found.labels, found.classes(decision), len(names))
    each = [tally.iou()[building] for tally in counts if tally.counts[building].any()]
    return float(sum(counts[1:], counts[0]).iou()[building]), float(np.mean(each))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="Model folders, or names of shipped models.")
    parser.add_argument("--part", choices=PARTS, default="val")
    parser.add_argument("--kampala", action="store_true", help="Judge the blocks of Kampala that a training has held out, too.")
    arguments = parser.parse_args()
    titles = ["Kampala: polygon F1"] if arguments.kampala else []
    titles += ["Banepa: polygon F1", "PQ"] if arguments.part == "val" else []
    titles += [f"{name}: {title}" for name in SETS for title in ("IoU, pixels", "mean of chips")]
    print(f"| model | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|", sep="\n", flush=True)
    for name in arguments.models:
        found: list[Figure] = []
        if arguments.kampala:
            found.append(judged(name, DATA / "kampala_buildings", "scene")["figures"]["f1"])
        if arguments.part == "val":
            found += [judged(name, DATA / "banepa_buildings" / "val")["figures"][key] for key in ("f1", "pq")]
        model = load_model(name)
        for folder in SETS.values():
            found += pixels(model, chips(DATA / folder, arguments.part))
        cells = ["none" if figure is None else f"{figure:.3f}" for figure in found]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
