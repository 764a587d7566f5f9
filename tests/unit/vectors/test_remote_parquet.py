"""Parts of GeoParquet files by a box: what is asked for, against all of the file read by pyarrow and shapely."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import pytest
import shapely
from faulty_server import serving

from geoseg.errors import ReadError
from geoseg.vectors.geoparquet import shapes_of
from geoseg.vectors.remote_parquet import features_in

GROUP = 500


def write(path: Path, *, covering: bool = True, boxes: bool = True, count: int = 20_000) -> list[shapely.Geometry]:
    """Squares over some degrees, sorted from west to east, with a column that is long and that nobody wants."""
    rng = np.random.default_rng(0)
    x, y = np.sort(rng.uniform(10, 14, count)), rng.uniform(45, 46, count)
    shapes = shapely.box(x, y, x + 1e-3, y + 1e-3)
    bounds = shapely.bounds(shapes).astype(np.float32).astype(np.float64)
    columns = {
        "id": pa.array([f"b{k}" for k in range(count)]),
        "noise": pa.array([rng.bytes(200) for _ in range(count)], pa.binary()),
        "geometry": pa.array(shapely.to_wkb(shapes).tolist(), pa.binary()),
    }
    if boxes:
        # Single precision: rounded outwards, as writers do.
        sides = dict(zip(("xmin", "ymin", "xmax", "ymax"), (bounds + 1e-6 * np.array([-1, -1, 1, 1])).T, strict=True))
        columns["bbox"] = pa.StructArray.from_arrays([pa.array(v) for v in sides.values()], list(sides))
    about: dict[str, object] = {"encoding": "WKB", "geometry_types": ["Polygon"]}
    if covering:
        about["covering"] = {"bbox": {side: ["bbox", side] for side in ("xmin", "ymin", "xmax", "ymax")}}
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": about}}
    table = pa.table(columns).replace_schema_metadata({"geo": json.dumps(geo), "license": "ODbL-1.0"})
    pq.write_table(table, path, row_group_size=GROUP)
    return list(shapes)


@pytest.mark.parametrize("covering", [True, False])
def test_only_row_groups_in_the_box_are_asked_for(tmp_path: Path, *, covering: bool) -> None:
    shapes = write(tmp_path / "a.parquet", covering=covering)
    box = (12.0, 45.2, 12.05, 45.9)
    expected = {f"b{k}" for k in np.flatnonzero(shapely.intersects(shapes, shapely.box(*box)))}
    with serving(tmp_path, "ok") as server:
        found = features_in(f"{server.url}/a.parquet", box, pyproj.CRS(4326), ("id", "absent"))
        # The head, the footer, and what lies between the columns that nobody wants.
        assert server.requests == 2 + found.row_groups[0] + 1
        assert server.sent < 0.1 * (tmp_path / "a.parquet").stat().st_size
    assert set(found.table.column("id").to_pylist()) == expected
    assert found.table.column_names == ["geometry", "id"]
    assert found.row_groups[0] <= 3
    assert found.row_groups[1] == 40
    assert found.licence == "ODbL-1.0"
    local = features_in(str(tmp_path / "a.parquet"), box, pyproj.CRS(4326), ("id",))
    assert local.table.equals(found.table)


def test_a_box_in_metres_and_one_that_nothing_lies_in(tmp_path: Path) -> None:
    shapes = write(tmp_path / "a.parquet")
    utm = pyproj.CRS(32633)
    move = pyproj.Transformer.from_crs(4326, utm, always_xy=True)
    x, y = move.transform(12.5, 45.5)
    found = features_in(str(tmp_path / "a.parquet"), (x, y, x + 3000, y + 3000), utm, ("id",))
    back = move.transform_bounds(x, y, x + 3000, y + 3000, densify_pts=21, direction="INVERSE")
    assert len(found.table) == shapely.intersects(shapes, shapely.box(*back)).sum() > 0
    nothing = features_in(str(tmp_path / "a.parquet"), (0.0, 0.0, 1.0, 1.0), pyproj.CRS(4326), ("id",))
    assert (len(nothing.table), nothing.row_groups[0]) == (0, 0)
    # Over the 180th meridian, which nothing here is near.
    assert len(features_in(str(tmp_path / "a.parquet"), (179.0, 45.0, -179.0, 46.0), None, ()).table) == 0


def test_files_without_boxes_are_read_whole(tmp_path: Path) -> None:
    shapes = write(tmp_path / "a.parquet", covering=False, boxes=False, count=2000)
    box = (11.0, 45.0, 12.0, 46.0)
    found = features_in(str(tmp_path / "a.parquet"), box, pyproj.CRS(4326), ())
    assert found.row_groups == (4, 4)
    there = shapely.union_all(shapes_of(found.table.column("geometry").combine_chunks()))
    assert there.equals(shapely.union_all([s for s in shapes if s.intersects(shapely.box(*box))]))


@pytest.mark.parametrize(
    ("mode", "message"), [("auth", "access is denied"), ("norange", "no byte ranges"), ("changing", "has changed")]
)
def test_servers_that_fail_are_named(tmp_path: Path, mode: str, message: str) -> None:
    write(tmp_path / "a.parquet", count=2000)
    with serving(tmp_path, mode) as server, pytest.raises(ReadError, match=message):
        features_in(f"{server.url}/a.parquet", (11.0, 45.0, 12.0, 46.0), pyproj.CRS(4326), ())


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"<html>no such file</html>" * 20)
    with serving(tmp_path, "ok") as server, pytest.raises(ReadError, match="is no Parquet file"):
        features_in(f"{server.url}/a.parquet", (0.0, 0.0, 1.0, 1.0), None, ())
