"""A result of graded buildings without a model: the labelled buildings of a real event, with errors among their grades."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio.raw
import rasterio
import shapely
from numpy.typing import NDArray

from geoseg.vectors.polygon_file import PolygonFile
from pipeline.damage.buildings import Building
from pipeline.damage.document import GradedBuilding, counted
from pipeline.damage.files import Common, write_buildings
from pipeline.damage.grading import Grade
from pipeline.damage.sums import summed_up
from pipeline.damage.zones import count_by_zone
from pipeline.files.run_folder import RunFolder
from pipeline.files.version import code_version
from tests.support import UTM

GRADES = ("no damage", "minor damage", "major damage", "destroyed")
LABELS = {"no-damage": 0, "minor-damage": 1, "major-damage": 2, "destroyed": 3}


def joplin(shared: Path, folder: Path, *, report: dict[str, Any] | None = None) -> tuple[Path, NDArray[np.int64]]:
    """Buildings after the tornado of 2011, graded with a fifth of errors, and their labels (N,); -1 where there is none."""
    data = shared / "data" / "joplin_damage"
    meta, _, wkb, values = pyogrio.raw.read(data / "post_buildings.geojson")
    label = dict(zip(meta["fields"], values, strict=True))["damage"]
    truth = np.array([LABELS.get(str(text), -1) for text in label])
    rng = np.random.default_rng(5)
    wrong = rng.random(len(truth)) < 0.2
    code = np.where(truth < 0, 254, np.clip(truth + np.where(wrong, rng.choice([-1, 1], len(truth)), 0), 0, 3)).astype(np.int16)
    confidence = np.where(wrong, rng.uniform(40, 95, len(truth)), rng.uniform(60, 100, len(truth)))
    folder.mkdir(parents=True)
    shapes = shapely.from_wkb(wkb)
    classes = np.array([GRADES[c] if c < 4 else "not analysed" for c in code], object)
    reason = np.array([None if c < 4 else "cloud" for c in code], object)
    pyogrio.raw.write(
        folder / "buildings.gpkg",
        shapely.to_wkb(shapes),
        [np.arange(1, len(code) + 1), code, classes, np.full(len(code), 150.0), confidence, reason],
        ["id", "code", "class", "area_m2", "confidence", "reason"],
        layer="buildings",
        geometry_type="Unknown",
        crs="EPSG:4326",
        driver="GPKG",
    )
    dates = [{"acquired": day, "source": [str(data / name)]} for day, name in (("2010-06-01", "pre.tif"), (None, "post.tif"))]
    told = {"dates": dates, "model": {"name": "m", "version": "1", "sha256": "ab" * 32}} | (report or {})
    (folder / "damage.json").write_text(json.dumps(told))
    return folder, truth


def graded_town(folder: Path, *, count: int = 36, suggested: int = 6) -> Path:
    """A result as ``geoseg damage`` publishes it, with both images, zones, and buildings to label next; without a model's run.

    Returns its folder; ``pre.tif``, ``post.tif`` and ``truth.gpkg`` lie in ``folder``.
    """
    rng = np.random.default_rng(7)
    side, step = 6, 60
    place = rasterio.Affine(0.5, 0.0, 430_000.0, 0.0, -0.5, 8_930_000.0)
    truth = np.arange(count) * 5 % 4
    before = rng.normal(90, 8, (3, side * step, side * step))
    after = rng.normal(95, 8, before.shape)
    shapes = []
    for k in range(count):
        top, left, height, width = 12 + k // side * step, 12 + k % side * step, *rng.integers(20, 34, 2).tolist()
        part = slice(None), slice(top, top + height), slice(left, left + width)
        before[part] = 200
        rubble = rng.random((height, width)) < (0.0, 0.25, 0.6, 1.0)[truth[k]]
        after[part] = np.where(rubble, rng.normal(70, 45, (3, height, width)), 200)
        (west, north), (east, south) = place @ (left, top), place @ (left + width, top + height)
        shapes.append(shapely.box(west, south, east, north))
    profile = {"driver": "GTiff", "height": side * step, "width": side * step, "count": 3, "dtype": "uint8", "crs": UTM}
    for name, image in (("pre", before), ("post", after)):
        with rasterio.open(folder / f"{name}.tif", "w", transform=place, photometric="rgb", **profile) as target:
            target.write(np.clip(image, 1, 255).astype(np.uint8))
    names = [f"b{k}" for k in range(count)]
    frame = geopandas.GeoDataFrame({"uid": names, "damage": [GRADES[k] for k in truth]}, geometry=shapes, crs=UTM)
    frame.to_file(folder / "truth.gpkg")
    chances = rng.dirichlet(np.full(4, 0.4), count).astype(np.float32)
    graded = [
        GradedBuilding.of(
            Building(k + 1, names[k], shapes[k], shapes[k], {}),
            Grade("cloud", None) if k == 0 else Grade(None, chances[k]),
            round(shapes[k].area, 3),
            labelled=False,
        )
        for k in range(count)
    ]
    return _published(folder, graded, frame, suggested)


def _published(folder: Path, graded: list[GradedBuilding], frame: geopandas.GeoDataFrame, suggested: int) -> Path:
    run = RunFolder(folder / "out" / "pre_to_post")
    model = {"name": "m", "version": "1", "sha256": "ab" * 32}
    dates = [{"acquired": None, "source": [str(folder / f"{name}.tif")]} for name in ("pre", "post")]
    west, south, east, north = frame.total_bounds
    halves = [shapely.box(west, south, (west + east) / 2, north), shapely.box((west + east) / 2, south, east, north)]
    geopandas.GeoDataFrame({"quarter": ["west", "east"]}, geometry=halves, crs=UTM).to_file(folder / "zones.gpkg")
    with run.held():
        stage = run.clear_stage()
        columns = {"pre_date": None, "post_date": None, "pre_image": "pre.tif", "post_image": "post.tif"}
        common = Common({**columns, "model": "m 1", "model_sha256": model["sha256"]}, 7)
        write_buildings(stage, graded, frame.crs, common)
        zones = count_by_zone(stage, PolygonFile.open(folder / "zones.gpkg"), graded, frame.crs)
        document = {
            "dates": dates,
            "footprints": str(folder / "truth.gpkg"),
            "model": model,
            "registration": [],
            "warnings": ["a warning of the run"],
            **counted(graded),
            "grid": summed_up(stage, 50.0),
            "zones": zones,
        }
        (stage / "damage.json").write_text(json.dumps(document))
        asked = frame.iloc[3 : 3 + suggested].rename(columns={"uid": "name"}).assign(rank=range(1, suggested + 1), guess=None)
        known = frame.iloc[1:3].rename(columns={"uid": "name"}).assign(rank=0, guess=None)
        following = geopandas.pd.concat([known, asked.assign(damage=None)])
        following.to_file(stage / "label_next.gpkg", layer="label_next")
        identity = {"scene": "s", "footprints": "f" * 64}
        facts = {"dates": dates, "model": model, "warnings": document["warnings"], "scene": "pre_to_post"}
        run.publish({"geoseg": code_version(), "status": "done", "identity": identity, **facts})
        run.prune()
    run.leave()
    return run.folder
