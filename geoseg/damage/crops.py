"""Aligned crops of buildings at both dates, of one size in pixels and of metres on the ground, whatever the CRS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.crs import between
from geoseg.dates.stack import StackReader
from geoseg.georeference import Georeference
from geoseg.models.card import DamageFacts
from geoseg.scenes.bands import ValueMap
from geoseg.windows import Window

__all__ = ["Crop", "crop_of", "pixel_shapes"]

LEAST_CLEAR = 0.5
"""Share of a building that both dates are to show."""


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """A building as the network sees it."""

    image: NDArray[np.float32]
    """(dates * C, side, side), 0 without data."""
    mask: NDArray[np.float32]
    """(side, side): 1 within the footprint and its tolerance."""
    reason: str | None
    """Why it is not analysed; None where it is."""


def pixel_shapes(geometries: NDArray[Any], crs: Any, place: Georeference) -> NDArray[Any]:
    """Polygons with x as columns and y as rows of a raster."""
    import pyproj
    import shapely
    from rasterio.transform import Affine

    inverse = ~Affine(*place.transform)
    move = between(crs, place.crs) if place.crs is not None else None
    degrees = place.crs is not None and pyproj.CRS.from_user_input(place.crs).is_geographic

    def pixels(points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = (points[:, 0], points[:, 1]) if move is None else move.transform(points[:, 0], points[:, 1])
        if degrees:
            # A scene may go on over the 180th meridian.
            x = x - 360 * np.round((x - place.transform[2]) / 360)
        return np.stack([inverse.a * x + inverse.b * y + inverse.c, inverse.d * x + inverse.e * y + inverse.f], axis=1)

    return np.asarray(shapely.transform(shapely.force_2d(geometries), pixels))


def crop_of(reader: StackReader, shape: Any, place: Georeference, facts: DamageFacts, values: ValueMap | None = None) -> Crop:
    """The crop around a building.

    Args:
        reader: Gives the pixels of all dates.
        shape: Its footprint, in pixels of the scene; see ``pixel_shapes``.
        place: Where the scene's pixels lie.
        facts: What the crop is to show.
        values: How pixels become what the network takes; by default as they are.
    """
    import rasterio.features
    import shapely
    from scipy import ndimage

    scene = reader.scene
    side, dates = facts.side, len(scene.dates)
    bands = reader.bands // dates
    left, top, right, bottom = shape.bounds if not shape.is_empty else (np.nan,) * 4
    nothing = np.zeros((dates * bands, side, side), np.float32), np.zeros((side, side), np.float32)
    if shape.is_empty:
        return Crop(*nothing, "no polygon")
    if not np.isfinite(left) or right <= 0 or bottom <= 0 or left >= scene.width or top >= scene.height:
        return Crop(*nothing, "off image")
    middle = Window(
        int(np.clip((top + bottom) / 2, 0, scene.height - 1)), int(np.clip((left + right) / 2, 0, scene.width - 1)), 1, 1
    )
    row_m, col_m = place.pixel_sides(middle) or (1.0, 1.0)
    extent = max((right - left) * col_m, (bottom - top) * row_m)
    gsd = max(facts.gsd_m, extent / (facts.share * side))
    # Rows and cols of the scene to a row and a col of the crop.
    step = np.array([gsd / row_m, gsd / col_m])
    origin = np.array([(top + bottom) / 2, (left + right) / 2]) - step * side / 2
    low, high = np.floor(origin - 2).astype(int), np.ceil(origin + step * side + 2).astype(int)
    window = Window(int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1])) & Window(
        0, 0, scene.height, scene.width
    )
    if window is None:
        return Crop(*nothing, "off image")
    every, clear = reader.by_date(window)
    pixels = np.concatenate([p.data for p in every]).astype(np.float32)
    if values is not None:
        scale, offset = (np.array(part, np.float32)[:, None, None] for part in (values.scale, values.offset))
        pixels = np.clip(pixels * scale + offset, values.low, values.high)
    pixels = np.where(np.repeat(clear, bands, axis=0), pixels, np.float32(0))
    blur = np.maximum(step / 2 - 0.5, 0)
    start = origin + step / 2 - 0.5 - [window.row_off, window.col_off]

    def sampled(values: NDArray[np.float32], order: int) -> NDArray[np.float32]:
        smooth = ndimage.gaussian_filter(values, blur) if order and blur.any() else values
        found = ndimage.affine_transform(smooth, step, start, (side, side), order=order, mode="constant", cval=0.0)
        return np.asarray(found, np.float32)

    image = np.stack([sampled(band, 1) for band in pixels])
    inside = shapely.transform(shape, lambda xy: (xy - origin[::-1]) / step[::-1])
    grown = shapely.buffer(inside, facts.tolerance_m / gsd)
    mask = rasterio.features.rasterize([(grown, 1)], (side, side), dtype="uint8", all_touched=True).astype(np.float32)
    footprint = rasterio.features.rasterize([(inside, 1)], (side, side), dtype="uint8", all_touched=True) > 0
    seen = np.stack([sampled(one.astype(np.float32), 0) for one in clear]) > 0.5
    by_date = seen[:, footprint].mean(axis=1) if footprint.any() else np.zeros(dates)
    reason = None
    if by_date.min(initial=1.0) < LEAST_CLEAR:
        data = np.stack([sampled(p.valid.astype(np.float32), 0) for p in every])[:, footprint].mean(axis=1)
        worst = int(by_date.argmin())
        what = "hidden" if data[worst] >= LEAST_CLEAR else "no data"
        reason = f"{what} at date {worst + 1}"
    return Crop(image, mask, reason)
