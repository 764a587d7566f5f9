"""STAC metadata (https://github.com/radiantearth/stac-spec, 1.1.0) of results, for catalogues and browsers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import shapely

from geoseg.errors import GeoreferenceError
from geoseg.formats.text import clean
from geoseg.georeference import Georeference
from geoseg.scenes.acquired import year_of

__all__ = [
    "EXTENSIONS",
    "PROJECTION",
    "Asset",
    "bbox_of",
    "collection_document",
    "footprint",
    "item_document",
    "outline_item_document",
    "put_footprint",
    "time_of",
]

PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
RASTER = "https://stac-extensions.github.io/raster/v2.0.0/schema.json"
EXTENSIONS = {
    "eo:": "https://stac-extensions.github.io/eo/v2.0.0/schema.json",
    "processing:": "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "version": "https://stac-extensions.github.io/version/v1.2.0/schema.json",
    "view:": "https://stac-extensions.github.io/view/v1.0.0/schema.json",
}
"""By the prefix of its properties, an extension that is listed where an item has some."""
EDGE_POINTS = 17


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of a result."""

    key: str
    href: str
    """Relative to the item."""
    media_type: str
    title: str
    roles: tuple[str, ...] = ("data",)
    bands: tuple[Mapping[str, object], ...] = ()
    """Of a raster, what its values mean, in the words of STAC 1.1 and of its extension for rasters."""


def footprint(georeference: Georeference, shape: tuple[int, int]) -> shapely.Geometry | None:
    """The outline of a raster in longitude and latitude, split at the antimeridian; None without them."""
    height, width = shape
    t = np.linspace(0, 1, EDGE_POINTS)[:-1]
    rows = np.concatenate([t * height, np.full_like(t, height), (1 - t) * height, np.zeros_like(t)])
    cols = np.concatenate([np.zeros_like(t), t * width, np.full_like(t, width), (1 - t) * width])
    try:
        lonlat = georeference.lonlat(rows, cols)
    except GeoreferenceError:
        return None
    lonlat[:, 0] = (lonlat[:, 0] + 180) % 360 - 180
    ring = shapely.Polygon(np.round(lonlat, georeference.degree_decimals(shape)))
    if np.abs(np.diff(lonlat[:, 0])).max() > 180:
        import antimeridian

        return antimeridian.fix_polygon(ring)
    return shapely.orient_polygons(ring, exterior_cw=False)


def item_document(
    name: str,
    georeference: Georeference,
    shape: tuple[int, int],
    acquired: str | None,
    latest: str | None,
    assets: Sequence[Asset],
    properties: Mapping[str, Any],
    model_href: str | None,
) -> dict[str, Any]:
    """A STAC Item of one scene's result.

    Args:
        name: The scene's name.
        georeference: Where its pixels lie.
        shape: Rows and columns.
        acquired: Acquisition, ISO 8601, or None.
        latest: The latest time that it can have been acquired at; used where ``acquired`` is not known.
        assets: Its files.
        properties: Further properties.
        model_href: Link to the model's MLM card.
    """
    import pystac

    outline = footprint(georeference, shape)
    year = None if acquired is None else year_of(acquired)
    when = None if year else time_of(acquired)
    item = pystac.Item(
        id=clean(name.replace("/", "__")),
        geometry=None if outline is None else shapely.geometry.mapping(outline),
        bbox=None if outline is None else bbox_of(outline),
        datetime=when,
        properties={
            **{key: clean(value) if isinstance(value, str) else value for key, value in properties.items()},
            "proj:code": f"EPSG:{georeference.epsg}" if georeference.epsg else None,
            "proj:shape": list(shape),
            "proj:transform": [*georeference.transform, 0.0, 0.0, 1.0],
        },
        stac_extensions=[
            PROJECTION,
            *(url for start, url in EXTENSIONS.items() if any(key.startswith(start) for key in properties)),
            *([RASTER] if any(asset.bands for asset in assets) else []),
        ],
        **({} if when is not None else _interval(year, latest)),
    )
    if not georeference.epsg and georeference.projjson is not None:
        item.properties["proj:projjson"] = georeference.projjson
    for asset in assets:
        more = {"bands": [dict(band) for band in asset.bands]} if asset.bands else None
        item.add_asset(
            asset.key,
            pystac.Asset(asset.href, title=asset.title, media_type=asset.media_type, roles=list(asset.roles), extra_fields=more),
        )
    if model_href is not None:
        item.add_link(pystac.Link("mlm:model", model_href, media_type="application/json", title="The model that made this map"))
    document: dict[str, Any] = item.to_dict(include_self_link=False, transform_hrefs=False)
    return _plain(document)


def outline_item_document(
    name: str,
    outline: shapely.Geometry,
    acquired: Sequence[str],
    assets: Sequence[Asset],
    properties: Mapping[str, Any],
) -> dict[str, Any]:
    """A STAC Item of files that share an area rather than a grid, such as a delivery.

    Args:
        name: Its id.
        outline: The area in longitude and latitude, valid, split at the antimeridian.
        acquired: Times of acquisition of what it was made of, ISO 8601; the item's time is the last of them, its interval all.
        assets: Its files.
        properties: Further properties.
    """
    import pystac

    spans = [(time_of(None if year_of(text) else text), year_of(text)) for text in acquired]
    starts = [when or _interval(year, None)["start_datetime"] for when, year in spans]
    ends = [when or _interval(year, None)["end_datetime"] for when, year in spans]
    interval = {"start_datetime": min(starts), "end_datetime": max(ends)} if spans else _interval(None, properties.get("created"))
    item = pystac.Item(
        id=clean(name.replace("/", "__")),
        geometry=shapely.geometry.mapping(outline),
        bbox=bbox_of(outline),
        datetime=spans[-1][0] if spans else None,
        properties={key: clean(value) if isinstance(value, str) else value for key, value in properties.items()},
        stac_extensions=[url for start, url in EXTENSIONS.items() if any(key.startswith(start) for key in properties)],
        **interval,
    )
    for asset in assets:
        item.add_asset(
            asset.key, pystac.Asset(asset.href, title=asset.title, media_type=asset.media_type, roles=list(asset.roles))
        )
    document: dict[str, Any] = item.to_dict(include_self_link=False, transform_hrefs=False)
    return _plain(document)


def _interval(year: str | None, latest: str | None) -> dict[str, Any]:
    """The interval that STAC wants in place of a moment: the year; else all that is known is that the file was there by then."""
    if year is not None:
        return {
            "start_datetime": datetime(int(year), 1, 1, tzinfo=UTC),
            "end_datetime": datetime(int(year), 12, 31, 23, 59, 59, tzinfo=UTC),
        }
    return {
        "start_datetime": datetime(1970, 1, 1, tzinfo=UTC),
        "end_datetime": time_of(latest) or datetime(2100, 1, 1, tzinfo=UTC),
    }


def put_footprint(item: dict[str, Any], georeference: Georeference, shape: tuple[int, int]) -> None:
    """Have an item's place be that of the part of its raster that holds data, of so many rows and columns."""
    outline = footprint(georeference, shape)
    if outline is not None:
        item["geometry"], item["bbox"] = shapely.geometry.mapping(outline), bbox_of(outline)


def collection_document(items: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A STAC Collection of the results of a folder.

    Args:
        items: Item documents by their path relative to the collection.
    """
    import pystac

    boxes = [item["bbox"] for item in items.values() if item.get("bbox")]
    bbox = (
        [*np.min([b[:2] for b in boxes], axis=0).tolist(), *np.max([b[2:] for b in boxes], axis=0).tolist()]
        if boxes
        else [-180.0, -90.0, 180.0, 90.0]
    )
    times: list[datetime] = []
    for item in items.values():
        facts = item["properties"]
        times += [t for key in ("datetime", "start_datetime", "end_datetime") if (t := time_of(facts.get(key))) is not None]
    interval: list[list[datetime | None]] = [[min(times), max(times)]] if times else [[None, None]]
    collection = pystac.Collection(
        id="geoseg",
        description="Class maps and polygons made by geoseg",
        extent=pystac.Extent(pystac.SpatialExtent([bbox]), pystac.TemporalExtent(interval)),
        license="other",
    )
    for href in sorted(items):
        collection.add_link(pystac.Link("item", href, media_type="application/geo+json"))
    document: dict[str, Any] = collection.to_dict(include_self_link=False, transform_hrefs=False)
    return _plain(document)


def time_of(text: str | None) -> datetime | None:
    """A moment of a text in ISO 8601, in UTC where it names no zone; None without one."""
    if not text:
        return None
    when = datetime.fromisoformat(text)
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def bbox_of(outline: shapely.Geometry) -> list[float]:
    """West, south, east, north; west of east is left out only where the antimeridian is crossed (RFC 7946, 5.2)."""
    parts = shapely.get_parts(outline)
    west, south, east, north = outline.bounds
    if len(parts) > 1 and west == -180 and east == 180:
        bounds = shapely.bounds(parts)
        west = float(bounds[bounds[:, 2] == 180][:, 0].min())
        east = float(bounds[bounds[:, 0] == -180][:, 2].max())
    return [float(west), float(south), float(east), float(north)]


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    """Without the root link, which would point at the document itself."""
    document["links"] = [link for link in document.get("links", []) if link.get("rel") != "root"]
    return document
