"""Tables of STAC items: those in a box, of some dates, are the items that a look at each of them finds."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from geoseg.crs import crs_of
from geoseg.errors import ConfigError
from geoseg.formats.stac import footprint
from geoseg.formats.stac_table import IndexedScene, write_scene_table
from geoseg.georeference import Georeference
from geoseg.scenes.sources import list_scenes
from geoseg.scenes.stac.item_table import items_of_table
from geoseg.scenes.stac.search import Box, StacSearch


def scene(number: int, rng: np.random.Generator) -> IndexedScene:
    zone = int(rng.choice([1, 20, 31, 60]))
    place = 10.0, 0.0, float(rng.integers(160_000, 840_000)), 0.0, -10.0, float(rng.integers(6_000_000, 9_990_000))
    return IndexedScene(
        f"s{number:05d}",
        Georeference(place, crs_of(f"EPSG:{32700 + zone}").to_wkt()),
        (1000, 2000),
        (f"https://images.example/{number}.tif",),
        f"{number:064x}",
        acquired=None if number % 5 == 0 else f"2024-{1 + number % 12:02d}-10T12:00:00Z",
        cloud_cover=None if number % 7 == 0 else float(number % 100),
    )


@pytest.fixture(scope="module")
def scenes() -> list[IndexedScene]:
    rng = np.random.default_rng(5)
    return [scene(number, rng) for number in range(1500)]


@pytest.fixture(scope="module")
def table(scenes: list[IndexedScene], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "scenes.parquet"
    write_scene_table(path, scenes)
    return path


@pytest.fixture(scope="module")
def outlined(scenes: list[IndexedScene]) -> tuple[np.ndarray, np.ndarray]:
    """Names and outlines."""
    outlines = [footprint(one.georeference, one.shape) for one in scenes]
    return np.array([one.name for one in scenes], object), np.array(outlines, object)


def names(path: Path, **search: object) -> set[str]:
    return {item["id"] for item in items_of_table(str(path), StacSearch(**search))}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "box", [(-63.0, -12.0, -61.5, -9.0), (2.0, -40.0, 5.0, -1.0), (179.0, -30.0, -179.5, -2.0), (-180, -90, 180, 90)]
)
def test_items_in_a_box_are_those_whose_outlines_touch_it(table: Path, outlined: tuple[np.ndarray, np.ndarray], box: Box) -> None:
    named, outlines = outlined
    left, bottom, right, top = box
    sides = [(left, right)] if left < right else [(left, 180.0), (-180.0, right)]
    asked = shapely.union_all([shapely.box(a, bottom, b, top) for a, b in sides])
    # An outline leans in its box by as much as meridians do.
    touching = set(named[shapely.intersects(outlines, asked)].tolist())
    near = set(named[shapely.dwithin(outlines, asked, 0.05)].tolist())
    found = names(table, bbox=box)
    assert touching <= found <= near
    assert found == names(table, near=lambda: [box])
    assert found


def test_dates_and_clouds_are_those_of_a_search(table: Path, scenes: list[IndexedScene]) -> None:
    # As a STAC API, a search passes over what says nothing of clouds; an item without a date may be of any.
    of_march = {one.name for one in scenes if one.acquired is None or one.acquired.startswith("2024-03")}
    assert names(table, datetime="2024-03") == of_march
    assert names(table, datetime="2024-03-11/2024-03-31") == {one.name for one in scenes if one.acquired is None}
    later = {one.name for one in scenes if one.acquired is None or one.acquired >= "2024-06"}
    assert names(table, datetime="2024-06-01/..") == later
    clear = {one.name for one in scenes if one.cloud_cover is not None and one.cloud_cover <= 20}
    assert names(table, max_cloud_cover=20.0) == clear


def test_scenes_have_the_places_that_the_table_tells(table: Path, scenes: list[IndexedScene]) -> None:
    refs, refused = list_scenes([str(table)])
    assert not refused
    assert [ref.name for ref in refs] == sorted(one.name for one in scenes)
    told = {one.name: one for one in scenes}
    for ref in refs[:50]:
        (file,), one = ref.told.files if ref.told else (), told[ref.name]
        assert (file.shape, file.transform) == (one.shape, one.georeference.transform)
        assert file.crs is not None
        assert crs_of(file.crs) == crs_of(str(one.georeference.crs))
        assert ref.paths == one.hrefs
        assert ref.told is not None
        assert (ref.told.acquired, ref.told.cloud_cover) == (one.acquired, one.cloud_cover)


def test_other_programs_open_it_and_order_does_not_matter(table: Path, scenes: list[IndexedScene], tmp_path: Path) -> None:
    frame = geopandas.read_parquet(table)
    assert frame.crs == "OGC:CRS84"
    assert frame.is_valid.all()
    boxed = geopandas.read_parquet(table, bbox=(-63, -12, -61.5, -9))
    assert 0 < len(boxed) < len(frame)
    assert json.loads(pq.read_metadata(table).metadata[b"geo"])["version"] == "1.1.0"
    write_scene_table(tmp_path / "other.parquet", scenes[::-1])
    assert (tmp_path / "other.parquet").read_bytes() == table.read_bytes()


def test_row_groups_elsewhere_are_not_read(table: Path, tmp_path: Path) -> None:
    """Those that lie elsewhere may hold anything."""
    whole, cut = tmp_path / "whole.parquet", tmp_path / "cut.parquet"
    found = pq.read_table(table)
    boxes = found.column("bbox").combine_chunks()
    # Without those over the 180th meridian, which may lie anywhere as far as a row group tells.
    west = (np.asarray(boxes.field("xmin")) < 0) & (np.asarray(boxes.field("xmax")) < 0)
    parts = pa.concat_tables([found.filter(pa.array(west)), found.filter(pa.array(~west))])
    pq.write_table(parts, whole, row_group_size=int(west.sum()))
    data, group = bytearray(whole.read_bytes()), pq.read_metadata(whole).row_group(0)
    columns = [group.column(k) for k in range(group.num_columns)]
    ids = next(column for column in columns if column.path_in_schema == "id")
    start = ids.dictionary_page_offset or ids.data_page_offset
    data[start : start + ids.total_compressed_size] = bytes(ids.total_compressed_size)
    cut.write_bytes(data)
    box = 2.0, -40.0, 5.0, -1.0
    assert names(cut, bbox=box) == names(table, bbox=box)
    with pytest.raises(ConfigError, match="can't be read as a table of STAC items"):
        names(cut)


def test_nested_values_are_those_of_json(tmp_path: Path) -> None:
    """What is null in a table does not stand in an item, lists and tables in tables are as they were."""
    assets = [
        {"a": {"href": "x.tif", "bands": [{"name": "red"}, {"name": "nir"}]}, "b": None},
        {"a": None, "b": {"href": "y.tif", "bands": None}},
        {"a": {"href": "z.tif", "bands": []}, "b": {"href": "w.tif", "bands": [{"name": "blue"}]}},
    ]
    columns = {
        "id": ["1", "2", "3"],
        "assets": assets,
        "updated": ["2024-01-01T00:00:00Z", None, "x"],
        "s2:tile": ["a", "b", "c"],
    }
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table(columns), path)

    def without_nulls(value: object) -> object:
        if isinstance(value, dict):
            return {key: without_nulls(one) for key, one in value.items() if one is not None}
        return [without_nulls(one) for one in value] if isinstance(value, list) else value

    items = list(items_of_table(str(path), StacSearch(bbox=(0, 0, 1, 1))))
    assert [item["assets"] for item in items] == [without_nulls(one) for one in assets]
    assert [item["properties"] for item in items] == [{"updated": "2024-01-01T00:00:00Z"}, {}, {"updated": "x"}]


def test_what_is_no_table_of_items_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"class": ["forest"]}), path)
    with pytest.raises(ConfigError, match="no column 'id'"):
        names(path)
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(ConfigError, match="can't be read"):
        names(path)
    with pytest.raises(ConfigError, match="download it"):
        list_scenes(["https://host.example/items.parquet"])
