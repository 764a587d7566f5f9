"""`geoseg damage --labels`: a model of one event from a few labels, the same whatever their order, quick with more."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from pages import read_page

import geoseg
from geoseg.damage.scale import CLASSES
from geoseg.errors import ConfigError
from geoseg.models.model_folder import load_model
from pipeline.changes.run import pair_of
from pipeline.config.sections import Config
from pipeline.damage.run import map_damage
from pipeline.damage.settings import EventOptions
from tests.support import UTM, call_cli

TRANSFORM = rasterio.Affine(0.5, 0.0, 430_000.0, 0.0, -0.5, 8_930_000.0)
SIDE, BUILDINGS = 360, 36


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two dates of a town, where rubble lies in the place of roofs, the more the worse; the second date hides one building."""
    folder = tmp_path_factory.mktemp("town")
    rng = np.random.default_rng(0)
    before, after = rng.normal(90, 8, (3, SIDE, SIDE)), rng.normal(95, 8, (3, SIDE, SIDE))
    rows = []
    for k in range(BUILDINGS):
        top, left = 12 + k // 6 * 58, 12 + k % 6 * 58
        height, width = rng.integers(20, 34, 2)
        part, roof, kind = (slice(top, top + height), slice(left, left + width)), rng.uniform(150, 220), k * 5 % 4
        before[:, *part] = roof + rng.normal(0, 5, (3, height, width))
        rubble = rng.random((height, width)) < (0.0, 0.25, 0.6, 1.0)[kind]
        after[:, *part] = np.where(rubble, rng.normal(70, 45, (3, height, width)), roof + rng.normal(0, 5, (3, height, width)))
        x, y = TRANSFORM @ (left, top)
        rows.append({"uid": f"b{k}", "damage": CLASSES[kind], "geometry": shapely.box(x, y - height / 2, x + width / 2, y)})
    after[:, :50, :50] = 0
    for name, image, day in (("pre", before, "2020-01-01"), ("post", after, None)):
        profile = {"driver": "GTiff", "height": SIDE, "width": SIDE, "count": 3, "dtype": "uint8", "crs": UTM, "nodata": 0}
        with rasterio.open(folder / f"{name}.tif", "w", transform=TRANSFORM, photometric="rgb", **profile) as target:
            target.write(np.where(image == 0, 0, np.clip(image, 1, 255)).astype(np.uint8))
            if day is not None:
                target.update_tags(ACQUISITION_DATE=day)
    geopandas.GeoDataFrame(rows, crs=UTM).to_file(folder / "truth.gpkg")
    return folder


def grade(town: Path, out: Path, *labels: Path, **more: object) -> Path:
    done = geoseg.grade_damage(
        town / "pre.tif", town / "post.tif", out=out, footprints=str(town / "truth.gpkg"), labels=labels, **more
    )
    return done.folder


def filled(town: Path, path: Path, source: Path) -> Path:
    """A file of what to label next, with the classes that somebody saw."""
    truth = geopandas.read_file(town / "truth.gpkg").set_index("uid")["damage"]
    asked = geopandas.read_file(source)
    asked["damage"] = asked["name"].map(truth)
    asked.to_file(path)
    return path


@pytest.fixture(scope="module")
def graded(town: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without labels, which says where to begin, and one with those."""
    out = tmp_path_factory.mktemp("runs")
    folder = grade(town, out, label_next=16)
    assert set(geopandas.read_file(folder / "buildings.gpkg", layer="buildings")["reason"]) == {
        "no label yet",
        "no data at date 2",
    }
    assert len(geopandas.read_file(folder / "label_next.gpkg")) == 16
    labels = filled(town, out / "labels.gpkg", folder / "label_next.gpkg")
    return grade(town, out, labels, label_next=6)


def test_a_few_labels_grade_the_rest(town: Path, graded: Path) -> None:
    found = geopandas.read_file(graded / "buildings.gpkg", layer="buildings").set_index("name")
    truth = geopandas.read_file(town / "truth.gpkg").set_index("uid")["damage"]
    assert len(found) == BUILDINGS
    assert found.loc["b0", "reason"] == "no data at date 2"
    known = found[found["labelled"] == 1]
    assert len(known) == 16
    assert (known["class"] == truth[known.index]).all()
    assert (known["confidence"] == 100).all()
    rest = found[(found["labelled"] == 0) & (found["code"] < 4)]
    steps = np.abs(rest["code"] - [CLASSES.index(truth[name]) for name in rest.index])
    # Far better than chance (1.25).
    assert steps.mean() < 0.7
    document = json.loads((graded / "damage.json").read_text())
    event = document["event_model"]
    assert (event["labels"], event["unmatched"], event["label_next"]) == (16, 0, 6)
    assert event["cross_validated"]["macro_f1"] > 0.5
    assert sum(event["by_class"].values()) == 16
    said = " ".join(document["warnings"])
    assert "model of this event alone, learned from 16 labelled buildings" in said
    assert "post.tif says no date of acquisition" in said
    asked = geopandas.read_file(graded / "label_next.gpkg")
    assert asked["damage"].notna().sum() == 16
    new = asked[asked["damage"].isna()]
    assert new["rank"].tolist() == [1, 2, 3, 4, 5, 6]
    assert not set(new["name"]) & {*known.index, "b0"}
    page = read_page(graded / "report.html")
    assert "A model of this event" in page.text
    assert "16 (" in page.text


def test_labels_in_any_form_and_order_give_the_same_bytes(town: Path, graded: Path, tmp_path: Path) -> None:
    labels = geopandas.read_file(graded / "label_next.gpkg").dropna(subset="damage")
    points = labels.set_geometry(labels.representative_point()).sample(frac=1, random_state=1).to_crs(4326)
    points["what"] = points.pop("damage").str.replace(" ", "-")
    points.iloc[:9].to_file(tmp_path / "a.geojson")
    points.iloc[7:].to_file(tmp_path / "b.gpkg")
    again = grade(town, tmp_path / "out", tmp_path / "b.gpkg", tmp_path / "a.geojson", label_column="what", label_next=6)
    for name in ("buildings.geojson", "buildings.csv", "buildings.gpkg", "embeddings.npz", "grid.gpkg"):
        assert (graded / name).read_bytes() == (again / name).read_bytes(), name


def test_more_labels_use_the_embeddings_that_are_there(town: Path, graded: Path, tmp_path: Path) -> None:
    shutil.copytree(graded.parent, tmp_path / "runs")
    graded = tmp_path / "runs" / graded.name
    more = filled(town, tmp_path / "more.gpkg", graded / "label_next.gpkg")
    before = (graded / "embeddings.npz").read_bytes()
    pair = pair_of([str(town / "pre.tif"), str(town / "post.tif")])
    asked = EventOptions(labels=(str(more),), label_next=6)
    config = Config.parse({"run": {"keep": True}})
    done = map_damage(pair, str(town / "truth.gpkg"), load_model("buildings"), config, graded.parent, event=asked)
    assert (done.folder, done.skipped) == (graded, None)
    # A run that embeds leaves its parts below what is under way, where that is kept.
    assert (graded / ".run" / "manifest.jsonl").is_file()
    assert not (graded / ".run" / "chunks").exists()
    assert (graded / "embeddings.npz").read_bytes() == before
    assert json.loads((graded / "damage.json").read_text())["event_model"]["labels"] == 22
    # Of the same labels it is done.
    assert call(town, graded.parent, "--labels", more, "--label-next", "6").stdout.startswith("Done by an earlier run")


def call(town: Path, out: Path, *more: str | Path):
    return call_cli(["damage", town / "pre.tif", town / "post.tif", "--footprints", town / "truth.gpkg", "--out", out, *more])


@pytest.mark.slow
def test_labels_that_can_not_be_used_are_refused(town: Path, tmp_path: Path) -> None:
    truth = geopandas.read_file(town / "truth.gpkg")
    cases = {
        "no column 'kind'": (truth, {"label_column": "kind"}),
        "'rubble' is no class of the scale": (truth.assign(damage=["rubble"] * BUILDINGS), {}),
        "none of its 36 labels lies on a footprint": (truth.set_geometry(truth.translate(9000)), {}),
        "at least 5 of 2 classes": (truth.iloc[10:13], {}),
        "is labelled both": (geopandas.pd.concat([truth, truth.assign(damage="destroyed")]), {}),
    }
    for number, (message, (frame, more)) in enumerate(cases.items()):
        frame.to_file(tmp_path / f"{number}.gpkg")
        with pytest.raises(ConfigError, match=message):
            grade(town, tmp_path / "out", tmp_path / f"{number}.gpkg", **more)
    with pytest.raises(ConfigError, match="model: none is given"):
        grade(town, tmp_path / "out")


def test_the_console_says_shift_dates_and_figures(town: Path, graded: Path, tmp_path: Path) -> None:
    labels = geopandas.read_file(graded / "label_next.gpkg").dropna(subset="damage")
    labels.to_file(tmp_path / "labels.gpkg")
    shutil.copytree(graded.parent, tmp_path / "runs")
    graded = tmp_path / "runs" / graded.name
    done = call(town, graded.parent, "--labels", tmp_path / "labels.gpkg", "--label-next", "4")
    assert done.returncode == 0, done.stderr
    assert "Date 2 against the first: " in done.stdout
    assert "say them with --acquired" in done.stdout
    assert f"A model of this event, from {len(labels)} labelled buildings: macro F1 of labels held out " in done.stdout
    assert "To label next: 4 buildings" in done.stdout
