"""Names of classes in styles are text, whatever characters they have."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import rasterio

from geoseg.formats.styles import category_names, class_styles, raster_qml, vector_qml

NAMES = ("plain", "a & b", "<script>alert(1)</script>", "5 < 6 > 4", 'say "so"', "it's", "']]>\"&lt;", "日本 ünï")


@pytest.fixture
def styles():
    return class_styles([(k, name, None if k else "#123456") for k, name in enumerate(NAMES)])


def test_styles_are_xml_that_says_the_names(styles) -> None:
    raster = ET.fromstring(raster_qml(styles))
    entries = raster.findall("./pipe/rasterrenderer/colorPalette/paletteEntry")
    assert [(int(e.get("value", "")), e.get("label"), e.get("color")) for e in entries] == [
        (s.code, s.name, s.color) for s in styles
    ]
    assert [e.get("label") for e in entries] == [*NAMES, "not analysed"]
    vector = ET.fromstring(vector_qml(styles))
    assert [(c.get("value"), c.get("label")) for c in vector.findall(".//category")] == [(str(s.code), s.name) for s in styles]
    fills = [p.get("v", "").split(",")[:3] for p in vector.findall(".//prop") if p.get("k") == "color"]
    assert ["#" + "".join(f"{int(v):02x}" for v in fill) for fill in fills] == [s.color for s in styles]
    # No element comes from a name.
    assert {e.tag for e in raster.iter()} | {e.tag for e in vector.iter()} <= {
        "qgis",
        "pipe",
        "rasterrenderer",
        "rasterTransparency",
        "colorPalette",
        "paletteEntry",
        "blendMode",
        "renderer-v2",
        "categories",
        "category",
        "symbols",
        "symbol",
        "layer",
        "prop",
        "layerGeometryType",
    }


def test_class_names_arrive_in_gdal(styles, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with rasterio.open(path, "w", driver="GTiff", height=1, width=1, count=1, dtype="uint8") as dataset:
        dataset.write(np.zeros((1, 1, 1), np.uint8))
    (tmp_path / "a.tif.aux.xml").write_text(category_names(styles), encoding="utf-8")
    found = [e.text or "" for e in ET.parse(tmp_path / "a.tif.aux.xml").iter("Category")]
    assert len(found) == 256
    assert found[: len(NAMES)] == list(NAMES)
    assert (found[254], found[255]) == ("not analysed", "no data")
