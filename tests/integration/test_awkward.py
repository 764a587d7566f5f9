"""Awkward and broken rasters: refused with one clear sentence, or mapped right; the rest of the folder goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.features
import rasterio.windows
from support import WriteRaster, call_cli

from geoseg.models.model_folder import Model

REFUSED = {
    "OK_RGB": "same name",
    "ok_rgb": "same name",
    "bands13": "--bands",
    "bitflip": "--on-bad-block=mask",
    "complex": "complex",
    "dangling": "not there",
    "dir": "a folder",
    "empty": "0 bytes",
    "float64": "--rescale",
    "gcp_only": "--gcps",
    "gray1": "3 bands",
    "html": "HTML",
    "int16_neg": "--rescale",
    "int8": "--rescale",
    "jpg_named": "PNG",
    "lfs_pointer": "git lfs pull",
    "local_crs": "--formats gpkg",
    "loop": "links to itself",
    "nir4": "--bands",
    "no_crs": "--assume-crs",
    "no_georef": "--pixel-coords",
    "no_transform": "--pixel-coords",
    "rpc_only": "gdalwarp -rpc",
    "scale_offset": "--rescale",
    "trunc_half": "truncated",
    "trunc_header": "truncated",
    "uint16": "--rescale",
    "vrt_disguised": "--allow-vrt",
    "vrt_ssrf": "--allow-vrt",
    "zero_pixel": "size zero",
}
WARNED = {
    "nodata_all": "no valid pixels",
    "nodata_out_of_range": "does not fit",
    "wgs84": "trained on 10 m",
    "tiny_1x1": "trained on 10 m",
}


@pytest.fixture(scope="module")
def result(bad_rasters: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, dict[str, Any]], Path]:
    out = tmp_path_factory.mktemp("out")
    done = call_cli(["segment", bad_rasters, "-m", "amazon-forest", "-o", out, "-q"])
    index = json.loads((out / "index.json").read_text())
    return done.returncode, {Path(entry["scene"]).stem: entry for entry in index["scenes"]}, out


def test_each_is_refused_with_its_cure(result: tuple[int, dict[str, dict[str, Any]], Path]) -> None:
    code, entries, out = result
    assert code == 1
    for name, words in REFUSED.items():
        entry = entries[name]
        assert entry["status"] == "failed", name
        assert words in entry["reason"], name
        assert name.lower() in entry["reason"].lower(), f"{name}: the reason does not name the file"
        assert "\n" not in entry["reason"]
        # What was begun before the damage was met is kept for the next run; all others leave nothing.
        assert name == "bitflip" or not (out / name).exists(), f"{name}: something was left behind"


def test_the_others_are_done(result: tuple[int, dict[str, dict[str, Any]], Path]) -> None:
    _, entries, out = result
    one_band = {"float_inf", "float_nan", "float_nan_untagged", "huge_sparse", "strip_long"}
    others = set(entries) - set(REFUSED) - one_band
    assert len(others) >= 17
    for name in others:
        assert entries[name]["status"] == "done", entries[name]
        assert all((out / path).is_file() for path in entries[name]["outputs"])
    for name, words in WARNED.items():
        assert any(words in warning for warning in entries[name]["warnings"]), (name, entries[name]["warnings"])


@pytest.mark.parametrize(
    "name", ["southup", "rotated", "nonsquare", "wgs84", "internal_mask", "external_mask", "rgba", "palette", "bgr"]
)
def test_places_and_validity(result: tuple[int, dict[str, dict[str, Any]], Path], bad_rasters: Path, name: str) -> None:
    _, _, out = result
    import geopandas

    with rasterio.open(bad_rasters / f"{name}.tif") as source, rasterio.open(out / name / "classes.tif") as classes:
        assert classes.transform.almost_equals(source.transform, 1e-9)
        assert classes.crs == source.crs
        codes = classes.read(1)
        np.testing.assert_array_equal(codes == 255, source.dataset_mask() == 0)
        outline = geopandas.read_file(out / name / "polygons.gpkg")
        back = np.full(codes.shape, 255, np.uint8)
        shapes = list(zip(outline.geometry, outline["code"].astype(int), strict=True))
        rasterio.features.rasterize(shapes, out=back, transform=source.transform)
    np.testing.assert_array_equal(back, codes)
    assert outline.geometry.is_valid.all()
    lonlat = geopandas.read_file(out / name / "polygons.geojson")
    assert lonlat.geometry.is_valid.all()
    # The geodesic area stands on every feature; it is that of the same shape in an equal-area projection.
    flat = outline.to_crs("+proj=laea +lat_0={:.6f} +lon_0={:.6f}".format(*reversed(lonlat.union_all().centroid.coords[0])))
    np.testing.assert_allclose(flat.area.sum(), outline["area_m2"].sum(), rtol=2e-4)


def test_bad_block_is_not_analysed(bad_rasters: Path, tmp_path: Path) -> None:
    done = call_cli(["segment", bad_rasters / "bitflip.tif", "-m", "amazon-forest", "-o", tmp_path, "--on-bad-block", "mask"])
    assert done.returncode == 0, done.stderr
    with rasterio.open(tmp_path / "bitflip" / "classes.tif") as dataset:
        codes = dataset.read(1)
    assert 0 < (codes == 254).sum() < codes.size / 2
    report = json.loads((tmp_path / "bitflip" / "run.json").read_text())
    assert any("could not be read" in warning for warning in report["warnings"])
    coverage = json.loads((tmp_path / "bitflip" / "coverage.geojson").read_text())
    assert {f["properties"]["class"] for f in coverage["features"]} == {"analysed", "not analysed"}


def test_nan_and_infinity_are_no_data(write_raster: WriteRaster, identity_model: Model, tmp_path: Path) -> None:
    image = np.ones((100, 120), np.float32)
    image[:30], image[30:40] = np.nan, np.inf
    path = write_raster(image)
    done = call_cli(["segment", path, "-m", identity_model.path, "-o", tmp_path / "out", "--rescale", "0,255"])
    assert done.returncode == 0, done.stderr
    with rasterio.open(tmp_path / "out" / "scene" / "classes.tif") as dataset:
        codes = dataset.read(1)
    assert (codes[:40] == 255).all()
    assert (codes[40:] == 1).all()


def test_strict_stops_at_the_first_failure(bad_rasters: Path, tmp_path: Path) -> None:
    done = call_cli(
        ["segment", bad_rasters / "complex.tif", bad_rasters / "southup.tif", "-m", "amazon-forest", "-o", tmp_path, "--strict"]
    )
    assert done.returncode == 1
    statuses = {entry["scene"]: entry["status"] for entry in json.loads((tmp_path / "index.json").read_text())["scenes"]}
    assert statuses == {"complex": "failed", "southup": "skipped"}


def test_pixel_coordinates(bad_rasters: Path, tmp_path: Path) -> None:
    done = call_cli(["segment", bad_rasters / "no_georef.tif", "-m", "amazon-forest", "-o", tmp_path, "--pixel-coords"])
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "no_georef").iterdir()}
    assert "polygons.gpkg" in names
    assert "polygons.geojson" not in names


def test_resampled_to_the_pixels_of_the_model(bad_rasters: Path, tmp_path: Path) -> None:
    done = call_cli(
        ["segment", bad_rasters / "res_1m.tif", "-m", "amazon-forest", "-o", tmp_path, "--resample", "--target-crs", "EPSG:32634"]
    )
    assert done.returncode == 0, done.stderr
    with rasterio.open(tmp_path / "res_1m" / "classes.tif") as dataset:
        assert dataset.crs.to_epsg() == 32634
        assert dataset.res == pytest.approx((10, 10), rel=0.05)


@pytest.mark.slow
def test_huge_and_sparse(bad_rasters: Path, identity_model: Model, tmp_path: Path) -> None:
    done = call_cli(["segment", bad_rasters / "huge_sparse.tif", "-m", identity_model.path, "-o", tmp_path, "--memory", "1GB"])
    assert done.returncode == 0, done.stderr
    with rasterio.open(tmp_path / "huge_sparse" / "classes.tif") as dataset:
        assert dataset.shape == (400_000, 400_000)
        assert (dataset.read(1, window=rasterio.windows.Window(1024, 1024, 256, 256)) != 255).any()
        assert len(dataset.overviews(1)) == 10
    coverage = json.loads((tmp_path / "huge_sparse" / "coverage.geojson").read_text())
    assert {f["properties"]["class"] for f in coverage["features"]} == {"analysed", "no data"}
