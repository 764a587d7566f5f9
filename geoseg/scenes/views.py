"""Views: the place of a scene, and its reprojection while it is read."""

from __future__ import annotations

from typing import Any

import rasterio
import rasterio.crs
import rasterio.errors
import rasterio.warp

from geoseg.crs import check_crs, not_a_map
from geoseg.dialect import setting
from geoseg.errors import GeoreferenceError
from geoseg.georeference import Georeference
from geoseg.scenes.remote import shown
from geoseg.scenes.scene import OpenOptions, View

__all__ = ["georeference_of", "view_of"]


def georeference_of(
    dataset: rasterio.DatasetReader, path: str, view: View | None, options: OpenOptions, notes: list[str]
) -> tuple[str | None, tuple[float, float, float, float, float, float]]:
    """CRS (WKT) and transform of the grid that is read."""
    crs, transform = (view.crs, view.transform) if view is not None else _own_georeference(dataset, path, options, notes)
    if crs is not None and (why := not_a_map(crs)) is not None:
        raise GeoreferenceError(f"{shown(path)}: {why}")
    return crs, transform


def _own_georeference(
    dataset: rasterio.DatasetReader, path: str, options: OpenOptions, notes: list[str]
) -> tuple[str | None, tuple[float, float, float, float, float, float]]:
    """Of the grid of the file."""
    transform = _six(dataset.transform)
    crs = dataset.crs.to_wkt() if dataset.crs else None
    placed = not dataset.transform.is_identity
    if dataset.gcps[0] and not placed:
        raise GeoreferenceError(
            f"{shown(path)}: placed by {len(dataset.gcps[0])} ground control points only; use {setting('gcps')} to warp it while "
            "reading, "
            "or gdalwarp -tps (or -order 1) beforehand"
        )
    if dataset.rpcs is not None and not placed:
        raise GeoreferenceError(
            f"{shown(path)}: placed by RPCs only, which need terrain heights; run gdalwarp -rpc -to RPC_DEM=... first"
        )
    if options.pixel_coords:
        if not placed or crs is None:
            return None, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
        notes.append(f"{setting('pixel_coords')} has no effect: the file is georeferenced")
    if not placed:
        raise GeoreferenceError(
            f"{shown(path)}: no geotransform, so its pixels have no place on Earth; use {setting('pixel_coords')} for outputs in "
            f"pixels (to evaluate, {setting('plain')})"
        )
    if crs is None:
        if options.assume_crs is None:
            raise GeoreferenceError(
                f"{shown(path)}: no CRS, so its outputs could not be placed; pass "
                f"{setting('assume_crs', 'EPSG:xxxx')} if you know it"
            )
        crs = _parse_crs(options.assume_crs, setting("assume_crs")).to_wkt()
        notes.append(f"no CRS in the file; {options.assume_crs} was assumed as told")
    return crs, transform


def _parse_crs(text: str, option: str) -> rasterio.crs.CRS:
    from geoseg.errors import ConfigError

    try:
        return rasterio.crs.CRS.from_user_input(check_crs(text))
    except rasterio.errors.CRSError as error:
        raise ConfigError(f"{option}: {text!r} is not a CRS that PROJ knows; write for example EPSG:32721") from error
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from error


def _six(transform: Any) -> tuple[float, float, float, float, float, float]:
    a, b, c, d, e, f = (float(v) for v in tuple(transform)[:6])
    return a, b, c, d, e, f


def view_of(dataset: rasterio.DatasetReader, path: str, options: OpenOptions) -> View | None:
    """The grid to warp to, where an option asks for one."""
    points, gcp_crs = dataset.gcps
    use_gcps = options.gcps and bool(points) and dataset.transform.is_identity
    if not (options.target_crs or options.resample or use_gcps):
        return None
    source_crs = gcp_crs if use_gcps else dataset.crs
    assumed = None
    if source_crs is None:
        if options.assume_crs is None:
            raise GeoreferenceError(
                f"{shown(path)}: no CRS, so it can't be warped; pass {setting('assume_crs', 'EPSG:xxxx')} if you know it"
            )
        source_crs = _parse_crs(options.assume_crs, setting("assume_crs"))
        assumed = source_crs.to_wkt()
    target_crs = _parse_crs(options.target_crs, setting("target_crs")) if options.target_crs else source_crs
    height, width = dataset.shape
    transform = _six(dataset.transform)
    try:
        if use_gcps or target_crs != source_crs:
            where: dict[str, Any] = (
                {"gcps": points} if use_gcps else dict(zip(("left", "bottom", "right", "top"), dataset.bounds, strict=True))
            )
            affine, new_width, new_height = rasterio.warp.calculate_default_transform(
                source_crs, target_crs, width, height, **where
            )
            transform, width, height = _six(affine), int(new_width), int(new_height)
    except (rasterio.errors.RasterioError, ValueError) as error:
        raise GeoreferenceError(f"{shown(path)}: can't be warped to {target_crs.to_string()}: {error}") from error
    resampling = "bilinear"
    if options.resample:
        transform, height, width, factor = _to_pixel_size(transform, target_crs.to_wkt(), height, width, options.resample)
        resampling = "average" if factor > 1.5 else "bilinear"
    return View(
        crs=target_crs.to_wkt(),
        transform=transform,
        height=height,
        width=width,
        resampling=resampling,
        source_crs=(source_crs.to_wkt() if use_gcps else assumed),
    )


def _to_pixel_size(
    transform: tuple[float, float, float, float, float, float], crs: str, height: int, width: int, metres: float
) -> tuple[tuple[float, float, float, float, float, float], int, int, float]:
    """The same area in pixels of a given size: transform, height, width, and the growth of a pixel's side."""
    from geoseg.windows import Window

    metric = Georeference(transform, crs).metric(Window.of((height, width)), spacing=max(height, width))
    assert metric is not None
    jacobian = metric.jacobian.mean(axis=(2, 3))
    row_m, col_m = (jacobian[0] ** 2 + jacobian[1] ** 2) ** 0.5
    new_height, new_width = max(1, round(height * row_m / metres)), max(1, round(width * col_m / metres))
    per_row, per_col = height / new_height, width / new_width
    a, b, c, d, e, f = transform
    return (a * per_col, b * per_row, c, d * per_col, e * per_row, f), new_height, new_width, float(max(per_row, per_col))
