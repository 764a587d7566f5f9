"""STAC documents by their fields: where, when, and across 180 degrees."""

from __future__ import annotations

import pyproj
import pystac
import pytest
import shapely

from geoseg.formats.stac import Asset, collection_document, item_document
from geoseg.georeference import Georeference

WGS84 = pyproj.CRS("EPSG:4326").to_wkt()


def item(west: float, acquired: str | None = "2024-05-06T07:08:09Z", name: str = "a/b", latest: str | None = None) -> dict:
    place = Georeference((0.01, 0.0, west, 0.0, -0.02, 10.0), WGS84)
    return item_document(
        name,
        place,
        (50, 100),
        acquired,
        latest,
        [Asset("classes", "./classes.tif", "image/tiff", "Classes")],
        {"title": "t"},
        "./model.json",
    )


def test_an_item_says_where_and_when() -> None:
    document = item(12.0)
    found = pystac.Item.from_dict(document)
    assert found.id == "a__b"
    assert found.bbox == pytest.approx([12, 9, 13, 10])
    assert shapely.geometry.shape(found.geometry).equals_exact(shapely.box(12, 9, 13, 10), 1e-6, normalize=True) or (
        shapely.geometry.shape(found.geometry).area == pytest.approx(1)
    )
    assert found.datetime.isoformat() == "2024-05-06T07:08:09+00:00"
    assert found.properties["proj:shape"] == [50, 100]
    assert found.properties["proj:transform"][:6] == [0.01, 0.0, 12.0, 0.0, -0.02, 10.0]
    assert found.assets["classes"].href == "./classes.tif"
    assert [link.rel for link in found.links] == ["mlm:model"]


def test_a_year_is_the_time_from_its_first_to_its_last_second() -> None:
    found = pystac.Item.from_dict(item(12.0, acquired="1985"))
    assert found.datetime is None
    times = (found.common_metadata.start_datetime, found.common_metadata.end_datetime)
    assert [time.isoformat() for time in times] == ["1985-01-01T00:00:00+00:00", "1985-12-31T23:59:59+00:00"]


def test_an_item_across_180_degrees_has_its_west_east_of_its_east() -> None:
    document = item(179.4)
    assert document["bbox"] == pytest.approx([179.4, 9, -179.6, 10])
    parts = shapely.get_parts(shapely.geometry.shape(document["geometry"]))
    assert sorted(part.bounds[0] for part in parts) == pytest.approx([-180, 179.4])


def test_without_a_date_it_is_an_interval_up_to_what_is_known() -> None:
    document = item(12.0, None, latest="2023-01-02T00:00:00Z")
    assert document["properties"]["datetime"] is None
    assert document["properties"]["start_datetime"] == "1970-01-01T00:00:00Z"
    assert document["properties"]["end_datetime"] == "2023-01-02T00:00:00Z"


def test_a_collection_spans_its_items() -> None:
    items = {
        "./a/item.json": item(12.0, "2024-05-06T07:08:09Z"),
        "./b/item.json": item(3.0, "2022-01-01"),
        "./c/item.json": item(20.0, "2023-01-01T10:00:00+02:00"),
    }
    document = collection_document(items)
    assert document["extent"]["spatial"]["bbox"] == [pytest.approx([3, 9, 21, 10])]
    assert document["extent"]["temporal"]["interval"] == [["2022-01-01T00:00:00Z", "2024-05-06T07:08:09Z"]]
    assert [link["href"] for link in document["links"] if link["rel"] == "item"] == sorted(items)
    assert collection_document({})["extent"]["temporal"]["interval"] == [[None, None]]
