"""``geoseg evaluate`` of maps of values: against numpy on whole arrays, whatever the windows and the grids."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling
from rasterio.warp import reproject
from sklearn import metrics
from support import TRANSFORM, UTM, call_cli

import geoseg
from geoseg.errors import ConfigError, GeoreferenceError
from geoseg.evaluation.value_errors import FIGURES

SCALE, OFFSET = 0.01, -2.0


def write(path: Path, array: np.ndarray, **profile: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    given = {"driver": "GTiff", "count": 1, "dtype": array.dtype, "height": array.shape[0], "width": array.shape[1]}
    with rasterio.open(path, "w", **(given | {"crs": UTM, "transform": TRANSFORM} | profile)) as dataset:
        dataset.write(array, 1)
    return path


def value_map(path: Path, codes: np.ndarray) -> Path:
    """A map as ``segment`` writes it."""
    write(path, codes.astype(np.uint16), nodata=65535)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets, dataset.units = (SCALE,), (OFFSET,), ("m",)
        dataset.set_band_description(1, "canopy height")
        dataset.update_tags(1, code_65534="not analysed", code_65535="no data")
    return path


@pytest.fixture
def maps(tmp_path: Path) -> tuple[Path, Path, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Maps of two scenes, their truths, and values with truths by scene, NaN where there is none."""
    known = {}
    for k, name in enumerate(("east", "west")):
        rng = np.random.default_rng(k)
        truth = rng.gamma(2, 4, (300, 250)).astype(np.float32)
        codes = np.clip(np.rint((truth + rng.normal(0.5 * k, 1, truth.shape) - OFFSET) / SCALE), 0, 65533)
        values = codes * SCALE + OFFSET
        codes[:20], values[:20] = 65534, np.nan
        codes[:, :10], values[:, :10] = 65535, np.nan
        truth[100:140, 50:90] = -9999
        value_map(tmp_path / "maps" / name / "values.tif", codes)
        write(tmp_path / "truth" / f"{name}.tif", truth, nodata=-9999)
        known[name] = values, np.where(truth == -9999, np.nan, truth.astype(np.float64))
    return tmp_path / "maps", tmp_path / "truth", known


def wanted(found: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    both = np.isfinite(found) & np.isfinite(truth)
    f, t = found[both], truth[both]
    return {
        "rmse": metrics.root_mean_squared_error(t, f),
        "mae": metrics.mean_absolute_error(t, f),
        "bias": float((f - t).mean()),
        "r2": metrics.r2_score(t, f),
    }


def test_a_truth_of_classes_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also on another grid, where values between 0 and 1 come of it; but not a truth that holds more, and not one of shares."""
    rng = np.random.default_rng(0)
    value_map(tmp_path / "map" / "values.tif", rng.integers(0, 3000, (60, 50)))
    classes = rng.integers(0, 2, (60, 50), np.uint8)
    moved = TRANSFORM @ rasterio.Affine.translation(0.4, 0.3)
    write(tmp_path / "classes.tif", classes)
    write(tmp_path / "moved.tif", classes, transform=moved)
    write(tmp_path / "whole.tif", np.where(classes == 1, 2, classes).astype(np.uint8))
    write(tmp_path / "decimal.tif", classes.astype(np.float32))
    for name, is_told in (("classes", True), ("moved", True), ("whole", False), ("decimal", False)):
        caplog.clear()
        geoseg.evaluate(tmp_path / "map", tmp_path / f"{name}.tif")
        told = [text for text in caplog.messages if "holds only 0 and 1" in text]
        assert len(told) == is_told, name
        assert all("holds canopy height in m; give a raster of these values" in text for text in told)
        # Whatever the truth holds, the mean of it is nearer to it than these heights.
        assert "below 0: the mean of the truth everywhere would be the better map; does the truth hold canopy" in caplog.text
    with rasterio.open(tmp_path / "map" / "values.tif", "r+") as dataset:
        dataset.units = ("1",)
    caplog.clear()
    geoseg.evaluate(tmp_path / "map", tmp_path / "classes.tif")
    assert "holds only 0 and 1" not in caplog.text
    caplog.clear()
    geoseg.evaluate(tmp_path / "map", tmp_path / "map" / "values.tif")
    assert "below 0" not in caplog.text


def test_figures(maps: tuple[Path, Path, dict[str, tuple[np.ndarray, np.ndarray]]], tmp_path: Path) -> None:
    folder, truths, known = maps
    out = tmp_path / "evaluation"
    done = call_cli(["evaluate", "-p", folder, "-t", truths, "-o", out])
    assert done.returncode == 0, done.stderr
    document = json.loads((out / "evaluation.json").read_text())
    whole = [np.concatenate([pair[k] for pair in known.values()]) for k in (0, 1)]
    assert document["figures"] == pytest.approx(wanted(*whole), rel=1e-9)
    assert {row["scene"]: row["figures"] for row in document["scenes"]} == {
        name: pytest.approx(wanted(*pair), rel=1e-9) for name, pair in known.items()
    }
    assert (document["quantity"], document["unit"]) == ("canopy height", "m")
    coverage = document["coverage"]
    assert coverage["not_analysed"] == 2 * 20 * 240
    assert coverage["no_data"] == 2 * 300 * 10
    assert coverage["compared"] == sum(np.isfinite(f + t).sum() for f, t in known.values())
    for name in FIGURES:
        low, high = document["intervals_95"][name]
        assert low <= document["figures"][name] <= high
    rows = list(csv.DictReader((out / "scenes.csv").open()))
    assert [row["scene"] for row in rows] == ["east", "west", "all"]
    assert float(rows[2]["rmse"]) == document["figures"]["rmse"]
    assert f"{document['figures']['rmse']:.4g} m" in done.stdout
    assert "RMSE" in (out / "report.html").read_text()
    found = geoseg.evaluate(folder, truths)
    assert json.loads(json.dumps(found.document)) == document


def test_another_grid(maps: tuple[Path, Path, dict[str, tuple[np.ndarray, np.ndarray]]], tmp_path: Path) -> None:
    """The truth is brought onto the grid of the map as GDAL does it."""
    folder, truths, known = maps
    to = {"dst_crs": UTM, "dst_nodata": np.nan, "resampling": Resampling.bilinear}
    coarse = TRANSFORM @ rasterio.Affine.translation(3.3, 2.7) @ rasterio.Affine.scale(1.7)
    with rasterio.open(truths / "east.tif") as dataset:
        moved = np.full((160, 140), np.nan, np.float32)
        reproject(rasterio.band(dataset, 1), moved, dst_transform=coarse, **to)
    other = write(tmp_path / "coarse.tif", moved, transform=coarse, nodata=float("nan"))
    back = np.full((300, 250), np.nan)
    with rasterio.open(other) as dataset:
        reproject(
            rasterio.band(dataset, 1),
            back,
            dst_transform=TRANSFORM,
            dst_crs=UTM,
            dst_nodata=np.nan,
            resampling=Resampling.bilinear,
        )
    found = geoseg.evaluate(folder / "east", other)
    # The sums over windows of WarpedVRT, which approximates transformations no further than a millionth of a pixel.
    assert found.document["figures"] == pytest.approx(wanted(known["east"][0], back), rel=1e-4)
    assert found.intervals == {}


def test_a_truth_that_is_a_map(maps: tuple[Path, Path, dict[str, tuple[np.ndarray, np.ndarray]]]) -> None:
    folder, _, known = maps
    found = geoseg.evaluate(folder / "east", folder / "east" / "values.tif")
    assert (found.document["figures"]["rmse"], found.document["figures"]["r2"]) == (0, 1)
    assert found.document["coverage"]["compared"] == np.isfinite(known["east"][0]).sum()


def test_masked_pixels_have_no_value(tmp_path: Path) -> None:
    """Neither of maps nor of truths, on one grid and without a place on Earth."""
    plain = write(tmp_path / "plain.tif", np.arange(1024, dtype=np.float32).reshape(32, 32))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        masked = write(tmp_path / "masked.tif", np.where(np.arange(1024).reshape(32, 32) < 512, 9e9, 0).astype(np.float32))
        bare = write(tmp_path / "bare.tif", np.full((32, 32), 9e9, np.float32), crs=None, transform=None)
        for path in (masked, bare):
            with rasterio.open(path, "r+") as dataset:
                dataset.write_mask(np.arange(1024).reshape(32, 32) >= 512)
    for prediction, truth in ((masked, plain), (plain, masked), (plain, bare)):
        coverage = geoseg.evaluate(prediction, truth).document["coverage"]
        assert (coverage["compared"], coverage["known"]) == (512, 1024 if truth == plain else 512)


def test_refused(maps: tuple[Path, Path, dict[str, tuple[np.ndarray, np.ndarray]]], tmp_path: Path) -> None:
    folder, truths, _ = maps
    with pytest.raises(ConfigError, match="--isbi: is for maps of classes, and these are maps of values"):
        geoseg.evaluate(folder, truths, isbi="forest")
    classes = write(tmp_path / "classes.tif", np.zeros((9, 9), np.uint8))
    with pytest.raises(ConfigError, match=r"is a map of values, and .* is none; evaluate them apart"):
        geoseg.evaluate([folder, classes], truths)
    feet = truths / "east.tif"
    with rasterio.open(feet, "r+") as dataset:
        dataset.units = ("ft",)
    with pytest.raises(ConfigError, match="is in ft, and the map in m"):
        geoseg.evaluate(folder, truths)
    other = write(tmp_path / "site.tif", np.ones((9, 9), np.float32), crs='LOCAL_CS["site",UNIT["metre",1]]')
    with pytest.raises(GeoreferenceError, match=r"site\.tif: the CRS site and .* have no relation"):
        geoseg.evaluate(folder / "east", other)
    polygons = tmp_path / "truth.geojson"
    polygons.write_text('{"type": "FeatureCollection", "features": []}')
    with pytest.raises(ConfigError, match="compared with rasters of numbers, not with polygons"):
        geoseg.evaluate(folder / "east", polygons)
