"""Items as a table: what geopandas and pyarrow read is what the items say."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import geopandas
import pyarrow.parquet as pq
import pytest
import shapely

from geoseg.formats.stac import Asset, collection_document, item_document
from geoseg.formats.stac_parquet import ROWS, is_item_table, write_items
from geoseg.formats.stac_table import IndexedScene, write_scene_table
from geoseg.georeference import Georeference

UTM = Georeference((10.0, 0.0, 500_000.0, 0.0, -10.0, 9_000_000.0), "EPSG:32720")
EDGE = Georeference((0.01, 0.0, 179.9, 0.0, -0.01, 10.0), "EPSG:4326")
PIXELS = Georeference((1.0, 0.0, 0.0, 0.0, 1.0, 0.0), None)


def items_of(**places: tuple[Georeference, str | None, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    files = [
        Asset("classes", "./classes.tif", "image/tiff", "Classes"),
        Asset("elsewhere", "https://host/a.tif", "image/tiff", "x"),
    ]
    return {
        f"./deep/{name}/item.json": item_document(name, place, (40, 30), when, None, files, facts, "./model.json")
        for name, (place, when, facts) in places.items()
    }


@pytest.fixture
def items() -> dict[str, dict[str, Any]]:
    return items_of(
        b=(UTM, "2023-07-14T14:00:51Z", {"gsd": 10, "geoseg:area": "north", "processing:software": {"geoseg": "1"}}),
        a=(EDGE, "2020", {"gsd": 2.5, "processing:software": {"geoseg": "1", "other": "2"}, "mixed": "x", "hollow": {}}),
        c=(PIXELS, None, {"mixed": 3}),
    )


def test_rows_are_the_items(items: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    path, collection = tmp_path / "items.parquet", collection_document(items)
    write_items(path, items, collection, "geoseg 1")
    frame = geopandas.read_parquet(path).set_index("id")
    # geopandas leaves the covering out.
    boxes = dict(zip(*(pq.read_table(path)[name].to_pylist() for name in ("id", "bbox")), strict=True))
    assert list(frame.index) == ["a", "b", "c"]
    assert frame.crs.to_epsg() == 4326 or frame.crs.to_string() == "OGC:CRS84"
    for href, item in items.items():
        row, name = frame.loc[item["id"]], item["id"]
        assert row["collection"] == "geoseg"
        assert list(row["stac_extensions"]) == item["stac_extensions"]
        if item["geometry"] is None:
            assert row["geometry"] is None
            assert boxes[name] is None
        else:
            assert shapely.equals(row["geometry"], shapely.geometry.shape(item["geometry"]))
            west, south, east, north = item["bbox"]
            plane = (west, south, east, north) if west <= east else (-180, south, 180, north)
            assert tuple(boxes[name][key] for key in ("xmin", "ymin", "xmax", "ymax")) == plane
        assert row["assets"]["classes"]["href"] == f"./deep/{name}/classes.tif"
        assert row["assets"]["elsewhere"]["href"] == "https://host/a.tif"
        assert row["assets"]["classes"]["title"] == "Classes"
        assert list(row["assets"]["classes"]["roles"]) == ["data"]
        assert {link["rel"]: link["href"] for link in row["links"]} == {
            "canonical": href,
            "mlm:model": f"./deep/{name}/model.json",
        }
        assert list(row["proj:shape"]) == [40, 30]
    assert frame.loc["b", "datetime"].to_pydatetime() == datetime(2023, 7, 14, 14, 0, 51, tzinfo=UTC)
    assert frame.loc["a", "datetime"] is None or frame.isna().loc["a", "datetime"]
    assert frame.loc["a", "start_datetime"].to_pydatetime() == datetime(2020, 1, 1, tzinfo=UTC)
    assert list(frame["gsd"].dropna()) == [2.5, 10.0]
    # Values of several kinds, and structures without fields, are JSON.
    assert [json.loads(text) for text in frame["mixed"].dropna()] == ["x", 3]
    assert json.loads(frame.loc["a", "hollow"]) == {}


def test_its_metadata_is_that_of_both_specifications(items: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    path, collection = tmp_path / "items.parquet", collection_document(items)
    write_items(path, items, collection, "geoseg 1")
    found = pq.read_metadata(path).metadata
    geo = json.loads(found[b"geo"])
    assert geo["version"] == "1.1.0"
    column = geo["columns"][geo["primary_column"]]
    # The one at the antimeridian is in two parts.
    assert (column["encoding"], column["geometry_types"]) == ("WKB", ["MultiPolygon", "Polygon"])
    assert column["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    assert json.loads(found[b"stac-geoparquet"])["collections"]["geoseg"] == collection
    # What lies on one place is found by the covering.
    for name in ("a", "b"):
        west, south = items[f"./deep/{name}/item.json"]["bbox"][:2]
        near = geopandas.read_parquet(path, bbox=(west, south, west + 0.001, south + 0.001))
        assert list(near["id"]) == [name]


def test_the_same_items_make_the_same_bytes_and_none_make_an_empty_table(items: dict[str, Any], tmp_path: Path) -> None:
    first, second, empty = (tmp_path / name for name in ("1", "2", "0"))
    write_items(first, items, collection_document(items), "geoseg 1")
    write_items(second, dict(reversed(items.items())), collection_document(items), "geoseg 1")
    assert first.read_bytes() == second.read_bytes()
    write_items(empty, {}, collection_document({}), "geoseg 1")
    assert len(geopandas.read_parquet(empty)) == 0
    assert is_item_table(first)
    geopandas.read_parquet(first)[["id", "geometry"]].to_parquet(second)
    assert not is_item_table(second)
    (tmp_path / "text").write_text("PAR1")
    assert not is_item_table(tmp_path / "text")


def test_items_and_indexed_scenes_are_tables_of_one_form(items: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    own, index = tmp_path / "items.parquet", tmp_path / "scenes.parquet"
    write_items(own, items, collection_document(items), "geoseg 1")
    clouds = [None if k else 12.5 for k in range(ROWS + 1)]
    write_scene_table(index, [IndexedScene(f"s{k}", UTM, (40, 30), ("a.tif",), "0", cloud_cover=c) for k, c in enumerate(clouds)])
    ours, theirs = pq.read_schema(own), pq.read_schema(index)
    for name in ("id", "stac_version", "stac_extensions", "geometry", "bbox", "datetime", "proj:code", "proj:shape"):
        assert ours.field(name).type == theirs.field(name).type, name
    about = [json.loads(pq.read_metadata(path).metadata[b"geo"]) for path in (own, index)]
    assert about[0]["columns"]["geometry"]["covering"] == about[1]["columns"]["geometry"]["covering"]
    shape = shapely.geometry.shape(items["./deep/b/item.json"]["geometry"])
    assert about[1]["columns"]["geometry"]["bbox"] == pytest.approx(shape.bounds)
    # Groups are what readers pass over.
    assert [pq.read_metadata(index).row_group(k).num_rows for k in range(2)] == [ROWS, 1]
    told = geopandas.read_parquet(index).set_index("id")["stac_extensions"]
    assert {url.split("/")[3] for url in told["s0"]} == {"projection", "eo"}
    assert {url.split("/")[3] for url in told["s1"]} == {"projection"}
