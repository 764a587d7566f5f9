"""Aligned crops of buildings at both dates, of one size in pixels and of metres on the ground, whatever the CRS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import F32, F64, U8, Bools
from geoseg.crs import between
from geoseg.dates.stack import StackReader
from geoseg.georeference import Georeference
from geoseg.models.card_values import DamageFacts
from geoseg.scenes.bands.value_map import ValueMap
from geoseg.windows import Window

__all__ = ["Crop", "crop_of", "pixel_shapes"]

LEAST_CLEAR = 0.5
"""Share of a building that both dates are to show."""


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """A building as the network sees it."""

    image: F32
    """(dates * C, side, side), 0 without data."""
    mask: F32
    """(side, side): 1 within the footprint and its tolerance."""
    reason: str | None
    """Why it is not analysed; None where it is."""


def pixel_shapes(geometries: NDArray[Any], crs: Any, place: Georeference) -> NDArray[Any]:
    """Polygons with x as columns and y as rows of a raster."""
    import pyproj
    import shapely

    inverse = place.inverse
    move = between(crs, place.crs) if place.crs is not None else None
    degrees = place.crs is not None and pyproj.CRS.from_user_input(place.crs).is_geographic

    def pixels(points: F64) -> F64:
        x, y = (points[:, 0], points[:, 1]) if move is None else move.transform(points[:, 0], points[:, 1])
        if degrees:
            # A scene may go on over the 180th meridian.
            x = x - 360 * np.round((x - place.transform[2]) / 360)
        return np.stack(inverse @ (x, y), axis=1)

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
    scene = reader.scene
    dates = len(scene.dates)
    bands = reader.bands // dates
    frame = None if shape.is_empty else _frame_of(shape, place, facts, (scene.height, scene.width))
    if frame is None:
        nothing = np.zeros((dates * bands, facts.side, facts.side), np.float32), np.zeros((facts.side, facts.side), np.float32)
        return Crop(*nothing, "no polygon" if shape.is_empty else "off image")
    every, clear = reader.by_date(frame.window)
    pixels = np.concatenate([p.data for p in every]).astype(np.float32)
    if values is not None:
        scale, offset = (np.array(part, np.float32)[:, None, None] for part in (values.scale, values.offset))
        pixels = np.clip(pixels * scale + offset, values.low, values.high)
    pixels = np.where(np.repeat(clear, bands, axis=0), pixels, np.float32(0))
    image = np.stack([frame.sampled(band, 1) for band in pixels])
    mask, footprint = frame.burnt(shape, facts.tolerance_m)
    return Crop(image, mask.astype(np.float32), _unseen(frame, footprint > 0, clear, [p.valid for p in every]))


@dataclass(frozen=True, slots=True, eq=False)
class _Frame:
    """Where a crop lies in its scene."""

    window: Window
    """What is read of the scene."""
    origin: F64
    """Row and col of the scene at its upper left corner."""
    step: F64
    """Rows and cols of the scene to a row and a col of the crop."""
    gsd_m: float
    side: int

    def sampled(self, values: F32, order: int) -> F32:
        """Values of the window, at the pixels of the crop."""
        from scipy import ndimage

        blur = np.maximum(self.step / 2 - 0.5, 0)
        start = self.origin + self.step / 2 - 0.5 - [self.window.row_off, self.window.col_off]
        shape = self.side, self.side
        smooth = ndimage.gaussian_filter(values, blur) if order and blur.any() else values
        found = ndimage.affine_transform(smooth, self.step, start, shape, order=order, mode="constant", cval=0.0)
        return np.asarray(found, np.float32)

    def burnt(self, shape: Any, tolerance_m: float) -> tuple[U8, U8]:
        """The footprint with its tolerance, and without: 1 within, (side, side)."""
        import rasterio.features
        import shapely

        inside = shapely.transform(shape, lambda xy: (xy - self.origin[::-1]) / self.step[::-1])
        grown = shapely.buffer(inside, tolerance_m / self.gsd_m)
        with_tolerance, without = (
            rasterio.features.rasterize([(one, 1)], (self.side, self.side), dtype="uint8", all_touched=True)
            for one in (grown, inside)
        )
        return with_tolerance, without


def _frame_of(shape: Any, place: Georeference, facts: DamageFacts, extent: tuple[int, int]) -> _Frame | None:
    """The frame around a footprint; None where it lies off the scene, whose rows and columns ``extent`` are."""
    left, top, right, bottom = shape.bounds
    height, width = extent
    if not np.isfinite(left) or right <= 0 or bottom <= 0 or left >= width or top >= height:
        return None
    middle = Window.at((int(np.clip((top + bottom) / 2, 0, height - 1)), int(np.clip((left + right) / 2, 0, width - 1))), (1, 1))
    row_m, col_m = place.pixel_sides(middle) or (1.0, 1.0)
    longer_m = max((right - left) * col_m, (bottom - top) * row_m)
    gsd_m = max(facts.gsd_m, longer_m / (facts.share * facts.side))
    step = np.array([gsd_m / row_m, gsd_m / col_m])
    origin = np.array([(top + bottom) / 2, (left + right) / 2]) - step * facts.side / 2
    low, high = np.floor(origin - 2).astype(int), np.ceil(origin + step * facts.side + 2).astype(int)
    window = Window.at((int(low[0]), int(low[1])), (int(high[0] - low[0]), int(high[1] - low[1]))) & Window.of((height, width))
    return None if window is None else _Frame(window, origin, step, gsd_m, facts.side)


def _unseen(frame: _Frame, footprint: Bools, clear: Bools, valid: Sequence[Bools]) -> str | None:
    """Why a building is not seen at every date; None where it is."""
    seen = np.stack([frame.sampled(one.astype(np.float32), 0) for one in clear]) > 0.5
    by_date = seen[:, footprint].mean(axis=1) if footprint.any() else np.zeros(len(clear))
    if by_date.min(initial=1.0) >= LEAST_CLEAR:
        return None
    data = np.stack([frame.sampled(one.astype(np.float32), 0) for one in valid])[:, footprint].mean(axis=1)
    worst = int(by_date.argmin())
    what = "hidden" if data[worst] >= LEAST_CLEAR else "no data"
    return f"{what} at date {worst + 1}"
