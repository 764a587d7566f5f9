"""Vector files as ordinary people have them: read, or refused in one sentence; what is written beside them is right."""

from __future__ import annotations

import json
import math
import sqlite3
import struct
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import pytest
import shapely
from vector_files import BOX, UTM, feature, frame, geo, square_map

from geoseg.errors import ConfigError, GeosegError
from geoseg.vectors.polygon_file import PolygonFile
from pipeline.evaluate.match import match_files
from tests.support import call_cli

CENTER, RADIUS = (500_200.0, 5_399_800.0), 100.0
CIRCLE = math.pi * RADIUS**2


def read_frame(path: Path | str) -> geopandas.GeoDataFrame:
    """All of a file."""
    file = PolygonFile.open(Path(path))
    parts = list(file.batches(file.fields))
    columns = {name: [value for _, values in parts for value in values[name]] for name in file.fields}
    shapes = np.concatenate([np.empty(0, object), *(shapes for shapes, _ in parts)])
    return geopandas.GeoDataFrame({k: pd.Series(v, dtype=object) for k, v in columns.items()}, geometry=shapes, crs=file.crs)


# Curves, as well-known binary by hand.


def points(*xy: tuple[float, float]) -> bytes:
    return struct.pack("<I", len(xy)) + b"".join(struct.pack("<dd", *p) for p in xy)


def head(code: int) -> bytes:
    return struct.pack("<BI", 1, code)


def many(code: int, *parts: bytes) -> bytes:
    return head(code) + struct.pack("<I", len(parts)) + b"".join(parts)


def quarter(*degrees: float, radius: float = RADIUS) -> list[tuple[float, float]]:
    return [(CENTER[0] + radius * math.cos(math.radians(d)), CENTER[1] + radius * math.sin(math.radians(d))) for d in degrees]


FULL = head(8) + points(*quarter(0, 90, 180, 270, 0))
TWO_POINT_CIRCLE = head(8) + points(*quarter(0, 180, 0))
CLOCKWISE = head(8) + points(*quarter(0, 270, 180, 90, 0))
HALF = many(9, head(8) + points(*quarter(0, 90, 180)), head(2) + points(*quarter(180, 0)))
HOLE = head(2) + points(
    *[(CENTER[0] + dx, CENTER[1] + dy) for dx, dy in ((-10, -10), (10, -10), (10, 10), (-10, 10), (-10, -10))]
)
WITH_Z = (
    struct.pack("<BII", 1, 1010, 1)
    + struct.pack("<BII", 1, 1008, 5)
    + b"".join(struct.pack("<ddd", *p, 7.0) for p in quarter(0, 90, 180, 270, 0))
)
TRIANGLES = many(
    16, *[many(17, points(*three)) for three in (((0, 0), (10, 0), (10, 10), (0, 0)), ((0, 0), (10, 10), (0, 10), (0, 0)))]
)
ROOFS = many(
    15,
    *[
        many(3, points(*[(x, y), (x + 10, y), (x + 10, y + w), (x, y + w), (x, y)]))
        for x, y, w in ((0, 0, 5), (0, 5, 5), (0, 0, 10), (0, 0, 0))
    ],
)
CURVES = {
    "CURVEPOLYGON of arcs": (many(10, FULL), CIRCLE),
    "CURVEPOLYGON, a circle of two points": (many(10, TWO_POINT_CIRCLE), CIRCLE),
    "CURVEPOLYGON, clockwise": (many(10, CLOCKWISE), CIRCLE),
    "CURVEPOLYGON of a COMPOUNDCURVE": (many(10, HALF), CIRCLE / 2),
    "CURVEPOLYGON with a hole of lines": (many(10, FULL, HOLE), CIRCLE - 400),
    "CURVEPOLYGON Z": (WITH_Z, CIRCLE),
    "MULTISURFACE": (many(12, many(10, FULL)), CIRCLE),
    "GEOMETRYCOLLECTION of a curve": (many(7, many(10, FULL)), CIRCLE),
    "TIN": (TRIANGLES, 100.0),
    "POLYHEDRALSURFACE": (ROOFS, 100.0),
}


def with_geometry(path: Path, wkb: bytes) -> Path:
    """A GeoPackage with one feature, whose geometry is the one given."""
    frame().to_file(path, layer="z", driver="GPKG", SPATIAL_INDEX="NO", geometry_type="Unknown")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("update z set geom = ?", (b"GP\0\1" + struct.pack("<i", 32633) + wkb,))
    return path


@pytest.mark.parametrize("kind", CURVES)
def test_arcs_become_chords_that_keep_the_area(kind: str, tmp_path: Path) -> None:
    wkb, area = CURVES[kind]
    path = with_geometry(tmp_path / "curves.gpkg", wkb)
    ((shapes, _),) = PolygonFile.open(path).batches(())
    assert shapely.area(shapes)[0] == pytest.approx(area, rel=2.6e-5)
    assert read_frame(path).area[0] == shapely.area(shapes)[0]
    if "GEOMETRYCOLLECTION" not in kind and kind not in ("TIN", "POLYHEDRALSURFACE"):
        assert match_files(str(path), str(path)).document["figures"]["f1"] == 1


def test_neighbours_share_the_chords_of_their_arc(tmp_path: Path) -> None:
    x, y = CENTER
    around = head(2) + points((x + 100, y), (x + 100, y + 300), (x - 100, y + 300), (x - 100, y))
    outer = many(9, head(8) + points(*quarter(180, 90, 0)), around)
    shapes = []
    for name, wkb in (("a", many(10, HALF)), ("b", many(10, outer))):
        ((found, _),) = PolygonFile.open(with_geometry(tmp_path / f"{name}.gpkg", wkb)).batches(())
        shapes.append(found[0])
    assert shapely.intersection(*shapes).area == 0


@pytest.mark.parametrize("wkb", [many(10, FULL)[:-9], struct.pack("<BII", 1, 10, 2**31), many(7, many(10, FULL))[:40]])
def test_damaged_curves_are_told(wkb: bytes, tmp_path: Path) -> None:
    path = with_geometry(tmp_path / "curves.gpkg", wkb)
    with pytest.raises(ConfigError, match=r"curves.gpkg: what follows feature 0 can't be read"):
        list(PolygonFile.open(path).batches(()))


def nested(levels: int, xy: list[Any], *, z: bool = False) -> pa.Array:
    fields = [("x", pa.float64()), ("y", pa.float64()), *([("z", pa.float64())] if z else [])]
    kind: Any = pa.struct(fields)
    for _ in range(levels):
        kind = pa.list_(kind)
    return pa.array(xy, kind)


RING = [{"x": x, "y": y, "z": 3.0} for x, y in BOX.exterior.coords]
TABLES: dict[str, tuple[pa.Array, dict[bytes, bytes], str]] = {
    "WKB": (pa.array([BOX.wkb]), geo("WKB"), UTM),
    "large binary": (pa.array([BOX.wkb], pa.large_binary()), geo("WKB"), UTM),
    "polygon": (nested(2, [[RING]]), geo("polygon"), UTM),
    "polygon Z": (nested(2, [[RING]], z=True), geo("polygon"), UTM),
    "multipolygon": (nested(3, [[[RING]]]), geo("multipolygon"), UTM),
    "geoarrow.polygon": (nested(2, [[RING]]), geo("geoarrow.polygon"), UTM),
    "column not named geometry": (pa.array([BOX.wkb]), geo("WKB", "shape of it"), UTM),
    "crs absent": (pa.array([shapely.box(10, 50, 11, 51).wkb]), geo("WKB", crs="absent"), "OGC:CRS84"),
    "of 0.4, crs as WKT": (pa.array([BOX.wkb]), geo("WKB", crs=pyproj.CRS(UTM).to_wkt()), UTM),
}


def write_table(path: Path, kind: str) -> Path:
    array, meta, _ = TABLES[kind]
    name = json.loads(meta[b"geo"])["primary_column"]
    pq.write_table(pa.table({"class": pa.array(["forest"]), name: array}).replace_schema_metadata(meta), path)
    return path


@pytest.mark.parametrize("kind", TABLES)
def test_every_encoding_of_geoparquet_is_read(kind: str, tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.parquet", kind)
    file = PolygonFile.open(path)
    ((shapes, values),) = file.batches(file.fields)
    want = shapely.box(10, 50, 11, 51) if kind == "crs absent" else BOX
    assert file.crs == TABLES[kind][2]
    assert file.fields == ("class",)
    assert values == {"class": ["forest"]}
    assert shapes[0].equals(want)
    found = read_frame(path)
    assert found.geometry[0].equals(want)
    assert found.crs == TABLES[kind][2]


def test_native_encodings_keep_missing_ones_and_pieces_in_their_place(tmp_path: Path) -> None:
    array = nested(2, [None, [RING], [], [RING, RING[:1] * 4]])
    pq.write_table(
        pa.table({"geometry": array}).replace_schema_metadata(geo("polygon")), tmp_path / "t.parquet", row_group_size=2
    )
    shapes = np.concatenate([found for found, _ in PolygonFile.open(tmp_path / "t.parquet").batches(())])
    assert [shape is None for shape in shapes] == [True, False, False, False]
    assert shapely.area(shapes[[1, 3]]).tolist() == [BOX.area] * 2
    assert shapes[2].is_empty


def test_lines_and_points_in_native_encodings_are_what_they_are(tmp_path: Path) -> None:
    for name, levels, value in (
        ("point", 0, RING[0]),
        ("linestring", 1, RING),
        ("multilinestring", 2, [RING]),
        ("multipoint", 1, RING),
    ):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table({"geometry": nested(levels, [value])}).replace_schema_metadata(geo(name)), path)
        assert read_frame(path).geom_type[0].lower() == name


def test_a_crs_that_nobody_knows_is_the_one_assumed(tmp_path: Path) -> None:
    table = pa.table({"geometry": pa.array([BOX.wkb])}).replace_schema_metadata(geo("WKB", crs=None))
    pq.write_table(table, tmp_path / "t.parquet")
    assert PolygonFile.open(tmp_path / "t.parquet").crs is None
    assert PolygonFile.open(tmp_path / "t.parquet", assume_crs=UTM).crs == UTM


def test_boxes_of_features_are_no_columns(tmp_path: Path) -> None:
    frame().to_parquet(tmp_path / "t.parquet", write_covering_bbox=True, schema_version="1.1.0")
    assert PolygonFile.open(tmp_path / "t.parquet").fields == ("class",)
    frame().to_parquet(tmp_path / "a.parquet", geometry_encoding="geoarrow", schema_version="1.1.0")
    assert read_frame(tmp_path / "a.parquet").area[0] == BOX.area


# Folders, archives, texts.


def geodatabase(folder: Path) -> Path:
    frame().to_file(folder / "t.gdb", driver="OpenFileGDB", layer="labels")
    return folder / "t.gdb"


def test_a_file_geodatabase_is_read_wherever_a_file_is(tmp_path: Path) -> None:
    path = geodatabase(tmp_path)
    frame().to_file(tmp_path / "t.gpkg")
    assert match_files(str(tmp_path / "t.gpkg"), f"{path}/").document["figures"]["f1"] == 1
    square_map(tmp_path / "map.tif")
    common = [
        "--pred",
        tmp_path / "map.tif",
        "--column",
        "class",
        "--names",
        "0=other,1=forest",
        "--outside",
        "other",
        "--boundary",
        "none",
    ]
    for number, truth in enumerate((path, f"{path}/")):
        done = call_cli(["evaluate", *common, "--truth", truth, "--out", tmp_path / f"ev{number}"])
        assert done.returncode == 0, done.stderr
        assert "1.0000" in next(line for line in done.stdout.splitlines() if "mean IoU" in line)


def refused(folder: Path) -> dict[str, tuple[Path, str]]:
    """Data sets that are no one file, and what is said of them."""
    (folder / "one").mkdir()
    frame().to_file(folder / "one" / "a.shp")
    (folder / "parts.parquet").mkdir()
    for number in (0, 1):
        frame().to_parquet(folder / "parts.parquet" / f"part-{number}.parquet")
    (folder / "empty").mkdir()
    (folder / "bare.gdb").mkdir()
    geodatabase(folder).rename(folder / "renamed")
    with zipfile.ZipFile(folder / "z.zip", "w") as archive:
        for part in (folder / "one").iterdir():
            archive.write(part, f"inner/{part.name}")
    with zipfile.ZipFile(folder / "t.gdb.zip", "w") as archive:
        for part in (folder / "renamed").iterdir():
            archive.write(part, f"t.gdb/{part.name}")
    (folder / "a.dbf").write_bytes((folder / "one" / "a.dbf").read_bytes())
    collection = {"type": "FeatureCollection", "features": [feature(shapely.box(0, 0, 1, 1), {"n\u00e4me": "x"})]}
    (folder / "latin.geojson").write_text(json.dumps(collection, ensure_ascii=False), encoding="iso-8859-1")
    (folder / "wide.geojson").write_text('{"type":"FeatureCollection","features":[]}', encoding="utf-16")
    pq.write_table(pa.table({"a": [1]}), folder / "plain.parquet")
    pq.write_table(pa.table({"geometry": pa.array([BOX.wkb])}).replace_schema_metadata(geo("WKX")), folder / "odd.parquet")
    pq.write_table(pa.table({"geometry": pa.array([BOX.wkb])}).replace_schema_metadata({b"geo": b"{}"}), folder / "bad.parquet")
    frame().set_crs("EPSG:4978", allow_override=True).to_parquet(folder / "ecef.parquet")
    frame().set_crs("EPSG:5773", allow_override=True).to_parquet(folder / "heights.parquet")
    return {
        "one": (folder / "one", "a folder, and one vector file is wanted; give the file in it:"),
        "parts": (folder / "parts.parquet", "a folder of 2 Parquet files (part-0.parquet, part-1.parquet); write them as one"),
        "empty": (folder / "empty", "no vector file lies in it"),
        "bare": (folder / "bare.gdb", "a folder without the tables of a file geodatabase"),
        "renamed": (folder / "renamed", "whose name does not end in .gdb"),
        "zip": (folder / "z.zip", "a ZIP archive with inner/a.shp; unpack it and give that file"),
        "gdb.zip": (folder / "t.gdb.zip", "a ZIP archive with t.gdb; unpack it"),
        "utf-16": (folder / "wide.geojson", "a text in UTF-16; save it as UTF-8"),
        "part": (folder / "a.dbf", "a part of a Shapefile; give the one that ends in .shp"),
        "latin": (folder / "latin.geojson", "names of columns are not UTF-8"),
        "plain": (folder / "plain.parquet", "no key geo in its metadata"),
        "encoding": (folder / "odd.parquet", "encoded as WKX; known are WKB, point"),
        "geo": (folder / "bad.parquet", "says nothing of its geometries"),
        "ecef": (folder / "ecef.parquet", "counts metres X, Y, Z from the middle of the Earth, so that it is no map"),
        "heights": (folder / "heights.parquet", "is one of heights alone"),
        "missing": (folder / "nowhere.gdb", "no such file"),
    }


def test_what_is_no_vector_file_is_told_in_one_sentence(tmp_path: Path) -> None:
    frame().to_file(tmp_path / "t.gpkg")
    for path, sentence in refused(tmp_path).values():
        done = call_cli(["match", tmp_path / "t.gpkg", path])
        assert done.returncode == 2
        assert sentence in done.stderr, (path, done.stderr)
        assert done.stderr.count("\n") == 1
        with pytest.raises(GeosegError):
            read_frame(path)


@pytest.mark.parametrize(
    ("encoding", "page", "column", "text"),
    [
        ("ISO-8859-1", None, "name", "S\u00e3o F\u00e9lix"),
        ("ISO-8859-1", "UTF-8", "name", "S\u00e3o F\u00e9lix"),
        ("ISO-8859-1", None, "Gr\u00f6\u00dfe", "S\u00e3o"),
        ("ISO-8859-1", "UTF-8", "Gr\u00f6\u00dfe", "S\u00e3o"),
        ("CP1252", None, "name", "10 \u20ac"),
        ("CP1251", "1251", "name", "\u041f\u0440\u0438\u0432\u0435\u0442"),
        ("UTF-8", None, "Gr\u00f6\u00dfe", "S\u00e3o \u6771\u4eac"),
        ("UTF-8", "UTF-8", "name", "\u6771\u4eac"),
        ("ISO-8859-1", "ISO-8859-1", "name", "S\u00e3o"),
        ("ISO-8859-1", "8859-1", "name", "S\u00e3o"),
    ],
)
def test_texts_of_shapefiles_arrive(encoding: str, page: str | None, column: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "zones.shp"
    frame(**{column: [text]}).to_file(path, encoding=encoding)
    path.with_suffix(".cpg").unlink(missing_ok=True)
    if page is not None:
        path.with_suffix(".cpg").write_text(page)
    file = PolygonFile.open(path)
    ((_, values),) = file.batches(file.fields)
    assert values == {column: [text]}
    assert read_frame(path)[column].tolist() == [text]


def test_a_text_that_its_field_has_cut_loses_the_cut_character_alone(tmp_path: Path) -> None:
    frame(name=["abcd\u00e9"]).to_file(tmp_path / "z.shp", encoding="UTF-8")
    table = (tmp_path / "z.dbf").read_bytes()
    (tmp_path / "z.dbf").write_bytes(table.replace("abcd\u00e9".encode(), b"abcde\xc3"))
    ((_, values),) = PolygonFile.open(tmp_path / "z.shp").batches(("name",))
    assert values["name"] == ["abcde"]
