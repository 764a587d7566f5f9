"""The STAC item of a delivery: its area, its times, its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import antimeridian
import numpy as np
import pyproj
import shapely

import geoseg
from geoseg.formats.stac import Asset, outline_item_document
from pipeline.deliver.extents import Extents, moved_to
from pipeline.deliver.result import Result
from pipeline.deliver.terms import Terms
from pipeline.files.atomic import write_json

__all__ = ["write_item"]

MEDIA = {
    ".gpkg": "application/geopackage+sqlite3",
    ".geojson": "application/geo+json",
    ".fgb": "application/vnd.flatgeobuf",
    ".shp": "application/vnd.shp",
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".html": "text/html",
    ".csv": "text/csv",
    ".txt": "text/plain",
}
ROLES = {".pdf": "visual", ".png": "overview", ".html": "metadata", ".csv": "metadata", ".txt": "metadata"}
"""Of files that are not data."""
DECIMALS, HALF_TURN = 6, 180


def write_item(
    path: Path, result: Result, extents: Extents, terms: Terms, produced: str, about: Sequence[tuple[str, str]]
) -> None:
    """Write the item of a delivery.

    Args:
        path: The file.
        result: What is delivered.
        extents: The areas.
        terms: What is said.
        produced: Date of production, ISO 8601.
        about: Names of the files beside it, and what each is.
    """
    outline = _outline(extents, result.crs)
    given = terms.given
    facts = {
        "title": terms.event,
        "description": result.title,
        "created": produced if "T" in produced else f"{produced[:10]}T00:00:00Z",
        "version": str(terms.version),
        "geoseg:status": given.status,
        "geoseg:event_time": given.event_time,
        "providers": _providers(terms),
        "instruments": [image.sensor for image in result.images if image.sensor] or None,
        "processing:software": {"geoseg": geoseg.__version__},
        "geoseg:model": result.model or None,
        "geoseg:measured": [one.text for one in result.measured] or None,
        "geoseg:warnings": list(result.warnings) or None,
    }
    name = "_".join(filter(None, (terms.code, terms.aoi_id, f"v{terms.version}"))) if terms.code else result.folder.name
    assets = [
        Asset(file, f"./{file}", MEDIA[Path(file).suffix], text, (ROLES.get(Path(file).suffix, "data"),))
        for file, text in about
        if Path(file).suffix in MEDIA
    ]
    times = [image.acquired for image in result.images if image.acquired]
    known = {key: value for key, value in facts.items() if value is not None}
    write_json(path, outline_item_document(name, outline, times, assets, known))


def _outline(extents: Extents, crs: pyproj.CRS) -> shapely.Geometry:
    """The area of interest in longitude and latitude, split at the antimeridian."""
    (area,) = moved_to(np.array([extents.aoi], object), crs, pyproj.CRS.from_user_input("OGC:CRS84"))
    parts = shapely.get_parts(area)
    # Over the 180th meridian longitudes jump; counted on, shells turn as they are to.
    bounds = shapely.bounds(parts)
    over = np.flatnonzero(bounds[:, 2] - bounds[:, 0] > HALF_TURN)
    parts[over] = shapely.transform(parts[over], lambda xy: np.stack([xy[:, 0] % 360, xy[:, 1]], axis=1))
    parts = shapely.orient_polygons(parts, exterior_cw=False)
    parts[over] = shapely.transform(parts[over], lambda xy: np.stack([(xy[:, 0] + 180) % 360 - 180, xy[:, 1]], axis=1))
    whole = antimeridian.fix_multi_polygon(shapely.MultiPolygon(parts.tolist()))
    # Points that reprojection has put on straight edges say nothing.
    step = 10.0**-DECIMALS
    return shapely.orient_polygons(shapely.set_precision(shapely.simplify(whole, step), step), exterior_cw=False)


def _providers(terms: Terms) -> list[dict[str, object]] | None:
    """Providers of the images, and who made the delivery."""
    of_images = dict.fromkeys(one for one in terms.given.providers or () if one.lower() != "unknown")
    found: list[dict[str, object]] = [{"name": one, "roles": ["producer"]} for one in of_images]
    if terms.producer:
        found.append({"name": terms.producer, "roles": ["processor"], "description": ", ".join(terms.given.contact or ())})
    return found or None
