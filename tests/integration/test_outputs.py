"""What is published: complete, consistent, readable by others."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pystac
import pytest
import rasterio
import rasterio.features
import shapely
from pages import read_page
from support import call_cli

from geoseg.procedural import Frontier

SIZE = 1400


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    path = out / "frontier.tif"
    Frontier(SIZE, SIZE).write(path)
    options = ["--tile", "512", "--chunk", "512", "--formats", "geojson,gpkg,fgb,parquet", "--min-area", "0.5ha"]
    done = call_cli(["segment", path, "-m", "amazon-forest", "-o", out / "maps", *options])
    assert done.returncode == 0, done.stderr
    return out / "maps" / "frontier"


@pytest.fixture(scope="module")
def report(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return document


def read(folder: Path, suffix: str) -> geopandas.GeoDataFrame:
    path = folder / f"polygons{suffix}"
    return (
        geopandas.read_parquet(path)
        if suffix == ".parquet"
        else geopandas.read_file(path, layer="polygons" if suffix == ".gpkg" else None)
    )


def test_all_files_are_there_and_listed(folder: Path, report: dict[str, Any]) -> None:
    names = {path.name for path in folder.iterdir()}
    assert names == set(report["outputs"])
    assert {
        "classes.tif",
        "confidence.tif",
        "coverage.geojson",
        "classes.qml",
        "polygons.qml",
        "preview.png",
        "item.json",
    } <= names
    for name, facts in report["files"].items():
        assert (folder / name).stat().st_size == facts["bytes"]
    assert set(report["seconds"]) == {"plan", "infer", "stitch", "vectorize", "publish"}


def test_formats_agree(folder: Path) -> None:
    frames = [
        read(folder, suffix).sort_values(["id", "part"], ignore_index=True)
        for suffix in (".gpkg", ".fgb", ".parquet", ".geojson")
    ]
    columns = [
        "id",
        "part",
        "code",
        "class",
        "area_m2",
        "perimeter_m",
        "confidence",
        "confidence_p10",
        "scene",
        "acquired",
        "model",
        "model_sha256",
    ]
    first = frames[0]
    assert len(first) > 5
    for frame in frames:
        assert frame.geometry.is_valid.all()
        for column in columns:
            assert frame[column].astype(str).tolist() == first[column].astype(str).tolist(), column
    for frame in frames[1:3]:
        assert shapely.equals(shapely.normalize(frame.geometry.values), shapely.normalize(first.geometry.values)).all()
    flat = frames[3].to_crs(first.crs)
    # Seven decimals are a centimetre; the pixels have ten metres.
    assert shapely.hausdorff_distance(flat.geometry.values, first.geometry.values).max() < 0.6
    assert first["acquired"].unique().tolist() == ["2023-07-14"]


def test_areas_add_up(folder: Path, report: dict[str, Any]) -> None:
    with rasterio.open(folder / "classes.tif") as dataset:
        codes = dataset.read(1)
    for entry in report["classes"]:
        assert entry["pixels"] == (codes == entry["code"]).sum()
        if entry["area_m2"]:
            # UTM pixels are within a thousandth of their nominal size here.
            assert entry["area_m2"] == pytest.approx(entry["pixels"] * 100, rel=2e-3)
    # Small regions gave way to their neighbours, so classes change a little, but nothing is lost.
    total = sum(entry["area_m2"] for entry in report["classes"] if entry["area_m2"])
    assert read(folder, ".gpkg")["area_m2"].sum() == pytest.approx(total, rel=1e-6)


def test_coverage_partitions_the_scene(folder: Path) -> None:
    frame = geopandas.read_file(folder / "coverage.geojson").to_crs("EPSG:32720")
    with rasterio.open(folder / "classes.tif") as dataset:
        codes = dataset.read(1)
        scene = shapely.box(*dataset.bounds)
    assert set(frame["class"]) == {"analysed", "no data"}
    assert frame.area.sum() == pytest.approx(scene.area, rel=1e-6)
    assert frame[frame["class"] == "no data"].area.sum() == pytest.approx((codes == 255).sum() * 100, rel=1e-4)


def test_class_raster(folder: Path) -> None:
    with rasterio.open(folder / "classes.tif") as dataset, rasterio.open(folder / "confidence.tif") as confidence:
        assert dataset.nodata == 255
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.colormap(1)[1] == (26, 120, 55, 255)
        assert dataset.tags(1)["class_1"] == "forest"
        assert dataset.overviews(1) == [2, 4]
        codes, sure = dataset.read(1), confidence.read(1)
        half = dataset.read(1, out_shape=(SIZE // 2, SIZE // 2))
    np.testing.assert_array_equal(codes == 255, sure == 255)
    assert sure[codes != 255].max() <= 100
    assert sure[codes != 255].min() >= 50  # of two classes the chosen one has at least half of the probability
    # Overviews hold the most frequent code of four, never a mixture of codes.
    four = np.stack([codes[0::2, 0::2], codes[1::2, 0::2], codes[0::2, 1::2], codes[1::2, 1::2]])
    clear = (four == four[0]).all(axis=0)
    np.testing.assert_array_equal(half[clear], four[0][clear])
    assert set(np.unique(half)) <= set(np.unique(codes))


def test_styles_and_names(folder: Path) -> None:
    for name in ("classes.qml", "polygons.qml", "classes.tif.aux.xml"):
        ET.parse(folder / name)
    names = [node.text for node in ET.parse(folder / "classes.tif.aux.xml").iter("Category")]
    assert (names[0], names[1], names[254], names[255]) == ("non-forest", "forest", "not analysed", "no data")
    assert len(names) == 256


def test_stac(folder: Path) -> None:
    item = pystac.Item.from_file(str(folder / "item.json"))
    assert item.datetime is not None
    assert item.datetime.isoformat().startswith("2023-07-14")
    assert item.properties["proj:code"] == "EPSG:32720"
    assert {"classes", "confidence", "polygons_gpkg", "coverage_geojson", "preview"} <= set(item.assets)
    for asset in item.assets.values():
        assert (folder / asset.href).is_file()
    (link,) = [link for link in item.links if link.rel == "mlm:model"]
    card = json.loads((folder / "model.json").read_text())
    assert card["mlm:name"] == "amazon-forest"
    assert str(link.target).endswith("model.json")
    collection = pystac.Collection.from_file(str(folder.parent / "collection.json"))
    (only,) = collection.get_items()
    assert only.id == item.id
    shape = shapely.geometry.shape(item.geometry)
    assert shape.contains(geopandas.read_file(folder / "polygons.geojson").union_all().centroid)


def test_the_page_says_what_the_record_says(folder: Path, report: dict[str, Any]) -> None:
    page = read_page(folder / "report.html")
    analysed = [entry for entry in report["classes"] if entry["code"] < 254]
    total = sum(entry["pixels"] for entry in analysed)
    for entry in analysed:
        row = page.row(entry["name"])
        assert row[1:4] == [
            f"{entry['area_m2'] / 1e4:,.1f} ha",
            f"{100 * entry['pixels'] / total:.1f} %",
            f"{entry['pixels']:,}",
        ]
    with rasterio.open(folder / "confidence.tif") as confidence:
        values = confidence.read(1)
    assert f"Mean confidence is {values[values <= 100].mean():.1f} %" in page.text
    assert page.row("infer")[1] == f"{report['seconds']['infer']:.1f} s"
    assert all(warning in page.text for warning in report["warnings"])
    assert {link["href"] for link in page.all("a") if link["href"].startswith("./")} == {
        f"./{name}" for name in report["outputs"] if name != "report.html"
    }
    assert "mean IoU 0.879" in page.text
    assert "Contains modified Copernicus Sentinel data" in page.text
    assert len(page.all("img")) == 3
    # 1400 pixels of 10 m: a bar of less than a third of them.
    assert "Scale bar of 2 km" in {drawing.get("aria-label") for drawing in page.all("svg")}


def test_preview(folder: Path) -> None:
    from PIL import Image

    with Image.open(folder / "preview.png") as picture:
        width, height = picture.size
        colors = {color for _, color in picture.convert("RGB").getcolors(maxcolors=1 << 24)}
    assert (width, height) == (3 * SIZE // 2 + 16, SIZE // 2)
    assert {(26, 120, 55), (232, 216, 160)} <= colors
