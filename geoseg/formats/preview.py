"""A picture of a result: the image, its classes, and its polygons over the image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.arrays import F64, U8, Bools
from geoseg.codes import NODATA, NOT_ANALYSED
from geoseg.formats.styles import ClassStyle
from geoseg.georeference import Georeference
from geoseg.polygons.features import GEOMETRY
from geoseg.polygons.geometries import boxes_of

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL.Image import Image as Picture

__all__ = [
    "BACKGROUND",
    "BORDER",
    "GAP",
    "Panels",
    "PicturePlace",
    "draw_panels",
    "save_panels",
    "sheet_of",
    "stretched",
    "write_preview",
]

BACKGROUND = (255, 255, 255)
BORDER = (40, 40, 40)
GAP = 8
MAX_DRAWN = 200_000
SMALLEST_DRAWN_PX = 1.5
SMALLEST_BOX_PX = 1.49
"""Less than that by more than sums of coordinates are off."""
TABLED = (np.uint8, np.uint16)
"""Types of few values."""


@dataclass(frozen=True, slots=True, eq=False)
class Panels:
    """The three parts of the picture, (h, w, 3) uint8 each."""

    image: U8
    classes: U8
    overlay: U8
    """The polygons' outlines over the image."""


def stretched(image: NDArray[np.generic], valid: Bools, clear: Bools | None = None) -> U8:
    """(h, w, 3) uint8 of a (1 or 3, h, w) image, each band between its 2nd and 98th percentile; white where not valid.

    The percentiles are those of ``clear`` (h, w) where that is given and says anything is.
    """
    measured = valid if clear is None or not (valid & clear).any() else valid & clear
    out = np.full((*valid.shape, 3), 255, np.uint8)
    if not valid.any():
        return out
    for channel in range(3):
        band = image[min(channel, len(image) - 1)]
        few = band.dtype in TABLED
        known = band[measured] if few else band[measured & np.isfinite(band)]
        low, high = np.percentile(known if few else known.astype(np.float64), (2, 98)) if known.size else (0.0, 1.0)
        # A shade a value is less than one a pixel.
        shades = _shades(np.arange(np.iinfo(band.dtype).max + 1), low, high)[band] if few else _shades(band, low, high)
        out[..., channel] = np.where(valid, shades, np.uint8(255))
    return out


def _shades(values: NDArray[np.generic], low: float, high: float) -> U8:
    """Values between two as 0 to 255, in their shape."""
    numbers = np.nan_to_num(np.asarray(values, np.float64))
    return np.asarray(np.clip((numbers - low) / max(high - low, 1e-9), 0, 1) * 255, np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class PicturePlace:
    """Where the pixels of the picture lie."""

    georeference: Georeference
    """Of the pixels of the scene that it begins with."""
    stride: int
    """Pixels of the scene to one of the picture."""
    border: Sequence[F64] | None = None
    """(N, 2) columns and rows of the picture, of rings of an area of interest."""


def write_preview(
    path: Path,
    image: NDArray[np.generic],
    classes: U8,
    styles: Sequence[ClassStyle],
    batches: Iterable[pa.RecordBatch],
    place: PicturePlace,
) -> Panels:
    """Write the picture; returns its parts. Arguments are its PNG file and those of ``draw_panels``."""
    panels = draw_panels(image, classes, styles, batches, place)
    save_panels(path, panels, place)
    return panels


def draw_panels(
    image: NDArray[np.generic],
    classes: U8,
    styles: Sequence[ClassStyle],
    batches: Iterable[pa.RecordBatch],
    place: PicturePlace,
    *,
    clouded: bool = False,
) -> Panels:
    """Draw the parts of the picture.

    Args:
        image: (1 or 3, h, w) pixels of the scene, every ``place.stride``-th.
        classes: (h, w) class codes of the same pixels.
        styles: Colours by class.
        batches: The polygons (``features.feature_schema``), in the scene's CRS.
        place: Where the pixels lie.
        clouded: Whether clouds hide what is not analysed, so that its light does not count.
    """
    from PIL import Image, ImageDraw

    photo = stretched(image, classes != NODATA, classes != NOT_ANALYSED if clouded else None)
    colors = np.full((256, 3), 255, np.uint8)
    for style in styles:
        colors[style.code] = style.rgb
    overlay = Image.fromarray(photo).convert("RGB")
    draw = ImageDraw.Draw(overlay)
    by_code = {style.code: style.rgb for style in styles}
    drawn = 0
    for batch in batches:
        seen = _seen(batch.column(GEOMETRY), place) if drawn < MAX_DRAWN else []
        if not len(seen):
            continue
        codes = [batch.column("code")[i].as_py() for i in seen]
        geometries = shapely.from_wkb([batch.column(GEOMETRY)[i].as_py() for i in seen])
        _, xy, (rings, polygons) = shapely.to_ragged_array(geometries)
        colrow = _to_pixels(xy, place.georeference) / place.stride
        owner = np.repeat(np.arange(len(codes)), np.diff(polygons))
        begin = rings[:-1].astype(np.int64)
        extent = np.max([np.maximum.reduceat(v, begin) - np.minimum.reduceat(v, begin) for v in colrow.T.copy()], axis=0)
        # Rings smaller than a pixel of the picture would only be dust in it.
        for ring in np.flatnonzero(extent >= SMALLEST_DRAWN_PX)[: MAX_DRAWN - drawn].tolist():
            line = _thinned(colrow[rings[ring] : rings[ring + 1]])
            draw.line(line.ravel().tolist(), fill=_bright(by_code.get(codes[owner[ring]], (255, 255, 0))), width=1)
            drawn += 1
    _draw_border(overlay, place)
    return Panels(photo, colors[classes], np.asarray(overlay))


def save_panels(path: Path, panels: Panels, place: PicturePlace) -> Picture:
    """Write the parts side by side as PNG; returns the picture."""
    from PIL import Image

    parts = [Image.fromarray(part) for part in (panels.image, panels.classes, panels.overlay)]
    sheet = sheet_of(parts, place)
    sheet.save(path, format="PNG", compress_level=2)
    return sheet


def _seen(geometries: pa.BinaryArray, place: PicturePlace) -> list[int]:
    """The polygons of a batch that may have a ring to draw: most have none, and need not be taken apart for that."""
    left, low, right, high = boxes_of(geometries).T
    corners = [_to_pixels(np.stack([x, y], axis=1), place.georeference) for x in (left, right) for y in (low, high)]
    extent = np.ptp(corners, axis=0).max(axis=1) / place.stride
    return np.flatnonzero(extent > SMALLEST_BOX_PX).tolist()


def sheet_of(panels: Sequence[Picture], place: PicturePlace) -> Picture:
    """Panels of one size side by side, or one below the other where they are wide; the border of an area is drawn on each."""
    from PIL import Image

    for panel in panels:
        _draw_border(panel, place)
    width, height = panels[0].size
    across, count, gaps = width <= 2 * height, len(panels), (len(panels) - 1) * GAP
    sheet = Image.new("RGB", (count * width + gaps, height) if across else (width, count * height + gaps), BACKGROUND)
    for i, panel in enumerate(panels):
        sheet.paste(panel, (i * (width + GAP), 0) if across else (0, i * (height + GAP)))
    return sheet


def _draw_border(panel: Picture, place: PicturePlace) -> None:
    from PIL import ImageDraw

    for points in place.border or ():
        ImageDraw.Draw(panel).line(_thinned(points).ravel().tolist(), fill=BORDER, width=1)


def _thinned(points: F64) -> F64:
    """The points without those that fall on the same pixel of the picture as the one before."""
    pixel = np.floor(points).astype(np.int64)
    keep = np.ones(len(points), np.bool_)
    keep[1:] = (pixel[1:] != pixel[:-1]).any(axis=1)
    return points[keep]


def _to_pixels(xy: F64, georeference: Georeference) -> F64:
    """(N, 2) (col, row) of coordinates in the CRS."""
    rows, cols = georeference.rows_cols(xy)
    return np.stack([cols, rows], axis=1)


def _bright(rgb: tuple[int, int, int]) -> tuple[int, int, int]:
    """A colour that stands out from dark imagery."""
    red, green, blue = (int(v + (255 - v) * 0.45) for v in rgb)
    return red, green, blue
