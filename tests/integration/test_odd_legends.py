"""Names and colours of classes, wherever a class raster keeps them."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from support import WriteRaster, call_cli

from geoseg.scenes.scene import OpenOptions
from pipeline.files.class_rasters import open_class_raster

SIDE = 96
RNG = np.random.default_rng(0)

CODES = np.array([[0, 1, 2, 1]], np.uint8).repeat(4, 0)
NAMES = {0: "sea", 1: "rain forest", 2: "town"}


def tagged(path: Path, band: Mapping[str, str] | None = None, file: Mapping[str, str] | None = None) -> None:
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(1, **(band or {}))
        dataset.update_tags(**(file or {}))


def beside(path: Path, inner: str) -> None:
    Path(f"{path}.aux.xml").write_text(f'<PAMDataset><PAMRasterBand band="1">{inner}</PAMRasterBand></PAMDataset>')


def rat(columns: Sequence[tuple[str, int]], rows: Sequence[Sequence[object]], attributes: str = "") -> str:
    fields = "".join(
        f'<FieldDefn index="{i}"><Name>{name}</Name><Type>2</Type><Usage>{usage}</Usage></FieldDefn>'
        for i, (name, usage) in enumerate(columns)
    )
    body = "".join(f'<Row index="{i}">' + "".join(f"<F>{v}</F>" for v in row) + "</Row>" for i, row in enumerate(rows))
    return f"<GDALRasterAttributeTable {attributes}>{fields}{body}</GDALRasterAttributeTable>"


def dbf(path: Path, columns: Sequence[tuple[str, int]], rows: Sequence[Sequence[str]]) -> None:
    width = 1 + sum(length for _, length in columns)
    head = struct.pack("<BBBBIHH20x", 3, 126, 1, 1, len(rows), 32 + 32 * len(columns) + 1, width)
    for name, length in columns:
        head += struct.pack("<11sc4xBB14x", name.encode(), b"C", length, 0)
    body = b"".join(b" " + b"".join(v.encode("latin-1").ljust(n) for v, (_, n) in zip(row, columns, strict=True)) for row in rows)
    path.write_bytes(head + b"\r" + body + b"\x1a")


def qgis(path: Path) -> None:
    entries = "".join(
        f'<paletteEntry value="{c}" color="#0{c}0{c}0{c}" label="{name}" alpha="255"/>' for c, name in NAMES.items()
    )
    path.with_suffix(".qml").write_text(
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n<qgis version='3.34'><pipe>"
        f'<rasterrenderer type="paletted" band="1"><colorPalette>{entries}</colorPalette></rasterrenderer></pipe></qgis>'
    )


ROWS = list(NAMES.items())
LEGENDS: dict[str, Callable[[Path], None]] = {
    "our own tags": lambda p: tagged(p, {f"class_{c}": n for c, n in NAMES.items()}),
    "tags of the file": lambda p: tagged(p, file={f"CLASS_{c}_NAME": n for c, n in NAMES.items()}),
    "category names": lambda p: beside(
        p, "<CategoryNames>" + "".join(f"<Category>{n}</Category>" for n in NAMES.values()) + "</CategoryNames>"
    ),
    "attribute table by usage": lambda p: beside(p, rat([("N", 2), ("V", 5)], [(n, c) for c, n in ROWS])),
    "attribute table by names": lambda p: beside(
        p, rat([("OID", 0), ("Value", 0), ("Class_Name", 0)], [(9, *row) for row in ROWS])
    ),
    "attribute table by rows": lambda p: beside(
        p, rat([("Class", 2)], [(n,) for n in NAMES.values()], 'Row0Min="0" BinSize="1"')
    ),
    "attribute table with one column of words": lambda p: beside(
        p, rat([("OID", 0), ("Value", 0), ("Count", 1), ("LC_X", 0)], [(9, c, 4, n) for c, n in ROWS])
    ),
    "Esri's table with one column of words": lambda p: dbf(
        p.with_name(p.name + ".vat.dbf"), [("VALUE", 9), ("LC_X", 20)], [(str(c), n) for c, n in ROWS]
    ),
    "tags that are codes": lambda p: tagged(p, {str(c): n for c, n in NAMES.items()}),
    "tags of values": lambda p: tagged(p, {f"value_{c}": n for c, n in NAMES.items()}),
    "STAC's extension": lambda p: tagged(p, {"classification:classes": json.dumps([{"value": c, "name": n} for c, n in ROWS])}),
    "Esri's table": lambda p: dbf(
        p.with_name(p.name + ".vat.dbf"), [("VALUE", 9), ("COUNT", 9), ("CLASS_NAME", 20)], [(str(c), "4", n) for c, n in ROWS]
    ),
    "QGIS's style": qgis,
    "a list": lambda p: tagged(p, file={"CLASS_NAMES": ",".join(NAMES.values())}),
    "ENVI's list": lambda p: tagged(p, {"class names": "{sea, rain forest, town}"}),
    "pairs": lambda p: tagged(p, {"legend": "0=sea; 1=rain forest; 2=town"}),
    "JSON by code": lambda p: tagged(p, {"classes": json.dumps({str(c): n for c, n in ROWS})}),
    "JSON by name": lambda p: tagged(p, file={"labels": json.dumps({n: c for c, n in ROWS})}),
    "JSON of STAC": lambda p: tagged(p, file={"classes": json.dumps([{"value": c, "name": n} for c, n in ROWS])}),
    "CF's flags": lambda p: tagged(p, {"flag_values": "0b, 1b, 2b", "flag_meanings": "sea rain_forest town"}),
}


@pytest.mark.parametrize("kind", LEGENDS)
def test_class_names_wherever_they_are_kept(write_raster: WriteRaster, kind: str) -> None:
    path = write_raster(CODES)
    LEGENDS[kind](path)
    _, legend = open_class_raster(str(path), OpenOptions())
    assert dict(legend.names) == NAMES


def test_inspect_shows_the_classes_of_a_raster(write_raster: WriteRaster) -> None:
    path = write_raster(CODES)
    LEGENDS["category names"](path)
    assert json.loads(call_cli(["inspect", path, "--json"]).stdout)["classes"] == ["0 sea", "1 rain forest", "2 town"]


def test_polygons_have_the_names_and_colours_of_an_attribute_table(tmp_path: Path, write_raster: WriteRaster) -> None:
    path = write_raster(CODES)
    colors = {0: (1, 2, 3), 1: (0, 128, 0), 2: (250, 0, 9)}
    beside(path, rat([("Value", 5), ("Name", 2), ("R", 6), ("G", 7), ("B", 8)], [(c, n, *colors[c]) for c, n in ROWS]))
    done = call_cli(["vectorize", path, "--out", tmp_path / "out.geojson", "--classes", "rain forest,town"])
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "out.geojson").read_text())
    assert {f["properties"]["class"] for f in document["features"]} == {"rain forest", "town"}
    assert dict(open_class_raster(str(path), OpenOptions())[1].colors) == {0: "#010203", 1: "#008000", 2: "#fa0009"}


@pytest.mark.parametrize(
    "write",
    [
        lambda p: p.with_suffix(".qml").write_text('<!DOCTYPE q [<!ENTITY a "x">]><qgis>&a;</qgis>'),
        lambda p: p.with_suffix(".qml").write_bytes(b"\xff\x00<qgis"),
        lambda p: p.with_name(p.name + ".vat.dbf").write_bytes(b"\x03" * 40),
        lambda p: p.with_name(p.name + ".vat.dbf").write_bytes(b""),
        lambda p: tagged(p, {"classes": "[" * 5000, "labels": "[1, 2]", "legend": "sea"}),
        lambda p: beside(p, rat([("Value", 5), ("Name", 2)], [("x", "a"), (1.5, "b"), (300, "c"), (-1, "d")])),
        lambda p: tagged(p, {"legend": "green, where there is forest", "labels": "see the report, please"}),
        lambda p: tagged(p, {"flag_values": "0,1", "flag_meanings": "one two three"}),
    ],
)
def test_legends_that_say_nothing_name_nothing(write_raster: WriteRaster, write: Callable[[Path], object]) -> None:
    path = write_raster(CODES)
    write(path)
    assert dict(open_class_raster(str(path), OpenOptions())[1].names) == {}


@pytest.mark.parametrize(
    ("names", "options", "agree"),
    [
        ({0: "Forest", 1: "other"}, [], 1.0),  # the codes of the map are 0 other, 1 forest
        ({0: "autre", 1: "foret"}, [], None),  # whether 1 is forest is not guessed
        ({0: "autre", 1: "foret"}, ["--map", "0=other", "--map", "1=forest"], 0.0),
        ({0: "forest", 1: "bare"}, [], None),
        ({0: "forest", 1: "bare"}, ["--map", "1=other"], 1.0),
    ],
)
def test_a_truth_is_read_by_the_names_of_its_classes(
    tmp_path: Path, write_raster: WriteRaster, names: Mapping[int, str], options: Sequence[str], agree: float | None
) -> None:
    codes = RNG.integers(0, 2, (SIDE, SIDE)).astype(np.uint8)
    found, truth = write_raster(codes, "map.tif"), write_raster(1 - codes, "truth.tif")
    tagged(found, {"class_0": "other", "class_1": "forest"})
    beside(truth, "<CategoryNames>" + "".join(f"<Category>{names[c]}</Category>" for c in (0, 1)) + "</CategoryNames>")
    done = call_cli(["evaluate", "-p", found, "-t", truth, "-o", tmp_path / "out", "--boundary", "none", *options])
    if agree is None:
        assert done.returncode == 2
        assert re.search(r"value [01] at row \d+, column \d+ of the image is no class; say what it means: --map", done.stderr)
        return
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert report["figures"]["accuracy"] == agree
