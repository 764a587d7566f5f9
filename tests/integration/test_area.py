"""`geoseg sample` and `geoseg area`: probability samples, labelled, give areas whose intervals hold the truth; others are refused."""

from __future__ import annotations

import json
import shutil
import sqlite3
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from geoseg.formats.vector import FIXED_DATE
from geoseg.sampling.draw import OUTSIDE, count_units, draw_units
from geoseg.windows import Window
from pipeline.estimate import estimate_areas
from pipeline.sampling import SampleSettings, draw_sample
from tests.support import TRANSFORM, UTM, patchy, run_cli

NAMES = ("stable non-forest", "stable forest", "forest loss", "forest gain")
Bytes = NDArray[np.uint8]


def write(path: Path, codes: Bytes, **changes: Any) -> Path:
    profile = {
        "driver": "GTiff", "height": codes.shape[0], "width": codes.shape[1], "count": 1, "dtype": "uint8", "crs": UTM,
        "transform": TRANSFORM, "nodata": 255, "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate",
    } | changes  # fmt: skip
    with rasterio.open(path, "w", **profile) as target:
        target.write(codes, 1)
        target.update_tags(1, **{f"class_{k}": name for k, name in enumerate(NAMES)})
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bytes, Bytes]:
    """A map with errors, and the truth."""
    noise = patchy(600, 800, 20, 3, 5.0)
    truth = np.select([noise == 0, noise == 1, noise < 9], [2, 3, 1], 0).astype(np.uint8)
    mapped = np.roll(truth, (2, 3), (0, 1))
    mapped[:40], mapped[100:150, 100:200] = 255, 254
    return write(tmp_path_factory.mktemp("maps") / "classes.tif", mapped), mapped, truth


def label(path: Path, value_of: Any) -> None:
    """Fill in the form as QGIS does: in the file."""
    frame = geopandas.read_file(path, layer="sample")
    with sqlite3.connect(path) as connection:
        # SQLite asks for the functions of the triggers that GeoPackage has on geometries.
        connection.create_function("ST_IsEmpty", 1, lambda _: 0)
        for name in ("ST_MinX", "ST_MaxX", "ST_MinY", "ST_MaxY"):
            connection.create_function(name, 1, lambda _: 0.0)
        for _, row in frame.iterrows():
            for field, value in value_of(row).items():
                connection.execute(f"UPDATE sample SET {field} = ? WHERE unit = ?", (value, row["unit"]))
    connection.close()


def labels_of(truth: Bytes) -> Any:
    def value(row: Any) -> dict[str, str]:
        col, line = ~TRANSFORM @ (row.geometry.x, row.geometry.y)
        return {"reference": NAMES[truth[int(line), int(col)]]}

    return value


def test_a_labelled_sample_gives_areas_whose_intervals_hold_the_truth(tmp_path: Path, place: tuple[Path, Bytes, Bytes]) -> None:
    path, mapped, truth = place
    sample = tmp_path / "sample.gpkg"
    done = run_cli([
        "sample", path, "--out", sample, "--target-se", "0.015", "--expected", "forest loss=0.7,stable forest=0.9", "--allocation",
        "neyman", "--around", "forest loss", "--buffer", "40", "--images", "before.tif,after.tif",
    ])  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "around forest loss" in done.stdout
    assert "not analysed or without data" in done.stdout
    frame = geopandas.read_file(sample, layer="sample")
    assert "before.tif; after.tif" in set(frame["images"])
    assert frame["reference"].isna().all()
    unlabelled = run_cli(["area", "--map", path, "--sample", sample])
    assert unlabelled.returncode == 2
    assert f"{len(frame)} of {len(frame)} units have no label" in unlabelled.stderr
    label(sample, labels_of(truth))
    done = run_cli(["area", "--map", path, "--sample", sample, "--out", tmp_path / "area.json", "--table", tmp_path / "area.csv"])
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


def test_blocks_are_clusters(tmp_path: Path, place: tuple[Path, Bytes, Bytes]) -> None:
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


def test_units_are_drawn_alike_whatever_the_blocks_of_the_file(tmp_path: Path, place: tuple[Path, Bytes, Bytes]) -> None:
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


def test_the_form_has_lists_to_choose_from(tmp_path: Path, place: tuple[Path, Bytes, Bytes]) -> None:
    draw_sample(str(place[0]), tmp_path / "sample.gpkg", SampleSettings(size=200))
    with sqlite3.connect(tmp_path / "sample.gpkg") as connection:
        ((qml, layer, updated),) = connection.execute("SELECT styleQML, f_table_name, update_time FROM layer_styles")
        hidden = {name for (name,) in connection.execute("SELECT table_name FROM gpkg_contents WHERE data_type = 'attributes'")}
    connection.close()
    assert (layer, updated) == ("sample", FIXED_DATE)
    assert {"design", "design_facts"} <= hidden
    root = ET.fromstring(qml.split("\n", 1)[1])
    widgets = {f.get("name"): f.find("editWidget").get("type") for f in root.iter("field")}  # type: ignore[union-attr]
    assert widgets["reference"] == "ValueMap"
    assert widgets["images"] == "ExternalResource"
    values = [o.get("value") for o in root.iter("Option") if o.get("type") == "QString"]
    assert {*NAMES, "can't be told"} <= {*values}
    # Those who label do not see what the map says, nor the strata.
    fields = set(geopandas.read_file(tmp_path / "sample.gpkg", layer="sample").columns)
    assert not fields & {"stratum", "class", "map"}


def test_what_is_no_probability_sample_is_refused(tmp_path: Path, place: tuple[Path, Bytes, Bytes]) -> None:
    path, mapped, truth = place
    good = tmp_path / "good.gpkg"
    draw_sample(str(path), good, SampleSettings(size=220))
    label(good, labels_of(truth))
    assert estimate_areas(str(path), good)["same_map"]

    def broken(name: str, *statements: str) -> Path:
        copy = tmp_path / f"{name}.gpkg"
        shutil.copy(good, copy)
        with sqlite3.connect(copy) as connection:
            for trigger in [t for (t,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]:
                connection.execute(f'DROP TRIGGER "{trigger}"')
            for statement in statements:
                connection.execute(statement)
        connection.close()
        return copy

    other_grid = write(tmp_path / "other.tif", mapped[:500])
    larger = mapped.copy()
    larger[:40] = 1
    for args, text in (
        ((path, broken("gone", "DELETE FROM sample WHERE unit < 4")), "3 units are gone"),
        (
            (path, broken("moved", "UPDATE sample SET geom = (SELECT geom FROM sample WHERE unit = 9) WHERE unit = 5")),
            "was moved",
        ),
        ((path, broken("no_design", "DROP TABLE design")), "says nothing of how"),
        ((path, broken("typo", "UPDATE sample SET reference = 'forst' WHERE unit = 3")), "'forst'"),
        (
            (path, broken("unsure", "UPDATE sample SET reference = 'can''t be told' WHERE unit = 3")),
            "1 of 220 units have no label",
        ),
        ((other_grid, good), "whose grid"),
        ((write(tmp_path / "larger.tif", larger), good), "was not sampled"),
        ((path, tmp_path / "none.gpkg"), "no such file"),
    ):
        with pytest.raises((ValueError, OSError), match=text):
            estimate_areas(str(args[0]), Path(args[1]))
    dropped = estimate_areas(str(path), tmp_path / "unsure.gpkg", drop=True)
    assert (dropped["units"], dropped["left_out"]) == (219, 1)
    # Another map of the same ground: strata are those of the first.
    another = write(tmp_path / "another.tif", np.where(mapped < 254, np.roll(truth, 1, 0), mapped).astype(np.uint8))
    found = estimate_areas(str(another), good)
    assert "Stehman" in found["estimator"]
    assert found["overall_accuracy"]["value"] > estimate_areas(str(path), good)["overall_accuracy"]["value"]


def test_settings_that_do_not_fit_the_map_are_one_sentence(tmp_path: Path, place: tuple[Path, Bytes, Bytes]) -> None:
    path, mapped, _ = place
    empty = write(tmp_path / "empty.tif", np.full_like(mapped, 255))
    for args, text in (
        ([path, "--around", "water", "--buffer", "20"], "'water' is none of"),
        ([path, "--around", "forest loss"], "give both"),
        ([path, "--size", "20"], "or more"),
        ([path, "--expected", "forest loss=2"], "not between 0 and 1"),
        ([path, "--expected", "forest"], "NAME=SHARE"),
        ([empty], "no analysed pixel"),
    ):
        done = run_cli(["sample", *args, "--out", tmp_path / "out.gpkg"])
        assert done.returncode in (1, 2), done.stdout
        assert text in done.stderr, done.stderr
        assert "Traceback" not in done.stderr


def test_windows_of_the_lattice_partition_the_raster() -> None:
    seen = np.zeros((1500, 2100), int)

    def strata(window: Window) -> NDArray[np.int16]:
        seen[window.slices] += 1
        return np.zeros(window.shape, np.int16)

    assert count_units(seen.shape, strata, 1).sizes.tolist() == [seen.size]
    assert (seen == 1).all()
