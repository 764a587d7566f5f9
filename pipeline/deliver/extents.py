"""Areas of a delivery: area of interest, image footprints, and areas that were not analysed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyproj
import rasterio

from geoseg.codes import HIDDEN, NODATA, NOT_ANALYSED
from geoseg.crs import between
from geoseg.errors import ConfigError, SceneError
from geoseg.scenes.gdal import gdal_env, open_raster
from geoseg.vectors.polygon_file import Geometries, PolygonFile
from pipeline.deliver.document import Image
from pipeline.deliver.result import Result
from pipeline.files.overviews import shrunken

if TYPE_CHECKING:
    import shapely

__all__ = ["Extents", "areas_seen", "extents_of", "geodesic_m2", "moved_to", "not_analysed"]

MASK_PX = 1024
"""Side at which the valid pixels of an image are outlined."""
SEGMENTS = 64
"""Points on long edges that are reprojected."""
SLIVER_M = 0.02
"""Areas narrower than this are what rounding in files leaves between neighbours; more where a file is less exact."""
REASONS = {
    HIDDEN: "cloud: the ground was hidden",
    NOT_ANALYSED: "not analysed: no result could be computed",
    NODATA: "no data: no valid pixels, or clouds that were masked",
}


@dataclass(frozen=True, slots=True, eq=False)
class Extents:
    """Areas of a delivery, in the CRS of the result."""

    aoi: shapely.MultiPolygon
    """The area of interest, a polygon or several; prepared."""
    around: shapely.Geometry
    """The same with ``slack_m`` more; what lies within is not cut."""
    slack_m: float
    """Distance that neighbours in files may be off, metres."""
    aoi_given: bool
    footprints: tuple[tuple[Image, shapely.MultiPolygon, str], ...]
    """Images, where they have valid pixels, and how that is known."""
    extent: shapely.MultiPolygon
    """Area that the result covers, no data included."""


def extents_of(result: Result, aoi: Path | None, assume_crs: str | None = None) -> Extents:
    """The areas of a result and the area of interest, which is where the images have data unless a file is given.

    Raises:
        ConfigError: The file can't be read, has no CRS, or does not meet the result.
    """
    import shapely

    extent = _extent(result)
    covered = _covered(result)
    known = extent if covered is None else covered
    footprints = tuple((image, *_footprint(image, result.crs, known)) for image in result.images)
    if covered is None:
        covered = _polygonal(shapely.intersection_all([shape for _, shape, _ in footprints])) if footprints else extent
    area = covered if aoi is None else _aoi(aoi, result.crs, assume_crs)
    if not shapely.area(shapely.intersection(area, extent)) > 0:
        wanted = ", ".join(f"{value:.6g}" for value in _lonlat_bounds(area, result.crs))
        there = ", ".join(f"{value:.6g}" for value in _lonlat_bounds(extent, result.crs))
        raise ConfigError(
            f"{aoi or result.folder}: the area of interest (lon, lat {wanted}) does not meet the result ({there}); give one "
            "that does"
        )
    unit = 111_000.0 if result.crs.is_geographic else result.crs.axis_info[0].unit_conversion_factor
    slack = SLIVER_M
    if aoi is None and result.raster is not None:
        # Long edges of the coverage, a GeoJSON file, are off by up to a twentieth of a pixel.
        slack = max(slack, 0.1 * abs(result.georeference.determinant) ** 0.5 * unit)
    around = shapely.buffer(area, slack / unit, join_style="mitre")
    shapely.prepare([area, around])
    return Extents(area, around, slack, aoi is not None, footprints, extent)


def _aoi(path: Path, crs: pyproj.CRS, assume_crs: str | None) -> shapely.MultiPolygon:
    import shapely

    file = PolygonFile.open(path, assume_crs)
    if file.crs is None:
        raise ConfigError(f"{path}: no CRS, so the area of interest has no place; give --assume-crs EPSG:xxxx")
    parts = [shapes[np.isin(shapely.get_type_id(shapes), (3, 6))] for shapes, _ in file.batches(())]
    shapes = np.concatenate([np.empty(0, object), *parts])
    if not len(shapes):
        raise ConfigError(f"{path}: holds no polygons, which an area of interest is; give one or more")
    return _polygonal(shapely.union_all(shapely.make_valid(moved_to(shapely.force_2d(shapes), file.crs, crs))))


def moved_to(shapes: Geometries, source: pyproj.CRS, target: pyproj.CRS) -> Geometries:
    """Shapes reprojected, with points added on long edges."""
    import shapely

    if source == target:
        return shapes
    left, bottom, right, top = shapely.total_bounds(shapes)
    step = max(right - left, top - bottom) / SEGMENTS
    move = between(source, target)
    dense = shapely.segmentize(shapes, step) if step > 0 else shapes
    moved = shapely.transform(dense, lambda xy: np.stack(move.transform(xy[:, 0], xy[:, 1]), axis=1))
    if not np.isfinite(shapely.total_bounds(moved)).all():
        raise ConfigError(f"some coordinates in {source.name} have no place in {target.name}; give polygons near the result")
    return np.asarray(moved)


def _polygonal(shape: shapely.Geometry) -> shapely.MultiPolygon:
    """The polygons of a shape, without the lines and points that operations leave."""
    import shapely

    parts = shapely.get_parts(shapely.get_parts(shape))
    return shapely.MultiPolygon(parts[shapely.get_type_id(parts) == 3].tolist())


def _extent(result: Result) -> shapely.MultiPolygon:
    import shapely

    if result.raster is None:
        return shapely.MultiPolygon([shapely.box(*_bounds_in(result.features, result.crs))])
    with gdal_env(), open_raster(result.raster) as dataset:
        corners = result.georeference.corners(dataset.height, dataset.width)
    return shapely.MultiPolygon([shapely.Polygon(corners)])


def _bounds_in(file: PolygonFile, crs: pyproj.CRS) -> tuple[float, ...]:
    import shapely

    assert file.crs is not None
    return tuple(shapely.total_bounds(moved_to(np.array([shapely.box(*file.bounds())]), file.crs, crs)).tolist())


def _covered(result: Result) -> shapely.MultiPolygon | None:
    """Area with data, by the coverage."""
    import shapely

    found = None
    if result.coverage is not None and result.coverage.crs is not None:
        for shapes, columns in result.coverage.batches(("code",)):
            known = shapes[np.array(columns["code"]) != NODATA]
            moved = shapely.make_valid(moved_to(known, result.coverage.crs, result.crs)) if len(known) else known
            found = shapely.union_all([*moved, *([] if found is None else [found])])
    return None if found is None or shapely.is_empty(found) else _polygonal(found)


def _footprint(image: Image, crs: pyproj.CRS, otherwise: shapely.MultiPolygon) -> tuple[shapely.MultiPolygon, str]:
    """Area of valid pixels of an image; of the map, where it can't be opened any more."""
    import shapely
    from rasterio.features import shapes

    try:
        _, valid, place, found_crs = shrunken(image.path, MASK_PX, 1)
    except (OSError, rasterio.errors.RasterioError, SceneError):
        return otherwise, "coverage of the map"
    if found_crs is None:
        return otherwise, "coverage of the map"
    found = [shapely.geometry.shape(g) for g, v in shapes(valid.astype(np.uint8), transform=place) if v]
    source = pyproj.CRS.from_user_input(found_crs.to_wkt())
    if not found:
        return otherwise, "coverage of the map"
    moved = shapely.union_all(shapely.make_valid(moved_to(np.array(found, object), source, crs)))
    return _polygonal(moved), f"valid pixels, outlined in {valid.shape[0]} rows and {valid.shape[1]} columns"


def _lonlat_bounds(shape: shapely.Geometry, crs: pyproj.CRS) -> list[float]:
    import shapely

    return [
        float(v) for v in shapely.total_bounds(moved_to(np.array([shape], object), crs, pyproj.CRS.from_user_input("OGC:CRS84")))
    ]


def geodesic_m2(shape: shapely.MultiPolygon, crs: pyproj.CRS) -> float:
    """Area on the ellipsoid, square metres (Karney 2013, doi:10.1007/s00190-012-0578-z)."""
    return _geodesic(shape, crs)[0]


def _geodesic(shape: shapely.MultiPolygon, crs: pyproj.CRS) -> tuple[float, float]:
    """Square metres, and metres around."""
    import shapely

    if shapely.is_empty(shape):
        return 0.0, 0.0
    parts = moved_to(shapely.get_parts(shape), crs, pyproj.CRS.from_user_input("OGC:CRS84"))
    # A polygon over the 180th meridian has jumps in longitude, by which it would be turned the wrong way.
    bounds = shapely.bounds(parts)
    over = np.flatnonzero(bounds[:, 2] - bounds[:, 0] > 180)
    parts[over] = shapely.transform(parts[over], lambda xy: np.stack([xy[:, 0] % 360, xy[:, 1]], axis=1))
    parts = shapely.orient_polygons(parts, exterior_cw=False)
    geod = pyproj.Geod(ellps="WGS84")
    found = [geod.geometry_area_perimeter(part) for part in parts if part.geom_type == "Polygon"]
    return float(sum(area for area, _ in found)), float(sum(border for _, border in found))


def seen_by_all(extents: Extents) -> shapely.Geometry:
    """Where all images have valid pixels, as buildings are compared there alone; without images what the result covers."""
    import shapely

    return shapely.intersection_all([shape for _, shape, _ in extents.footprints]) if extents.footprints else extents.extent


def areas_seen(result: Result, extents: Extents) -> tuple[float, float]:
    """Square metres of the area of interest that all images show, and of the rest; they add up to all of it."""
    import shapely

    whole = geodesic_m2(extents.aoi, result.crs)
    outside, border = _geodesic(_polygonal(shapely.difference(extents.aoi, seen_by_all(extents))), result.crs)
    outside = min(outside, whole) if outside > extents.slack_m * border else 0.0
    return whole - outside, outside


def not_analysed(result: Result, extents: Extents) -> Iterator[tuple[shapely.MultiPolygon, str, float]]:
    """Areas within the area of interest of which nothing is known: their shape, the reason, square metres."""
    import shapely

    outside = _polygonal(shapely.difference(extents.aoi, extents.extent))
    if result.by_number:
        outside = _polygonal(shapely.difference(extents.aoi, seen_by_all(extents)))
    area, border = _geodesic(outside, result.crs)
    if area > extents.slack_m * border:
        yield outside, "outside of the images", area
    file = result.features if result.by_number else result.coverage
    if file is None or file.crs is None:
        return
    unseen = (NOT_ANALYSED, NODATA) if file is result.features else tuple(REASONS)
    for shapes, columns in file.batches(("code", "reason")):
        codes = np.array([NOT_ANALYSED if code is None else code for code in columns.get("code", [0] * len(shapes))])
        reasons = columns.get("reason") or [None] * len(shapes)
        for row in np.flatnonzero(np.isin(codes, unseen)).tolist():
            moved = shapely.make_valid(moved_to(np.array([shapes[row]], object), file.crs, result.crs))[0]
            common = _polygonal(shapely.intersection(moved, extents.aoi))
            area, border = _geodesic(common, result.crs)
            if area > extents.slack_m * border:
                yield common, reasons[row] or REASONS[int(codes[row])], area
