"""`geoseg sample` and `geoseg area`: probability samples, labelled, give areas whose intervals hold the truth."""

from __future__ import annotations

import json
import sqlite3
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from geoseg.formats.page.amounts import area_text
from geoseg.formats.vector import FIXED_DATE
from geoseg.sampling.draw import OUTSIDE, count_units, draw_units
from geoseg.windows import Window
from pipeline.sample.draw import draw_sample
from pipeline.sample.estimate import estimate_areas
from pipeline.sample.response import Reference
from pipeline.sample.sampling_frame import block_strata, open_map
from pipeline.sample.settings import SampleSettings
from tests.labelled import NAMES, Place, label, labels_of, make_place, write
from tests.support import TRANSFORM, call_cli, patchy


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("maps"))


def test_a_labelled_sample_gives_areas_whose_intervals_hold_the_truth(tmp_path: Path, place: Place) -> None:
    path, mapped, truth = place
    sample = tmp_path / "sample.gpkg"
    done = call_cli(
        [
            "sample",
            path,
            "--out",
            sample,
            "--target-se",
            "0.015",
            "--expected",
            "forest loss=0.7,stable forest=0.9",
            "--allocation",
            "neyman",
            "--around",
            "forest loss",
            "--buffer",
            "40",
            "--images",
            "before.tif,after.tif",
        ]
    )
    assert done.returncode == 0, done.stderr
    assert "around forest loss" in done.stdout
    assert "not analysed or without data" in done.stdout
    frame = geopandas.read_file(sample, layer="sample")
    assert set(frame["image_1"]) == {"before.tif"}
    assert set(frame["image_2"]) == {"after.tif"}
    assert frame["reference"].isna().all()
    unlabelled = call_cli(["area", "--map", path, "--sample", sample])
    assert unlabelled.returncode == 2
    assert f"{len(frame)} of {len(frame)} units have no label" in unlabelled.stderr
    label(sample, labels_of(truth))
    files = ["--out", tmp_path / "area.json", "--table", tmp_path / "area.csv", "--page", tmp_path / "area.html"]
    done = call_cli(["area", "--map", path, "--sample", sample, *files])
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "area.json").read_text())
    assert "Stehman" in document["estimator"]
    analysed = mapped < 254
    for k, row in enumerate(document["by_class"]):
        true = (truth[analysed] == k).mean() * document["population_area"]
        # Wider than the interval: one of twenty intervals does not hold the truth, and this is one sample.
        assert abs(row["area"]["value"] - true) < 3.5 * row["area"]["se"]
        users = (truth[analysed & (mapped == k)] == k).mean()
        assert abs(row["users_accuracy"]["value"] - users) < 3.5 * row["users_accuracy"]["se"] + 1e-9
    assert sum(row["share"]["value"] for row in document["by_class"]) == pytest.approx(1)
    assert np.sum(document["error_matrix"]["counts"]) == len(frame)
    assert "note" in done.stdout or not any(row["bias"] for row in document["by_class"])
    # The page has the same ends, in hectares, and draws each.
    page = (tmp_path / "area.html").read_text()
    for row in document["by_class"]:
        assert f"{area_text(row['area']['low'])} to {area_text(row['area']['high'])}" in page
    assert page.count("<circle") == len(document["by_class"])
    again = call_cli(["area", "--map", path, "--sample", sample, "--page", tmp_path / "area.html"])
    assert again.returncode == 2
    assert "area.html: is there already" in again.stderr


def test_blocks_are_clusters(tmp_path: Path, place: Place) -> None:
    path, mapped, truth = place
    sample = tmp_path / "blocks.gpkg"
    drawn = draw_sample(str(path), sample, SampleSettings(size=150, block=20, around=("forest loss",)))
    assert [s["name"] for s in drawn["strata"]] == ["blocks without forest loss", "blocks with forest loss"]
    frame = geopandas.read_file(sample, layer="sample")
    assert frame.geometry.area.max() == pytest.approx(200.0**2)

    def shares(row: Any) -> dict[str, float]:
        left, _, _, top = row.geometry.bounds
        col, line = (round(v) for v in ~TRANSFORM @ (left, top))
        inside = truth[line : line + 20, col : col + 20][mapped[line : line + 20, col : col + 20] < 254]
        return {f"percent_{k}": 100 * float((inside == k).mean()) for k in range(4)}

    label(sample, shares)
    document = estimate_areas(str(path), sample)
    for k, row in enumerate(document["by_class"]):
        true = (truth[mapped < 254] == k).mean() * document["population_area"]
        assert abs(row["area"]["value"] - true) < 3.5 * row["area"]["se"]
    label(sample, lambda row: {"percent_0": 90.0} if row["unit"] == 7 else {})
    with pytest.raises(ValueError, match="add up to"):
        estimate_areas(str(path), sample)


def test_units_are_drawn_alike_whatever_the_blocks_of_the_file(tmp_path: Path, place: Place) -> None:
    _, mapped, _ = place
    found = []
    for number, size in enumerate((128, 256)):
        path = write(tmp_path / f"{number}.tif", mapped, blockxsize=size, blockysize=size)
        draw_sample(str(path), tmp_path / f"{number}.gpkg", SampleSettings(size=300))
        found.append(geopandas.read_file(tmp_path / f"{number}.gpkg", layer="sample"))
    assert (found[0].geometry == found[1].geometry).all()
    rows, cols = (~TRANSFORM @ (found[0].geometry.x.to_numpy(), found[0].geometry.y.to_numpy()))[::-1]
    assert (mapped[rows.astype(int), cols.astype(int)] < 254).all()
    assert np.allclose(rows % 1, 0.5)
    assert not found[0].geometry.duplicated().any()


def test_each_unit_of_a_stratum_is_as_probable() -> None:
    strata = np.where(patchy(40, 30, 5, 1) == 0, OUTSIDE, patchy(40, 30, 2, 2).astype(np.int16))
    counted = count_units(strata.shape, lambda window: strata[window.slices], 2)
    generator, tally = np.random.default_rng(0), np.zeros(strata.shape)
    for _ in range(2000):
        units = draw_units(counted, lambda window: strata[window.slices], np.array([40, 25]), generator)
        tally[units.row, units.col] += 1
        assert (strata[units.row, units.col] == units.stratum).all()
    for stratum, count in enumerate((40, 25)):
        mean = 2000 * count / counted.sizes[stratum]
        spread = tally[strata == stratum].std()
        assert tally[strata == stratum].mean() == pytest.approx(mean)
        assert spread < 1.15 * np.sqrt(mean)
    assert tally[strata == OUTSIDE].sum() == 0


def test_the_form_has_lists_to_choose_from(tmp_path: Path, place: Place) -> None:
    draw_sample(str(place[0]), tmp_path / "sample.gpkg", SampleSettings(size=200, images=("before.tif", "after.tif")))
    with sqlite3.connect(tmp_path / "sample.gpkg") as connection:
        ((qml, layer, updated),) = connection.execute("SELECT styleQML, f_table_name, update_time FROM layer_styles")
        hidden = {name for (name,) in connection.execute("SELECT table_name FROM gpkg_contents WHERE data_type = 'attributes'")}
    connection.close()
    assert (layer, updated) == ("sample", FIXED_DATE)
    assert {"design", "design_facts"} <= hidden
    root = ET.fromstring(qml.split("\n", 1)[1])
    fields = root.findall("fieldConfiguration/field")
    widgets = {f.get("name"): f.find("editWidget").get("type") for f in fields}  # type: ignore[union-attr]
    fixed = {f.get("name") for f in root.findall("editable/field") if f.get("editable") == "0"}
    assert widgets["reference"] == "ValueMap"
    assert (widgets["image_1"], widgets["image_2"]) == ("ExternalResource", "ExternalResource")
    assert fixed == {"unit", "image_1", "image_2"}
    values = [o.get("value") for o in root.iter("Option") if o.get("type") == "QString"]
    assert {*NAMES, "can't be told"} <= {*values}
    # Those who label do not see what the map says, nor the strata.
    assert not {*geopandas.read_file(tmp_path / "sample.gpkg", layer="sample").columns} & {"stratum", "class", "map"}


def test_windows_of_the_lattice_partition_the_raster() -> None:
    seen = np.zeros((1500, 2100), int)

    def strata(window: Window) -> NDArray[np.int16]:
        seen[window.slices] += 1
        return np.zeros(window.shape, np.int16)

    assert count_units(seen.shape, strata, 1).sizes.tolist() == [seen.size]
    assert (seen == 1).all()


def test_the_target_is_reached_whatever_the_allocation(tmp_path: Path, place: Place) -> None:
    expected = {"forest loss": 0.5, "forest gain": 0.5, "stable forest": 0.95, "stable non-forest": 0.97}
    units = {}
    for allocation in ("neyman", "proportional", "equal"):
        settings = SampleSettings(target_se=0.01, expected=expected, allocation=allocation, least=2)  # type: ignore[arg-type]
        drawn = draw_sample(str(place[0]), tmp_path / f"{allocation}.gpkg", settings)
        assert 0.0097 < drawn["expected_se"] <= 0.01005
        units[allocation] = drawn["units"]
    assert units["neyman"] < units["proportional"] < units["equal"]


def test_a_class_of_one_pixel_can_be_drawn_and_estimated(tmp_path: Path, place: Place) -> None:
    _, mapped, truth = place
    rare = np.where(mapped == 3, 1, mapped).astype(np.uint8)
    rare[300, 300] = 3
    path, sample = write(tmp_path / "rare.tif", rare), tmp_path / "sample.gpkg"
    drawn = draw_sample(str(path), sample, SampleSettings(target_se=0.2))
    assert {s["name"]: s["units"] for s in drawn["strata"]}["forest gain"] == 1
    label(sample, labels_of(truth))
    row = estimate_areas(str(path), sample)["by_class"][3]
    assert row["users_accuracy"]["value"] == float(truth[300, 300] == 3)
    assert row["users_accuracy"]["low"] == row["users_accuracy"]["high"]


def test_what_no_unit_showed_is_said(tmp_path: Path, place: Place) -> None:
    path, mapped, _ = place
    sample = tmp_path / "sample.gpkg"
    draw_sample(str(path), sample, SampleSettings(size=220))
    label(sample, labels_of(mapped))
    done = call_cli(["area", "--map", path, "--sample", sample, "--out", tmp_path / "area.json"])
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "area.json").read_text())
    overall = document["overall_accuracy"]
    assert (overall["value"], overall["se"], overall["high"]) == (1, 0, 1)
    assert 0.9 < overall["low"] < 0.99
    assert "forest loss: all 50 units are forest loss" in done.stdout
    assert "up to 7.1 % of it" in done.stdout
    assert "standard error is 0" in done.stdout
    for row in document["by_class"]:
        assert 0 <= row["area"]["low"] <= row["area"]["high"] <= document["population_area"]
        assert not row["bias"]


@pytest.mark.parametrize("pixel", [0.0005, 0.5])
def test_areas_of_maps_in_degrees_are_those_of_the_ground(tmp_path: Path, pixel: float) -> None:
    # Forest in the north, where pixels are small: counted alike, it would be too much.
    height, width = 140, 90
    truth = (np.arange(height)[:, None] > height * 0.4).astype(np.uint8) * np.ones((1, width), np.uint8)
    truth = np.where(patchy(height, width, 5, 1) == 0, 1 - truth, truth).astype(np.uint8)
    mapped = np.roll(truth, 1, 1)
    path = write(
        tmp_path / "map.tif",
        mapped,
        crs="EPSG:4326",
        transform=rasterio.Affine(pixel, 0, 10, 0, -pixel, 75),
        blockxsize=16,
        blockysize=16,
    )
    reference = write(tmp_path / "truth.tif", truth, crs="EPSG:4326", transform=rasterio.Affine(pixel, 0, 10, 0, -pixel, 75))
    lat = np.radians(75 - pixel * (np.arange(height) + 0.5))
    weight = np.repeat((np.cos(lat) / (1 - 0.00669438 * np.sin(lat) ** 2) ** 2)[:, None], width, axis=1)
    true = np.array([weight[truth == k].sum() for k in (0, 1)]) / weight.sum()
    covered = 0
    for seed in range(8):
        for block in (1, 4):
            sample = tmp_path / f"{seed}_{block}.gpkg"
            draw_sample(str(path), sample, SampleSettings(size=120, block=block, seed=seed))
            row = estimate_areas(str(path), sample, reference=Reference(str(reference)))["by_class"][1]
            covered += row["share"]["low"] <= true[1] <= row["share"]["high"]
            assert row["mapped_area"] == pytest.approx(
                weight[mapped == 1].sum() / weight.sum() * row["area"]["value"] / row["share"]["value"], rel=1e-4
            )
    assert covered >= 13


def test_blocks_are_read_in_windows_of_bounded_size(place: Place) -> None:
    raster = open_map(str(place[0])).raster
    mapped = place[1]
    for block in (7, 64, 500, 1024):
        shape = -(-600 // block), -(-800 // block)
        found = block_strata(raster, raster, block, (2,))(Window.of(shape))
        for row in range(shape[0]):
            for col in range(shape[1]):
                cells = mapped[row * block : (row + 1) * block, col * block : (col + 1) * block]
                assert found[row, col] == ((cells == 2).any() if (cells < 254).any() else OUTSIDE)
