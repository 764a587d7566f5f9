"""`geoseg damage`: every building once, with a class or a reason; the same whatever the CRS of the footprints and the order."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.features
import rasterio.windows
import shapely
from numpy.typing import NDArray
from safetensors.torch import load_file

import geoseg
from geoseg.damage.scale import CLASSES
from geoseg.errors import OutsideAreaError
from geoseg.models.model_folder import Model, load_model
from tests.support import UTM, call_cli, damage_by_red, run_cli

pytest.importorskip("torch")

TRANSFORM = rasterio.Affine(0.5, 0.0, 430_000.0, 0.0, -0.5, 8_930_000.0)
SIDE = 600
WORDS = ("none", "minor", "major", "destroyed")


def town(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], geopandas.GeoDataFrame]:
    """Two dates of a town: the worse the damage, the more rubble lies where the roof was."""
    rng = np.random.default_rng(seed)
    before = rng.normal(90, 8, (3, SIDE, SIDE))
    after = rng.normal(95, 8, (3, SIDE, SIDE))
    rows = []
    for k in range(100):
        row, col = divmod(k, 10)
        top, left = 15 + row * 58, 15 + col * 58
        height, width = rng.integers(18, 34, 2)
        part = slice(top, top + height), slice(left, left + width)
        roof = rng.uniform(150, 220)
        kind = int(rng.integers(0, 4))
        before[:, *part] = roof + rng.normal(0, 5, (3, height, width))
        rubble = rng.random((height, width)) < (0.0, 0.25, 0.6, 1.0)[kind]
        after[:, *part] = np.where(rubble, rng.normal(70, 45, (3, height, width)), roof + rng.normal(0, 5, (3, height, width)))
        x, y = TRANSFORM @ (left, top)
        rows.append({"uid": f"b{k}", "damage": WORDS[kind], "geometry": shapely.box(x, y - height * 0.5, x + width * 0.5, y)})
    frame = geopandas.GeoDataFrame(rows, crs=UTM)
    return *(np.clip(a, 1, 255).astype(np.uint8) for a in (before, after)), frame


def write(path: Path, image: NDArray[np.uint8], date: str) -> Path:
    profile = {
        "driver": "GTiff",
        "height": SIDE,
        "width": SIDE,
        "count": 3,
        "dtype": "uint8",
        "crs": UTM,
        "transform": TRANSFORM,
        "photometric": "rgb",
        "nodata": 0,
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
    }
    with rasterio.open(path, "w", **profile) as target:
        target.write(image)
        target.update_tags(ACQUISITION_DATE=date)
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and labels of a town to train on and another to judge by."""
    folder = tmp_path_factory.mktemp("town")
    for seed, name in ((0, "train"), (1, "judge")):
        before, after, frame = town(seed)
        write(folder / f"{name}_pre.tif", before, "2020-01-01")
        write(folder / f"{name}_post.tif", after, "2021-01-01")
        frame.to_file(folder / f"{name}.geojson")
    return folder


@pytest.fixture(scope="module")
def model(place: Path) -> Model:
    """Trained by the one command."""
    done = call_cli(
        [
            "train-damage",
            place / "train_pre.tif",
            place / "train_post.tif",
            "--labels",
            place / "train.geojson",
            "--out",
            place / "model",
            "--folds",
            "2",
            "--views",
            "2",
            "--encoder",
            "tu-mobilenetv3_small_050",
            "--assume-crs",
            UTM,
        ]
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return load_model(str(place / "model"))


def graded(place: Path, out: Path, footprints: Path, model: Model, *more: str | Path) -> geopandas.GeoDataFrame:
    done = call_cli(
        [
            "damage",
            place / "judge_pre.tif",
            place / "judge_post.tif",
            "--footprints",
            footprints,
            "--model",
            model.path,
            "--out",
            out,
            *more,
        ]
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return geopandas.read_file(out / "judge_pre_to_judge_post" / "buildings.gpkg", layer="buildings")


@pytest.mark.slow
def test_buildings_are_graded_once_whatever_the_crs(tmp_path: Path, place: Path, model: Model) -> None:
    truth = place / "judge.geojson"
    found = graded(place, tmp_path / "one", truth, model, "--truth", truth, "--cell", "100")
    assert len(found) == 100
    assert set(found["class"]) <= set(CLASSES)
    p = found[[f"p_{name.replace(' ', '_')}" for name in CLASSES]].to_numpy()
    assert np.allclose(p.sum(axis=1), 1, atol=1e-3)
    assert (found["pre_date"] == "2020-01-01").all()
    labels = dict(zip(*(geopandas.read_file(truth)[c] for c in ("uid", "damage")), strict=True))
    steps = [abs(code - WORDS.index(labels[name])) for code, name in zip(found["code"], found["name"], strict=True)]
    # Far better than chance (1.25) after seconds of training.
    assert np.mean(steps) < 0.8
    folder = tmp_path / "one" / "judge_pre_to_judge_post"
    figures = json.loads((folder / "evaluation.json").read_text())
    assert figures["macro_f1_95"][0] <= figures["macro_f1"] <= figures["macro_f1_95"][1]
    assert figures["xview2"]["localization_f1"] > 0.99
    grid = geopandas.read_file(folder / "grid.gpkg")
    assert grid["total"].sum() == 100
    with rasterio.open(folder / "density.tif") as raster:
        density, side = raster.read(1), raster.transform.a
    destroyed = (found["class"] == "destroyed").sum()
    assert density[density >= 0].sum() * (side / 1000) ** 2 == pytest.approx(destroyed, rel=1e-3)
    summary = json.loads((folder / "damage.json").read_text())
    assert sum(summary["counts"][name] for name in CLASSES) == 100
    # The same buildings in degrees, shuffled.
    frame = geopandas.read_file(truth).to_crs(4326).sample(frac=1, random_state=0)
    frame.to_file(tmp_path / "degrees.gpkg")
    again = graded(place, tmp_path / "two", tmp_path / "degrees.gpkg", model)
    both = found.merge(again, on="name")
    assert len(both) == 100
    assert (both["code_x"] == both["code_y"]).mean() > 0.98
    assert np.allclose(both["area_m2_x"], both["area_m2_y"], rtol=2e-3)


@pytest.mark.slow
def test_what_is_not_seen_is_not_analysed(tmp_path: Path, place: Path, model: Model) -> None:
    shutil.copy(place / "judge_pre.tif", tmp_path / "judge_pre.tif")
    with rasterio.open(place / "judge_post.tif") as scene:
        post = scene.read()
    post[:, :120] = 0
    write(tmp_path / "judge_post.tif", post, "2021-01-01")
    frame = geopandas.read_file(place / "judge.geojson")
    left, _, _, top = frame.total_bounds
    cloud = geopandas.GeoSeries([shapely.box(left + 180, top - 250, left + 260, top - 150)], crs=UTM)
    cloud.to_file(tmp_path / "cloud.gpkg")
    away = frame.iloc[:3].copy()
    away["uid"], away["geometry"] = ["x0", "x1", "x2"], away.translate(5000)
    geopandas.GeoDataFrame(geopandas.pd.concat([frame, away]), crs=UTM).to_file(tmp_path / "all.gpkg")
    found = graded(tmp_path, tmp_path / "out", tmp_path / "all.gpkg", model, "--masks", f"none,{tmp_path / 'cloud.gpkg'}")
    rows = {row["name"]: row for _, row in found.iterrows()}
    assert [rows[f"x{k}"]["reason"] for k in range(3)] == ["off image"] * 3
    assert rows["b0"]["reason"] == "no data at date 2"
    assert {"hidden at date 2"} <= set(found["reason"].dropna())
    hidden = found[found["code"] == 254]
    assert set(hidden["class"]) == {"not analysed"}
    assert hidden[["p_no_damage", "confidence"]].isna().all(axis=None)
    assert found.loc[found["code"] != 254, "reason"].isna().all()
    # The same cloud, which the image itself is said to have.
    cloud.to_file(tmp_path / "judge_post_clouds.gpkg")
    cloud.translate(90_000).to_file(tmp_path / "judge_pre_clouds.gpkg")
    pattern = str(tmp_path / "{name}_clouds.gpkg")
    again = graded(tmp_path, tmp_path / "again", tmp_path / "all.gpkg", model, "--clouds", pattern)
    assert again.drop(columns="geometry").equals(found.drop(columns="geometry"))


def test_a_model_that_grades_says_which_buildings_to_label_first(tmp_path: Path, place: Path, model: Model) -> None:
    """Before the first label its grades stand, and what it is the least sure of is asked for first."""
    given = place, tmp_path / "out", place / "judge.geojson", model
    own = graded(*given).set_index("name")
    found = graded(*given, "--label-next", "4", "--overwrite").set_index("name")
    assert found["code"].tolist() == own["code"].tolist()
    chances = [f"p_{name.replace(' ', '_')}" for name in CLASSES]
    assert np.allclose(found[chances], own[chances], atol=0.01, equal_nan=True)
    (folder,) = (path.parent for path in (tmp_path / "out").rglob("damage.json"))
    asked = geopandas.read_file(folder / "label_next.gpkg").sort_values("rank")
    ranked = np.sort(own[chances].to_numpy(float), axis=1)
    margin = dict(zip(own.index, ranked[:, -1] - ranked[:, -2], strict=True))
    assert margin[asked["name"].iloc[0]] == np.nanmin(list(margin.values()))
    assert asked["guess"].tolist() == [own.loc[name, "class"] for name in asked["name"]]
    document = json.loads((folder / "damage.json").read_text())
    assert document["model"]["sha256"] == model.sha256
    assert "not learned from this event: fill in label_next.gpkg" in " ".join(document["warnings"])
    assert "is labelled yet" in (folder / "report.html").read_text()


def test_a_map_of_damage_is_pooled_over_footprints(tmp_path: Path) -> None:
    """The network is told the class of each pixel; footprints lie a metre off."""
    pixels = damage_by_red(tmp_path / "pixels")
    before, after = np.full((3, SIDE, SIDE), 5, np.uint8), np.full((3, SIDE, SIDE), 5, np.uint8)
    rows = []
    for k in range(16):
        row, col = divmod(k, 4)
        top, left, kind = 20 + 140 * row, 20 + 140 * col, k % 4
        after[0, top : top + 40, left : left + 60] = 50 * (kind + 1)
        x, y = TRANSFORM @ (left, top)
        rows.append({"id": k, "kind": kind, "geometry": shapely.box(x + 1, y - 21, x + 31, y - 1)})
    after[:, 440:, :140] = 0
    write(tmp_path / "judge_pre.tif", before, "2020-01-01")
    write(tmp_path / "judge_post.tif", after, "2021-01-01")
    geopandas.GeoDataFrame(rows, crs=UTM).to_crs(4326).to_file(tmp_path / "footprints.gpkg")
    found = graded(tmp_path, tmp_path / "out", tmp_path / "footprints.gpkg", pixels, "--tolerance", "1.5")
    kinds = {str(row["id"]): row["kind"] for row in rows}
    for _, row in found.iterrows():
        if row["name"] == "12":
            assert (row["code"], row["reason"]) == (254, "no data")
        else:
            assert row["code"] == kinds[row["name"]], row
    assert len(found) == 16


def test_buildings_count_to_an_area_by_their_representative_point(tmp_path: Path) -> None:
    pixels = damage_by_red(tmp_path / "pixels")
    before, after = np.full((3, SIDE, SIDE), 5, np.uint8), np.full((3, SIDE, SIDE), 5, np.uint8)
    rows = []
    for k in range(16):
        top, left = (20 + 140 * n for n in divmod(k, 4))
        after[0, top : top + 40, left : left + 60] = 50 * (k % 4 + 1)
        x, y = TRANSFORM @ (left, top)
        rows.append({"id": k, "geometry": shapely.box(x, y - 20, x + 30, y)})
    images = [write(tmp_path / f"{name}.tif", image, "2020-01-01") for name, image in (("a", before), ("b", after))]
    geopandas.GeoDataFrame(rows, crs=UTM).to_file(tmp_path / "footprints.gpkg")
    # The border runs through the buildings of the second column, right of their middle, and of the third, left of it.
    (left, top), (right, bottom) = TRANSFORM @ (20 + 140 + 40, 0), TRANSFORM @ (20 + 280 + 40, 400)
    given = {"model": pixels.path, "footprints": tmp_path / "footprints.gpkg", "acquired": ["2020-01-01", "2021-01-01"]}
    found = {}
    for name, area in (("all", None), ("part", f"EPSG:32720:{left},{bottom},{right},{top}")):
        done = geoseg.grade_damage(*images, out=tmp_path / name, aoi=area, **given)
        found[name] = done.polygons().set_index("name")
    assert sorted(map(int, found["part"].index)) == [2, 6, 10]
    columns = ["code", "area_m2", "geometry"]
    assert found["part"][columns].to_dict("index") == found["all"].loc[found["part"].index, columns].to_dict("index")
    document = json.loads((done.folder / "damage.json").read_text())
    assert (document["buildings"], document["area_of_interest"]["left_out"]) == (3, 13)
    # Each feature of a file of areas has a folder of its name, from Python as by the command; one beside the images says so.
    part, away = shapely.box(left, bottom, right, top), shapely.box(left - 5000, bottom, left - 4900, top)
    areas = geopandas.GeoDataFrame({"label": ["far", "part"]}, geometry=[away, part], crs=UTM)
    areas.to_file(tmp_path / "areas.gpkg")
    far, near = geoseg.grade_damage(
        *images, out=tmp_path / "several", aoi=str(tmp_path / "areas.gpkg"), aoi_column="label", **given
    )
    assert (far.status, near.status, near.name.partition("/")[0]) == ("failed", "done", "part")
    assert near.folder == tmp_path / "several" / near.name
    assert near.polygons().set_index("name")[columns].to_dict("index") == found["part"][columns].to_dict("index")
    command = ["damage", *images, "-m", pixels.path, "--footprints", tmp_path / "footprints.gpkg", "-o", tmp_path / "command"]
    command += ["--acquired", "2020-01-01,2021-01-01", "--aoi", tmp_path / "areas.gpkg", "--aoi-column", "label"]
    told = call_cli(command)
    assert told.returncode == 0
    assert "far/a_to_b: skipped" in told.stderr
    ours = (tmp_path / "command" / near.name / "buildings.geojson").read_bytes()
    assert ours == (near.folder / "buildings.geojson").read_bytes()
    with pytest.raises(OutsideAreaError, match="none of its 16 footprints lies in the area of interest"):
        geoseg.grade_damage(*images, out=tmp_path / "none", aoi=f"EPSG:32720:{left - 65},{bottom},{left - 40},{top}", **given)


def test_what_can_not_be_graded_is_one_sentence(tmp_path: Path, place: Path, model: Model) -> None:
    truth, pre, post = place / "judge.geojson", place / "judge_pre.tif", place / "judge_post.tif"
    points = tmp_path / "points.gpkg"
    frame = geopandas.read_file(truth)
    frame.set_geometry(frame.centroid).to_file(points)
    few = tmp_path / "few.gpkg"
    frame[frame["damage"] == "none"].to_file(few)
    out = ["--out", tmp_path / "out"]
    for args, text in (
        (["damage", pre, post, "--footprints", truth, "--model", "amazon-forest", *out], "maps pixels"),
        (["damage", pre, post, "--footprints", points, "--model", model.path, *out], "no polygon"),
        (["damage", pre, post, "--footprints", tmp_path / "none.gpkg", "--model", model.path, *out], "no such file"),
        (["damage", post, pre, "--footprints", truth, "--model", model.path, *out], "is older than"),
        (["segment", pre, "--model", model.path, *out], "grades buildings"),
        (["train-damage", pre, post, "--labels", truth, "--column", "grade", "--out", tmp_path / "m1"], "no column 'grade'"),
        (["train-damage", pre, post, "--labels", few, "--out", tmp_path / "m2"], "0 buildings of"),
    ):
        done = call_cli(args)
        assert done.returncode in (1, 2), (text, done.stdout)
        assert text in done.stderr, done.stderr[-800:]
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_few_undamaged_buildings_are_learned_from_the_image_before(tmp_path: Path, place: Path) -> None:
    """Where a disaster has been, nearly all is damaged; the same buildings before it are not."""
    frame = geopandas.read_file(place / "train.geojson")
    whole = frame.index[frame["damage"] == "none"]
    frame.drop(whole[2:]).to_file(tmp_path / "few.geojson")
    from geoseg.damage.damage_settings import DamageSettings
    from pipeline.changes.run import pair_of
    from pipeline.config.sections import Config
    from pipeline.damage.buildings import open_pair
    from pipeline.damage.evaluate import judge_damage
    from pipeline.damage.labels_and_name import LabelledFootprints, ModelName
    from pipeline.damage.run import map_damage
    from pipeline.damage.train import train_on_buildings

    truth, config, recall = place / "judge.geojson", Config(), {}
    train, judge = (pair_of([str(place / f"{name}_{date}.tif") for date in ("pre", "post")]) for name in ("train", "judge"))
    for weight in (0.0, 0.3):
        settings = DamageSettings(encoder="tu-mobilenetv3_small_050", views=2, undamaged=weight)
        model, figures = train_on_buildings(
            train,
            LabelledFootprints(labels=str(tmp_path / "few.geojson")),
            tmp_path / f"{weight}",
            settings,
            config,
            ModelName(),
        )
        assert figures["held_out_figures"]["buildings"] == figures["buildings"]
        folder = map_damage(judge, str(truth), model, config, tmp_path / f"of_{weight}").folder
        scene = open_pair(judge, model.card, config).scene
        figures = judge_damage(folder / "buildings.gpkg", truth, "damage", scene)
        recall[weight] = figures["confusion"][0][0]
        assert 0 <= figures["calibration"]["ece"] <= 1
        low, high = figures["xview2"]["score_95"]
        assert low <= figures["xview2"]["score"] <= high
        _check_pixels(place / "judge_pre.tif", folder, truth, figures["xview2"])
    assert recall[0.3] > recall[0.0]


@pytest.mark.slow
def test_the_whole_network_may_learn(tmp_path: Path, place: Path) -> None:
    import torch

    from geoseg.damage.damage_settings import DamageSettings
    from pipeline.changes.run import pair_of
    from pipeline.config.sections import Config
    from pipeline.damage.labels_and_name import LabelledFootprints, ModelName
    from pipeline.damage.train import train_on_buildings

    pair = pair_of([str(place / "train_pre.tif"), str(place / "train_post.tif")])
    settings = DamageSettings(encoder="tu-mobilenetv3_small_050", views=1, folds=1, steps=0)
    labels = LabelledFootprints(labels=str(place / "train.geojson"))
    head, _ = train_on_buildings(pair, labels, tmp_path / "head", settings, Config(), ModelName())
    settings = replace(settings, steps=3)
    whole, figures = train_on_buildings(pair, labels, tmp_path / "whole", settings, Config(), ModelName())
    assert figures["held_out_figures"]["buildings"] < figures["buildings"]
    one, two = (load_file(model.path / "model.safetensors") for model in (head, whole))
    moved = {name for name in one if not torch.equal(one[name], two[name])}
    assert any(name.startswith("encoder.") for name in moved)
    # What the encoder knows of its inputs as a whole stays.
    assert not any("running" in name for name in moved)


def _check_pixels(image: Path, folder: Path, truth: Path, score: dict[str, float]) -> None:
    """The F1 of pixels, against rasters of the whole scene."""
    with rasterio.open(image) as scene:
        size, transform = scene.shape, scene.transform
    found, known = geopandas.read_file(folder / "buildings.gpkg", layer="buildings"), geopandas.read_file(truth).to_crs(UTM)
    a, b = (
        rasterio.features.rasterize(zip(frame.geometry, codes, strict=True), size, transform=transform, dtype="uint8")
        for frame, codes in ((found, found["code"] + 1), (known, [WORDS.index(w) + 1 for w in known["damage"]]))
    )
    for k, name in enumerate(CLASSES, 1):
        inside = b > 0
        expected = 2 * ((a == k) & (b == k)).sum() / ((a[inside] == k).sum() + (b == k).sum())
        assert score[f"f1 {name}"] == pytest.approx(expected, abs=0.01)


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, place: Path, model: Model) -> None:
    """Five views of each building of the town, so that there are parts to stop between."""
    frame = geopandas.read_file(place / "judge.geojson")
    moved = [frame.assign(uid=frame["uid"] + f"-{k}", geometry=frame.translate(k - 2, 2 - k)) for k in range(5)]
    geopandas.GeoDataFrame(geopandas.pd.concat(moved), crs=UTM).to_file(tmp_path / "many.gpkg")

    def command(out: str) -> list[str | Path]:
        return [
            "damage",
            place / "judge_pre.tif",
            place / "judge_post.tif",
            "--footprints",
            tmp_path / "many.gpkg",
            "--model",
            model.path,
            "--out",
            tmp_path / out,
            "--json",
        ]

    assert run_cli(command("whole")).returncode == 0
    one, two = (tmp_path / out / "judge_pre_to_judge_post" for out in ("whole", "killed"))
    manifest = two / ".run" / "manifest.jsonl"
    killed = 0
    for lines in (2, 5):
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", *map(str, command("killed"))], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None:
            if manifest.exists() and manifest.read_bytes().count(b"\n") > lines:
                process.kill()
                process.wait()
                killed += 1
            time.sleep(0.005)
    assert killed
    assert not (two / "damage.json").exists()
    done = run_cli(command("killed"))
    assert done.returncode == 0, done.stderr
    parts = [event["done"] for event in map(json.loads, done.stdout.splitlines()) if event["event"] == "part"]
    assert parts[0] >= 64
    assert parts[-1] == 500
    for name in sorted(p.name for p in one.iterdir()):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    # Done is done; other settings are refused, and nothing is lost.
    again = run_cli(command("killed")[:-1])
    assert "Done by an earlier run" in again.stdout
    other = run_cli([*command("killed"), "--cell", "50"])
    assert other.returncode == 2
    assert "other cell_m" in other.stderr
    assert (one / "damage.json").read_bytes() == (two / "damage.json").read_bytes()


def test_an_image_that_changes_meanwhile_is_not_published(tmp_path: Path, place: Path, model: Model) -> None:
    from geoseg.errors import SceneChangedError
    from pipeline.changes.run import pair_of
    from pipeline.config.sections import Config
    from pipeline.damage.run import map_damage
    from pipeline.segment.progress import Quiet

    for name in ("pre", "post"):
        shutil.copy(place / f"judge_{name}.tif", tmp_path)
    post = tmp_path / "judge_post.tif"

    class Replaced(Quiet):
        def part(self, what: str, done: int, total: int) -> None:
            if (what, done) == ("buildings", total):
                post.write_bytes(post.read_bytes() + b" ")

    pair = pair_of([str(tmp_path / "judge_pre.tif"), str(post)])
    with pytest.raises(SceneChangedError, match="changed while it was read"):
        map_damage(pair, str(place / "judge.geojson"), model, Config(), tmp_path / "out", progress=Replaced())
    assert not list((tmp_path / "out").rglob("buildings.*"))


def test_footprints_are_found_where_none_are_given(tmp_path: Path, place: Path, model: Model, shared: Path) -> None:
    """Roofs of a drone's image, found by the shipped model, in the image after and in one half of which is gone."""
    with rasterio.open(shared / "data" / "kampala_buildings" / "scene.tif") as scene:
        window = rasterio.windows.Window(0, 0, 1536, 1024)
        pixels, profile = scene.read((1, 2, 3), window=window), scene.profile
        profile |= {"width": 1536, "height": 1024, "count": 3, "transform": scene.window_transform(window), "nodata": 0}
    for name, date in (("judge_pre", "2020-01-01"), ("judge_post", "2021-01-01")):
        with rasterio.open(tmp_path / f"{name}.tif", "w", **profile) as target:
            target.write(np.where(np.arange(1536) < 768, pixels, 0) if name == "judge_post" else pixels)
            target.update_tags(ACQUISITION_DATE=date)
    out = tmp_path / "out"
    done = call_cli(
        [
            "damage",
            tmp_path / "judge_pre.tif",
            tmp_path / "judge_post.tif",
            "--model",
            model.path,
            "--out",
            out,
            "--resample",
            "--quiet",
        ]
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = geopandas.read_file(out / "judge_pre_to_judge_post" / "buildings.gpkg", layer="buildings")
    roofs = geopandas.read_file(out / "footprints" / "judge_pre_to_judge_post" / "polygons.gpkg", layer="polygons")
    assert len(found) == len(roofs) > 5
    assert "no data at date 2" in set(found["reason"].dropna())
    assert (found["code"] < 4).any()


def test_values_are_never_cast(tmp_path: Path, place: Path, model: Model) -> None:
    for name in ("pre", "post"):
        with rasterio.open(place / f"judge_{name}.tif") as scene:
            pixels, profile, tags = scene.read(), scene.profile, scene.tags()
        with rasterio.open(tmp_path / f"judge_{name}.tif", "w", **profile | {"dtype": "uint16"}) as wide:
            wide.write(pixels.astype(np.uint16) * 40)
            wide.update_tags(**tags)
    done = call_cli(
        [
            "damage",
            tmp_path / "judge_pre.tif",
            tmp_path / "judge_post.tif",
            "--footprints",
            place / "judge.geojson",
            "--model",
            model.path,
            "--out",
            tmp_path / "out",
        ]
    )
    assert done.returncode == 1
    assert "uint16 pixels, but the model takes uint8" in done.stderr
    assert not (tmp_path / "out" / "judge_pre_to_judge_post").exists()
