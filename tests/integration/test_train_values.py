"""``geoseg train`` of a quantity: from scenes and rasters of numbers to a model that ``geoseg segment`` runs."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from support import call_cli

pytest.importorskip("lightning")

import geoseg
from geoseg.errors import ConfigError, GeosegError
from geoseg.models.model_folder import load_model
from geoseg.training.data.valued import ValueStatistics
from pipeline.train.quantity import QuantityRecipe, storage_of, value_warnings
from pipeline.train.recipe import Recipe
from pipeline.train.run import describe

RECIPE = """
name = "heights"
description = "made by a test"
bands = ["red", "green", "blue"]
value_range = [0, 255]

[quantity]
name = "canopy height"
unit = "m"

[[data]]
images = ["{data}/train/images"]
labels = "{labels}"
only = ["Amazon_1[0-7]*"]

[split]
val = 0.3

[network]
architecture = "unet-2015"
parameters = {{ width = 6, depth = 2, padding = "same", batch_norm = true }}

[sample]
chip = 64
batch = 4

[augment]
gain = 0.0
band_gain = 0.0
offset = 0.0
band_offset = 0.0
haze = 0.0
noise = 0.0

[loss.terms]
{term} = 1.0

[loop]
steps = 60
check = 20
rate = 1e-2
"""
NO_DATA = -9999.0


@pytest.fixture(scope="module")
def labels(forest_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Numbers that follow from the image: its green less its red, as decimal numbers with nodata."""
    folder = tmp_path_factory.mktemp("labels")
    for path in sorted((forest_data / "train" / "images").glob("Amazon_1[0-7]*")):
        with rasterio.open(path) as dataset:
            red, green = (dataset.read(k).astype(np.float32) for k in (1, 2))
            profile = {"crs": dataset.crs, "transform": dataset.transform, "height": dataset.height, "width": dataset.width}
        height = 20 + 0.2 * (green - red)
        height[:30, :40] = NO_DATA
        with rasterio.open(folder / path.name, "w", driver="GTiff", count=1, dtype="float32", nodata=NO_DATA, **profile) as out:
            out.write(height, 1)
    return folder


@pytest.fixture(scope="module")
def trained(forest_data: Path, labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    (folder / "train.toml").write_text(RECIPE.format(data=forest_data, labels=labels, term="huber"))
    done = call_cli(["train", folder / "train.toml", "--out", folder / "heights"])
    assert done.returncode == 0, done.stderr
    return folder / "heights"


def test_its_report_is_what_evaluate_finds(trained: Path, forest_data: Path, labels: Path, tmp_path: Path) -> None:
    card, report = load_model(str(trained)).card, json.loads((trained / "training" / "validation.json").read_text())
    quantity = card.quantity
    assert quantity is not None
    assert (quantity.name, quantity.unit) == ("canopy height", "m")
    assert (card.activation, card.half_precision, card.channels) == ("identity", False, 1)
    assert card.to_json()["mlm:tasks"] == ["regression"]
    assert report["torch_onnx_difference"] < 1e-4
    # It learned most of what it can know.
    assert report["r2"] > 0.8
    assert f"RMSE **{report['rmse']:.4g} m**" in (trained / "README.md").read_text()
    with (trained / "training" / "curve.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["20", "40", "60"]
    assert float(rows[-1]["val/rmse"]) < float(rows[0]["val/rmse"])
    assert "val/miou" not in rows[0]
    # Its page has the figures of the whole and of each scene.
    page = (trained / "training" / "report.html").read_text()
    for scene in report["scenes"]:
        row = [scene["scene"], *(f"{scene[key]:.4g} m" for key in ("rmse", "mae", "bias")), f"{scene['r2']:.4g}"]
        cells = r"</t[hd]><td[^>]*>".join(map(re.escape, row))
        assert re.search(cells, page), row
    for key in ("rmse", "mae", "bias"):
        assert f">{report[key]:.4g} m<" in page, key
    # The scenes that were held out, mapped by the main job, have the same errors but for the steps between codes.
    held = [str(forest_data / "train" / "images" / f"{scene['scene']}.tif") for scene in report["scenes"]]
    done = call_cli(["segment", *held, "--model", trained, "--out", tmp_path / "maps", "--halo", "exact", "-q"])
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "maps").rglob("polygons.*"))
    truths = tmp_path / "truths"
    truths.mkdir()
    for scene in report["scenes"]:
        (truths / f"{scene['scene']}.tif").symlink_to(labels / f"{scene['scene']}.tif")
    found = geoseg.evaluate(tmp_path / "maps", truths)
    figures = found.document["figures"]
    assert {name: figures[name] for name in ("rmse", "mae", "bias", "r2")} == pytest.approx(
        {name: report[name] for name in ("rmse", "mae", "bias", "r2")}, abs=quantity.scale
    )
    assert found.document["coverage"]["compared"] == report["pixels"]


@pytest.mark.slow
@pytest.mark.parametrize("term", ["l1", "l2"])
def test_other_losses(forest_data: Path, labels: Path, tmp_path: Path, term: str) -> None:
    (tmp_path / "train.toml").write_text(RECIPE.format(data=forest_data, labels=labels, term=term))
    done = call_cli(["train", tmp_path / "train.toml", "--out", tmp_path / "out", "--set", "loop.steps=20", "-q"])
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "training" / "validation.json").read_text())["pixels"] > 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"tasks": {"boundary": 1.0}}, "tasks: is for classes, and canopy height is regressed from the numbers of data.labels"),
        ({"loss": {"terms": {"dice": 1.0}}}, "loss.terms: dice is a loss of classes"),
        ({"classes": [{"name": "forest", "color": "#1a7837"}]}, "classes: canopy height is regressed, which has no classes"),
        ({"sample": {"by": "class"}}, "sample.by: is for classes"),
        ({"keep": {"distill": 1.0}, "init": {"weights": "x"}}, "keep.distill: is for classes"),
    ],
)
def test_refused(change: dict[str, object], sentence: str) -> None:
    given = {"name": "a", "description": "b", "bands": ["red"], "data": [{"images": ["x"], "labels": "y"}]}
    Recipe.parse({**given, "quantity": {"name": "canopy height"}})
    with pytest.raises(ConfigError, match=sentence):
        Recipe.parse({**given, "quantity": {"name": "canopy height"}, **change})
    with pytest.raises(ConfigError, match="classes"):
        Recipe.parse(given)


def test_labels_that_hold_no_numbers(forest_data: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    text = RECIPE.format(data=forest_data, labels=tmp_path / "labels.geojson", term="l1")
    (tmp_path / "train.toml").write_text(text)
    with pytest.raises(ConfigError, match="a quantity is learned from rasters of numbers, not from polygons"):
        describe(Recipe.read(tmp_path / "train.toml"))


@pytest.mark.parametrize(("least", "most"), [(0.0, 1.0), (0.0, 60.0), (-412.5, 3120.0), (250.0, 251.0), (1e-7, 4e-7)])
def test_codes_reach_beyond_the_labels(least: float, most: float) -> None:
    scale, offset = storage_of(QuantityRecipe(name="x"), ValueStatistics(10, 0.0, 1.0, least, most))
    span, top = most - least, offset + 65533 * scale
    assert offset <= (0 if least >= 0 else least - span)
    assert (offset == 0) == (least >= 0)
    assert top >= most + span * 0.999
    # Steps stay small against the range.
    assert scale <= 5 * (top - offset) / 65533
    assert scale < max(span, most) / 4000
    given = storage_of(QuantityRecipe(name="x", scale=0.5, offset=-3.0), ValueStatistics(10, 0.0, 1.0, least, most))
    assert given == (0.5, -3.0)


@pytest.mark.parametrize(
    ("stored", "least", "most", "sentence"),
    [
        ({"scale": 1e-6}, 2.0, 30.0, "maps hold 0 to 0.065533, and labels go from 2 to 30"),
        ({"offset": 10.0}, 2.0, 30.0, "maps hold 10 to"),
        ({}, -9999.0, 30.0, "-9999 is learned as a number, and looks like no data"),
        ({}, 0.0, 3.4e38, "3.4e+38 is learned as a number"),
        ({"scale": 0.01, "offset": -5.0}, -4.0, 30.0, ""),
        ({}, -412.5, 3120.0, ""),
    ],
)
def test_labels_that_maps_can_not_hold(stored: dict[str, float], least: float, most: float, sentence: str) -> None:
    told = value_warnings(QuantityRecipe(name="x", **stored), ValueStatistics(10, 0.0, 1.0, least, most))
    assert sentence in " ".join(told)
    assert bool(told) == bool(sentence)


@pytest.mark.slow
def test_labels_are_looked_at_before_anything_is_trained(trained: Path, forest_data: Path, labels: Path, tmp_path: Path) -> None:
    """A dry run needs no folder, and says what labels and maps hold; labels elsewhere or without a CRS are no labels."""
    (tmp_path / "train.toml").write_text(RECIPE.format(data=forest_data, labels=labels, term="l1"))
    done = call_cli(["train", tmp_path / "train.toml", "--dry-run"])
    assert done.returncode == 0, done.stderr
    quantity = load_model(str(trained)).card.quantity
    assert quantity is not None
    assert re.search(rf"maps hold +{quantity.offset:g} to .* m, in steps of {quantity.scale:g} m", done.stdout)
    assert "Missing option '--out'" in call_cli(["train", tmp_path / "train.toml"]).stderr
    for name, change, sentence in (
        (
            "far",
            lambda profile: {"transform": profile["transform"] @ Affine.translation(5000, 0)},
            "rasters of data.labels lie on",
        ),
        ("bare", lambda _: {"crs": None}, "has coordinates and no CRS"),
    ):
        (tmp_path / name).mkdir()
        for path in labels.iterdir():
            with (
                rasterio.open(path) as dataset,
                rasterio.open(tmp_path / name / path.name, "w", **{**dataset.profile, **change(dataset.profile)}) as out,
            ):
                out.write(dataset.read())
        (tmp_path / "train.toml").write_text(RECIPE.format(data=forest_data, labels=tmp_path / name, term="l1"))
        with pytest.raises(GeosegError, match=sentence):
            describe(Recipe.read(tmp_path / "train.toml"))
