"""Make the shipped model of what ``bench_accuracy.py buildings`` trained with a watershed: it runs without torch.

python benchmarks/bench_accuracy.py buildings
python benchmarks/ship_buildings.py
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import geopandas
import numpy as np
import shapely
from bench_accuracy import DATA, RECIPES, ROOT, TABLES, WORK, slug
from ship_amazon_forest import FILES

from pipeline.evaluate.match import match_files
from pipeline.train.data import open_data
from pipeline.train.recipe import Recipe

SHIPPED = ROOT / "geoseg" / "models" / "shipped" / "buildings"
KAMPALA = DATA / "kampala_buildings"
README = """# buildings

Roofs of buildings, one by one, in aerial images (RGB, uint8, 0.3 m).

| | |
|---|---|
| Network | U-Net on EfficientNet-Lite0, four levels, with heads for boundaries and distances, flooded from seeds; \
{parameters:.1f} M parameters, kept in 16 bits |
| Trained on | one drone image of a quarter of Kampala (OpenAerialMap, CC BY 4.0) \
with outlines from OpenStreetMap (ODbL 1.0, © OpenStreetMap contributors). \
It began with weights learned from ImageNet, Apache 2.0 |
| Held out of training | two blocks of 256 x 256 pixels of the same image, which chose the thresholds |
| There | {truth} buildings: polygon F1 at an intersection over union of 0.5 **{f1:.3f}** \
(precision {precision:.3f}, recall {recall:.3f}), AP50 {ap50:.3f}; from 50 to 200 m2 F1 {medium:.3f}, below 50 m2 {small:.3f} |
| With thresholds that each block took from the other | F1 {crossed:.3f} |
| Receptive field | {reach} px to each side |
| Licence of the weights | CC-BY-4.0 |

Made by `benchmarks/bench_accuracy.py buildings` from `benchmarks/recipes/buildings.toml`.

## Limits

It has seen one image of one town: a place to begin from (`[init] weights = "buildings"`), not a map of the world. So few
buildings judge that the figures may be off by 0.1. Huts below 50 m2 are mostly missed, and roofs that touch are sometimes
one. Pixels of another size than 0.3 m need `--resample`.
"""


def held_out(path: Path) -> None:
    """The blocks that are held out, as polygons."""
    data = open_data(Recipe.read(RECIPES / "buildings.toml"))
    shapes, crs = [], None
    for scene, window in data.areas:
        georeference = data.validation[scene].georeference
        assert georeference is not None
        rows = np.array([window.row_off, window.row_off, window.row_stop, window.row_stop], np.float64)
        cols = np.array([window.col_off, window.col_stop, window.col_stop, window.col_off], np.float64)
        shapes.append(shapely.Polygon(georeference.xy(rows, cols)))
        crs = georeference.crs
    geopandas.GeoSeries(shapes, crs=crs).to_file(path)


def main() -> None:
    model = WORK / "buildings" / f"{slug(TABLES['buildings'].rows[0].name)}-0"
    with tempfile.TemporaryDirectory() as text:
        work = Path(text)
        held_out(work / "held.gpkg")
        arguments = [
            "segment",
            str(KAMPALA / "scene.tif"),
            "--resample",
            "--model",
            str(model),
            "--out",
            str(work / "maps"),
            "--quiet",
        ]
        subprocess.run([sys.executable, "-m", "pipeline", *arguments], check=True, cwd=ROOT)
        found = match_files(
            str(work / "maps" / "scene"), str(KAMPALA / "buildings.geojson"), within=str(work / "held.gpkg")
        ).document
    card = json.loads((model / "card.json").read_text(encoding="utf-8"))["geoseg"]
    report = json.loads((model / "training" / "validation.json").read_text(encoding="utf-8"))
    SHIPPED.mkdir(exist_ok=True)
    for name in FILES:
        shutil.copyfile(model / name, SHIPPED / name)
    figures = {key: found["figures"][key] for key in ("truth", "f1", "precision", "recall", "ap50")}
    text = README.format(
        parameters=card["total_parameters"] / 1e6,
        reach=max(card["receptive_field"].values()),
        crossed=report["objects"]["f1"],
        small=found["sizes"][0]["f1"],
        medium=found["sizes"][1]["f1"],
        **figures,
    )
    (SHIPPED / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
