"""Labels as people have them: right, or one sentence. Right values are those of rasterio, shapely and pyproj."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.features
from label_files import CODES, FOREST, RIGHT, SIDE, compared, features, legend, raster, training
from rasterio.transform import Affine, from_origin

from geoseg.errors import GeosegError
from geoseg.scenes.scene import OpenOptions
from geoseg.windows import Window
from pipeline.config.sections import Config
from pipeline.evaluate.run import evaluate
from pipeline.evaluate.settings import MeasureOptions, TruthOptions
from pipeline.files.class_rasters import open_class_raster
from pipeline.sample.sampling_frame import open_map
from pipeline.screen.run import screen
from pipeline.summarize.zones import areas_by_zone
from pipeline.train.data import open_data
from pipeline.train.early_warnings import check_labelled
from pipeline.train.recipe import Recipe
from pipeline.vectorize.file import vectorize_file
from tests.support import call_cli

NAMES = {0: "other", 1: "forest"}
HALF = CODES.copy()
HALF[:, 40:] = 255
OWN = {"geoseg_model": "m"}


def tagged(tags: Mapping[str, str]) -> Callable[[Any], None]:
    return lambda file: file.update_tags(**tags)


def palette(file: Any) -> None:
    file.write_colormap(1, {0: (200, 180, 90, 255), 1: (0, 120, 0, 255)})


def alpha(file: Any) -> None:
    file.colorinterp = [rasterio.enums.ColorInterp.gray, rasterio.enums.ColorInterp.alpha]


PAINTED = np.array([[1, 0, 255], [0, 255, 0]], np.uint8)[CODES].transpose(2, 0, 1)
ONE_HOT = np.stack([CODES == 0, CODES == 1]).astype(np.uint8)
MASK = CODES * np.uint8(255)
FINE = np.kron(CODES, np.ones((2, 2), np.uint8))
NAN = np.where(HALF == 255, np.nan, HALF).astype(np.float32)
RASTERS: dict[str, tuple[Any, dict[str, Any], dict[str, str], Any]] = {
    "0 and 255": (MASK, {}, {}, "value 255 .*--map 255=CLASS"),
    "0 and 255, told": (MASK, {}, {"255": "forest"}, (RIGHT, 3600)),
    "0 and 255, unlabelled": (MASK, {}, {"255": "unlabelled"}, ([[3200, 0], [0, 0]], 3200)),
    "0 and 255, no data": (MASK, {"nodata": 255}, {}, ([[3200, 0], [0, 0]], 3200)),
    "0 and 254": (CODES * np.uint8(254), {}, {}, "value 254"),
    "0 and 254, no data 255": (CODES * np.uint8(254), {"nodata": 255}, {}, "value 254"),
    "0 and 255 in 16 bits": (MASK.astype(np.uint16), {}, {}, "value 255"),
    "0 and 255 as floats, told": (MASK.astype(np.float32), {}, {"255": "forest"}, (RIGHT, 3600)),
    "0 and 65535": (CODES * np.uint16(65535), {}, {}, "value 65535"),
    "0 and 65535, told": (CODES * np.uint16(65535), {}, {"65535": "forest"}, (RIGHT, 3600)),
    "255 of this program": (HALF, {"after": tagged(OWN)}, {}, ([[2000, 0], [0, 400]], 2400)),
    "254 of this program": (
        np.where(HALF == 255, 254, HALF).astype(np.uint8),
        {"after": tagged(OWN)},
        {},
        ([[2000, 0], [0, 400]], 2400),
    ),
    "painted in RGB": (PAINTED, {"photometric": "RGB"}, {}, "3 bands"),
    "painted in RGBA": (np.concatenate([PAINTED, MASK[None]]), {"photometric": "RGB", "alpha": "yes"}, {}, "bands"),
    "one band a class": (ONE_HOT, {}, {}, "2 bands"),
    "one band a class, of six": (np.repeat(ONE_HOT, 3, axis=0), {}, {}, "6 bands"),
    "grey and alpha": (
        np.stack([CODES, np.where(HALF == 255, 0, 255)]).astype(np.uint8),
        {"after": alpha},
        {},
        ([[2000, 0], [0, 400]], 2400),
    ),
    "a palette": (CODES, {"after": palette}, {}, (RIGHT, 3600)),
    "whole floats": (CODES.astype(np.float64), {}, {}, (RIGHT, 3600)),
    "floats with NaN": (NAN, {}, {}, ([[2000, 0], [0, 400]], 2400)),
    "halves": (CODES.astype(np.float32) / 2, {}, {}, "value 0.5"),
    "negative values": (CODES.astype(np.int16) * -9999, {}, {}, "value -9999"),
    "no data -9999": (np.where(HALF == 255, -9999, HALF.astype(np.int16)), {"nodata": -9999}, {}, ([[2000, 0], [0, 400]], 2400)),
    "names in another order": (1 - CODES, {"after": legend("forest", "other")}, {}, (RIGHT, 3600)),
    "names of another language": (CODES, {"after": legend("outro", "forest")}, {}, "value 0 .*--map 0=CLASS"),
    "another grid": (FINE, {"transform": from_origin(500000, 5400000, 5, 5)}, {}, (RIGHT, 3600)),
    "0 and -1": (CODES.astype(np.int8) * -1, {}, {}, "value -1 .*--map -1=CLASS"),
    "0 and -1, told": (CODES.astype(np.int8) * -1, {}, {"-1": "forest"}, (RIGHT, 3600)),
    "numbers of parcels": (CODES.astype(np.int64) * 12345678901, {}, {}, "value 12345678901"),
    "grey as RGB": (np.stack([MASK] * 3), {}, {}, "3 bands"),
    "complex": (CODES.astype(np.complex64), {}, {}, "complex"),
    "codes from 1": (CODES + np.uint8(1), {}, {}, "value 2"),
}


@pytest.mark.parametrize("kind", RASTERS)
def test_rasters_of_truth(tmp_path: Path, kind: str) -> None:
    data, options, values, right = RASTERS[kind]
    truth = raster(tmp_path / "truth.tif", data, **options)
    if isinstance(right, str):
        with pytest.raises(GeosegError, match=f"truth.tif.*{right}"):
            compared(tmp_path, truth, values=values)
        return
    found = compared(tmp_path, truth, values=values)
    assert (found["confusion"], found["coverage"]["compared"], found["coverage"]["pixels"]) == (*right, 3600)


def test_no_data_that_is_a_class_is_told_with_its_share(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number, place in enumerate(({}, {"transform": from_origin(500000, 5400000, 5, 5)})):
        caplog.clear()
        found = compared(tmp_path, raster(tmp_path / f"{number}.tif", FINE if place else CODES, nodata=0, **place))
        assert found["confusion"] == [[0, 0], [0, 400]]
        assert "3,200 of 3,600 pixels (88.9 %) are not labelled" in caplog.text
        assert "gdal_edit.py -unsetnodata" in caplog.text


def test_what_is_compared_is_shown_against_all_pixels(tmp_path: Path) -> None:
    path = raster(tmp_path / "map.tif", CODES, after=legend("other", "forest"))
    truth = raster(tmp_path / "truth.tif", HALF, nodata=255)
    done = call_cli(["evaluate", "--pred", path, "--truth", truth, "--out", tmp_path / "ev", "--boundary", "none"])
    assert done.returncode == 0, done.stderr
    assert "2,400 of 3,600 px (66.7 %)" in done.stdout
    assert "Of 3,600 pixels 2,400 are labelled" in (tmp_path / "ev" / "report.html").read_text()


VECTORIZED: dict[str, tuple[Any, dict[str, Any], Any]] = {
    "0 and 255": (MASK, {}, {0: 3200, 255: 400}),
    "0 and 254": (CODES * np.uint8(254), {}, {0: 3200, 254: 400}),
    "0 and 255 in 16 bits": (MASK.astype(np.uint16), {}, {0: 3200, 255: 400}),
    "0, 253, 254 and 255": (
        np.where(HALF == 255, 254, CODES * np.uint8(255) + (CODES == 0) * np.eye(SIDE, dtype=np.uint8) * np.uint8(253)),
        {},
        None,
    ),
    "255 is no data": (MASK, {"nodata": 255}, {0: 3200}),
    "255 of this program": (MASK, {"after": tagged(OWN)}, {0: 3200}),
    "no data is 0": (MASK, {"nodata": 0}, {255: 400}),
    "all values": (np.arange(SIDE * SIDE).reshape(SIDE, SIDE).astype(np.uint8), {}, "256 different values"),
}


@pytest.mark.parametrize("kind", VECTORIZED)
def test_masks_as_polygons(tmp_path: Path, kind: str) -> None:
    data, options, right = VECTORIZED[kind]
    path, out = raster(tmp_path / "mask.tif", data, **options), tmp_path / "out.gpkg"
    if isinstance(right, str):
        with pytest.raises(GeosegError, match=right):
            vectorize_file(path, [out], Config())
        assert not out.exists()
        return
    vectorize_file(path, [out], Config())
    frame = geopandas.read_file(out)
    if right is None:
        values, counts = np.unique(data, return_counts=True)
        right = dict(zip(values.tolist(), counts.tolist(), strict=True))
    assert {code: round(part.area.sum() / 100) for code, part in frame.groupby("code").geometry} == right
    assert {*frame["class"]} == {f"class {code}" for code in right}


def test_a_value_of_a_mask_is_named_and_chosen(tmp_path: Path) -> None:
    path = raster(tmp_path / "mask.tif", MASK)
    config = Config.parse({"vector": {"classes": ["building"]}})
    assert vectorize_file(path, [tmp_path / "out.gpkg"], config, names={255: "building"}) == 1
    frame = geopandas.read_file(tmp_path / "out.gpkg")
    assert (frame["code"][0], frame["class"][0], round(frame.area[0])) == (255, "building", 40000)


def test_maps_of_0_and_255_are_refused_elsewhere(tmp_path: Path) -> None:
    mask, truth = raster(tmp_path / "mask.tif", MASK, after=legend("other", "forest")), raster(tmp_path / "truth.tif", CODES)
    zones = features(tmp_path / "zones.gpkg", [FOREST])
    for read in (
        lambda: evaluate([mask], truth, options=MeasureOptions(boundary=())),
        lambda: open_map(mask),
        lambda: screen([mask], "forest", "100m", tmp_path / "cells.geojson"),
        lambda: areas_by_zone(open_class_raster(mask, OpenOptions())[0], zones),
    ):
        with pytest.raises(GeosegError, match=r"value 255 at row 10, column 10.*gdal_edit.py -a_nodata 255"):
            read()
    plain = {"crs": None, "transform": Affine.identity()}
    mask, truth = (
        raster(tmp_path / "mask.png", MASK, driver="PNG", compress=None, **plain),
        raster(tmp_path / "t.png", CODES, driver="PNG", compress=None, **plain),
    )
    for pair, words in (((mask, truth), "400 pixels have the value 255"), ((truth, mask), "value 255 .*--map 255=CLASS")):
        with pytest.raises(GeosegError, match=words):
            evaluate([pair[0]], pair[1], truth_options=TruthOptions(plain=True), names=NAMES, options=MeasureOptions(boundary=()))


TRAINING: dict[str, tuple[Any, dict[str, Any], str]] = {
    "0 and 255": (MASK, {}, "all 3,200 labelled pixels to train on are 'other'"),
    "255 alone": (np.full_like(MASK, 255), {}, "none of the 1 scenes to train on has a labelled pixel"),
    "7 alone": (np.full_like(MASK, 7), {}, r"none of the values is a class: 7 \(3,600 px\); known: 0, other, 1, forest"),
    "no data is 0": (CODES, {"nodata": 0}, "labelled pixels to train on are 'forest'"),
    "no data all over": (np.full_like(MASK, 9), {"nodata": 9}, "none of the 1 scenes to train on has a labelled pixel"),
    "painted in RGB": (PAINTED, {}, "3 bands"),
    "features of nothing": (
        '{"type": "FeatureCollection", "features": []}',
        {},
        "none of the 1 scenes to train on has a labelled pixel",
    ),
}


@pytest.mark.parametrize("kind", TRAINING)
def test_labels_that_teach_nothing_end_before_training(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("lightning")
    data, options, words = TRAINING[kind]
    done = call_cli(["train", training(tmp_path, data, **options), "--out", tmp_path / "model"])
    assert done.returncode in (1, 2), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "model" / "model.json").exists()
    assert re.search(words, done.stderr), done.stderr


def test_masks_of_0_and_255_are_learned_from_when_it_is_said_what_they_are(tmp_path: Path) -> None:
    data = open_data(Recipe.read(training(tmp_path, MASK, ", labels = [255]")))
    labels = data.training[0].read(Window.of((SIDE, SIDE))).labels
    np.testing.assert_array_equal(labels, CODES)
    check_labelled(data, {"other": 3200, "forest": 400})


def test_an_own_map_as_truth_needs_no_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        compared(tmp_path, raster(tmp_path / "truth.tif", HALF, nodata=255, after=tagged(OWN)))
    assert caplog.text == ""
