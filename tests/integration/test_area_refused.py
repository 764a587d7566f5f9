"""What is no probability sample of a map is refused with the reason, and so is a map that none can be drawn from."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio

from pipeline.sample.draw import draw_sample
from pipeline.sample.estimate import estimate_areas
from pipeline.sample.settings import SampleSettings
from tests.labelled import Place, broken, label, labels_of, make_place, write
from tests.support import TRANSFORM, call_cli, patchy


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("maps"))


@pytest.mark.parametrize("option", ["--out", "--table", "--page"])
def test_a_file_in_a_folder_that_is_not_there_is_refused_before_the_work(tmp_path: Path, option: str) -> None:
    file = tmp_path / "none" / "areas"
    done = call_cli(["area", "--map", tmp_path / "classes.tif", "--sample", tmp_path / "sample.gpkg", option, file])
    assert done.returncode == 2
    assert done.stderr.strip() == f"geoseg: {file.parent}: no such folder for areas; make it first"


def test_what_is_no_probability_sample_is_refused(tmp_path: Path, place: Place) -> None:
    path, mapped, truth = place
    good = tmp_path / "good.gpkg"
    draw_sample(str(path), good, SampleSettings(size=220))
    label(good, labels_of(truth))
    assert estimate_areas(str(path), good)["same_map"]

    changes = {
        "gone": ("DELETE FROM sample WHERE unit < 4", "3 units are gone and 0 were added"),
        "added": (
            "INSERT INTO sample (geom, unit, reference) SELECT geom, NULL, reference FROM sample WHERE unit = 3",
            "1 were added",
        ),
        "twice": (
            "INSERT INTO sample (geom, unit, reference) SELECT geom, unit, reference FROM sample WHERE unit = 3",
            "1 were added",
        ),
        "moved": ("UPDATE sample SET geom = (SELECT geom FROM sample WHERE unit = 9) WHERE unit = 5", "unit 5 was moved"),
        "placeless": ("UPDATE sample SET geom = NULL WHERE unit = 7", "unit 7 was moved"),
        "no_design": ("DROP TABLE design", "says nothing of how"),
        "emptied": ("DELETE FROM design", "says nothing of how"),
        "reweighted": ("UPDATE design SET stratum = 0 WHERE unit = 5", "were changed since"),
        "resized": (
            """UPDATE design_facts SET value = replace(value, '"size": ', '"size": 9') WHERE key = 'strata'""",
            "were changed since",
        ),
        "no_column": ("ALTER TABLE sample RENAME COLUMN reference TO label", "no column 'reference'"),
        "no_number": ("ALTER TABLE sample RENAME COLUMN unit TO number", "no column 'unit'"),
        "typo": ("UPDATE sample SET reference = 'forst' WHERE unit = 3", "'forst'"),
        "unsure": ("UPDATE sample SET reference = 'can''t be told' WHERE unit = 3", "1 of 220 units have no label"),
    }
    for name, (statement, text) in changes.items():
        with pytest.raises(ValueError, match=text):
            estimate_areas(str(path), broken(good, tmp_path / f"{name}.gpkg", statement))
    larger, others = mapped.copy(), mapped.copy()
    larger[:40] = 1
    # As many pixels, but not the same.
    others[200:240], others[:40] = 255, 1
    for number, (codes, changed, text) in enumerate(
        (
            (mapped[:500], {}, "whose grid"),
            (mapped, {"transform": TRANSFORM @ rasterio.Affine.translation(1, 0)}, "whose grid"),
            (mapped, {"crs": "EPSG:32721"}, "whose grid"),
            (larger, {}, "analysed other pixels"),
            (others, {}, "analysed other pixels"),
        )
    ):
        with pytest.raises(ValueError, match=text):
            estimate_areas(str(write(tmp_path / f"map{number}.tif", codes, **changed)), good)
    with pytest.raises(ValueError, match="no such file"):
        estimate_areas(str(path), tmp_path / "none.gpkg")
    dropped = estimate_areas(str(path), tmp_path / "unsure.gpkg", drop=True)
    assert (dropped["units"], dropped["left_out"]) == (219, 1)
    # Another map of the same ground: strata are those of the first.
    another = write(tmp_path / "another.tif", np.where(mapped < 254, np.roll(truth, 1, 0), mapped).astype(np.uint8))
    found = estimate_areas(str(another), good)
    assert "Stehman" in found["estimator"]
    assert found["overall_accuracy"]["value"] > estimate_areas(str(path), good)["overall_accuracy"]["value"]


def test_blocks_of_another_shape_are_no_units(tmp_path: Path, place: Place) -> None:
    draw_sample(str(place[0]), tmp_path / "blocks.gpkg", SampleSettings(size=60, block=20))
    frame = geopandas.read_file(tmp_path / "blocks.gpkg", layer="sample")
    # Half as wide, with its middle where it was.
    half = frame.geometry.scale(0.5, 0.5)[3]
    wkb = geopandas.GeoSeries([half]).to_wkb()[0]
    header = b"GP\x00\x01" + (32720).to_bytes(4, "little")
    broken(tmp_path / "blocks.gpkg", tmp_path / "half.gpkg")
    with sqlite3.connect(tmp_path / "half.gpkg") as connection:
        connection.execute("UPDATE sample SET geom = ? WHERE unit = 4", (header + wkb,))
    connection.close()
    with pytest.raises(ValueError, match="unit 4 was moved or reshaped"):
        estimate_areas(str(place[0]), tmp_path / "half.gpkg")


def test_a_stratum_without_labels_is_named(tmp_path: Path, place: Place) -> None:
    path, _, truth = place
    draw_sample(str(path), tmp_path / "good.gpkg", SampleSettings(size=220))
    label(tmp_path / "good.gpkg", labels_of(truth))
    for kept, text in ((0, "0 have a label"), (1, "1 have a label")):
        some = broken(
            tmp_path / "good.gpkg",
            tmp_path / f"{kept}.gpkg",
            "UPDATE sample SET reference = NULL WHERE unit IN (SELECT unit FROM design WHERE stratum = 2 ORDER BY unit LIMIT "
            f"-1 OFFSET {kept})",
        )
        with pytest.raises(ValueError, match=f"units of the stratum 'forest loss', {text}"):
            estimate_areas(str(path), some, drop=True)


def test_codes_that_could_not_be_drawn_or_told_apart_are_refused(tmp_path: Path, place: Place) -> None:
    _, mapped, _ = place
    odd = mapped.copy()
    odd[300, 300:310] = 9
    with pytest.raises(ValueError, match="10 pixels have the code 9, which its legend does not name"):
        draw_sample(str(write(tmp_path / "odd.tif", odd)), tmp_path / "out.gpkg", SampleSettings(size=300))
    twice = write(tmp_path / "twice.tif", mapped)
    with rasterio.open(twice, "r+") as target:
        target.update_tags(1, class_3="forest loss")
    with pytest.raises(ValueError, match="two codes are named 'forest loss'"):
        draw_sample(str(twice), tmp_path / "out.gpkg", SampleSettings(size=300))


def test_strata_of_another_raster_hold_all_of_the_map_and_nothing_else(tmp_path: Path, place: Place) -> None:
    path, mapped, truth = place
    everywhere = patchy(600, 800, 3, 9, 30.0)
    sample = tmp_path / "sample.gpkg"
    drawn = draw_sample(str(path), sample, SampleSettings(size=500), strata_path=str(write(tmp_path / "strata.tif", everywhere)))
    # Its strata lie where the map has nothing, too; such pixels are not drawn.
    assert sum(s["size"] for s in drawn["strata"]) == (mapped < 254).sum()
    label(sample, labels_of(truth))
    document = estimate_areas(str(path), sample)
    assert "Stehman" in document["estimator"]
    assert np.sum(document["error_matrix"]["counts"]) == 500
    gap = everywhere.copy()
    gap[300:400, 300:320] = 255
    with pytest.raises(ValueError, match=r"2,000 of .* analysed pixels of .* are in no stratum"):
        draw_sample(str(path), tmp_path / "gap.gpkg", SampleSettings(size=500), strata_path=str(write(tmp_path / "gap.tif", gap)))


def test_settings_that_do_not_fit_the_map_are_one_sentence(tmp_path: Path, place: Place) -> None:
    path, mapped, _ = place
    empty = write(tmp_path / "empty.tif", np.full_like(mapped, 255))
    for args, text in (
        ([path, "--around", "water", "--buffer", "20"], "'water' is none of"),
        ([path, "--around", "forest loss"], "give both"),
        ([path, "--size", "20"], "or more"),
        ([path, "--around", "forest loss", "--buffer", "3"], "hold no pixel"),
        ([path, "--around", "forest loss", "--buffer", "1e5"], "up to 2048"),
        ([path, "--around", "forest loss", "--buffer", "40", "--blocks", "9"], "is for single pixels"),
        ([path, "--blocks", "2000"], "up to 1024"),
        ([path, "--expected", "forest loss=2"], "not between 0 and 1"),
        ([path, "--expected", "forest"], "NAME=SHARE"),
        ([empty], "no analysed pixel"),
    ):
        done = call_cli(["sample", *args, "--out", tmp_path / "out.gpkg"])
        assert done.returncode in (1, 2), done.stdout
        assert text in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
