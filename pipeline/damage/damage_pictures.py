"""Small pictures of graded buildings: the image before, the image after, and the buildings in the colours of their classes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import shapely

from geoseg.arrays import U8
from geoseg.damage.scale import CLASSES, STYLES
from geoseg.dates.stack import StackReader
from geoseg.formats.page.elements import Picture, Pictures, Swatch
from geoseg.formats.page.embedding import SIDE, drawing, photo, scale_bar
from geoseg.formats.preview import stretched
from geoseg.grid import ceil_div
from geoseg.windows import Window
from pipeline.damage.buildings import BLOCK, CACHE_BYTES
from pipeline.damage.document import GradedBuilding
from pipeline.plan.dates import OpenedDates

__all__ = ["damage_pictures"]

MOST_BLOCKS = 256
"""Blocks of pixels that are read again for the pictures; over more of them the buildings stand on white."""
MOST_DRAWN = 200_000
MARGIN = 0.05
COLORS = ("red", "green", "blue")


def damage_pictures(graded: Sequence[GradedBuilding], opened: OpenedDates, bands: Sequence[str], name: str) -> Pictures | None:
    """Pictures of what lies around the buildings; None where no building lies on the images.

    Args:
        graded: The buildings.
        opened: The images.
        bands: Names of the bands that the model takes of a date.
        name: Of the place.
    """
    scene, whole = opened.scene, Window.of((opened.scene.height, opened.scene.width))
    shapes = np.array([one.building.shape for one in graded], object)
    codes = np.array([one.code for one in graded])
    there = shapely.intersects(shapes, shapely.box(0, 0, scene.width, scene.height))
    shapes, codes = shapes[there][:MOST_DRAWN], codes[there][:MOST_DRAWN]
    window = _around(shapes, whole)
    if window is None:
        return None
    stride = max(1, ceil_div(max(window.shape), SIDE))
    ground = _grounds(shapes, opened, bands, window, stride)
    legend = tuple(Swatch(style.color, style.name) for style in STYLES)
    sides = scene.georeference.pixel_sides(window)
    classes = ", ".join((*CLASSES, "not analysed"))
    drawn = drawing(
        _drawn(shapes, codes, ground[-1], window, stride), f"Buildings of {name} coloured by class: {classes}", "The damage"
    )
    ends = [(word, date.acquired) for word, date in (("Before", scene.dates[0]), ("After", scene.dates[-1]))]
    photos: list[Picture] = [
        photo(image, f"Image of {name} {word.lower()} the event", f"{word}{f' ({acquired})' if acquired else ''}")
        for image, (word, acquired) in zip(ground, ends, strict=True)
    ]
    return Pictures((*photos, drawn), legend, scale_bar(window.width, None if sides is None else sides[1]), swipe=True)


def _around(shapes: np.ndarray[tuple[int], np.dtype[np.object_]], whole: Window) -> Window | None:
    if not len(shapes):
        return None
    left, top, right, bottom = np.nan_to_num(shapely.total_bounds(shapes)).tolist()
    window = Window.between(int(top), int(bottom) + 1, int(left), int(right) + 1)
    return window.grown(int(MARGIN * max(window.shape)) + 8) & whole


def _grounds(
    shapes: np.ndarray[tuple[int], np.dtype[np.object_]],
    opened: OpenedDates,
    bands: Sequence[str],
    window: Window,
    stride: int,
) -> tuple[U8, U8]:
    """(h, w, 3) of the first and of the last date, read where buildings are; white elsewhere."""
    shape = ceil_div(window.height, stride), ceil_div(window.width, stride)
    tree, blocks = shapely.STRtree(shapes), []
    for row, col in product(range(0, window.height, BLOCK), range(0, window.width, BLOCK)):
        # Blocks begin at pixels that are taken.
        top, left = window.row_off + ceil_div(row, stride) * stride, window.col_off + ceil_div(col, stride) * stride
        block = Window.between(top, window.row_off + row + BLOCK, left, window.col_off + col + BLOCK) & window
        if block is not None and len(tree.query(shapely.box(left, top, block.col_stop, block.row_stop))):
            blocks.append(block)
    if len(blocks) > MOST_BLOCKS:
        blocks = []
    chosen = _colors(bands)
    pictures = [np.zeros((len(chosen), *shape), opened.scene.dtype) for _ in range(2)]
    valid = [np.zeros(shape, np.bool_) for _ in range(2)]
    with StackReader(opened.scene, opened.bands, threads=2, cache_bytes=CACHE_BYTES) as reader:
        for block in blocks:
            dates, _ = reader.by_date(block)
            row, col = (block.row_off - window.row_off) // stride, (block.col_off - window.col_off) // stride
            for picture, known, pixels in zip(pictures, valid, (dates[0], dates[-1]), strict=True):
                small = pixels.data[list(chosen)][:, ::stride, ::stride]
                there = (slice(row, row + small.shape[1]), slice(col, col + small.shape[2]))
                picture[:, *there] = small
                known[there] = pixels.valid[::stride, ::stride]
    first, last = (stretched(picture, known) for picture, known in zip(pictures, valid, strict=True))
    return first, last


def _colors(bands: Sequence[str]) -> tuple[int, ...]:
    """Places of red, green and blue among the bands of a date; the first three, or one, where they are not named."""
    plain = [name.partition("@")[0] for name in bands]
    if set(COLORS) <= set(plain):
        return tuple(plain.index(name) for name in COLORS)
    return (0, 1, 2) if len(set(plain)) > 2 else (0,)


def _drawn(
    shapes: np.ndarray[tuple[int], np.dtype[np.object_]], codes: np.ndarray, ground: U8, window: Window, stride: int
) -> U8:
    """The buildings, filled, over a pale and grey image."""
    from PIL import Image, ImageDraw

    grey = ground.mean(axis=2, keepdims=True)
    # Few shades of grey, so that the picture keeps its colours in 256 numbers.
    pale = np.repeat((160 + grey * 0.35).astype(np.uint8) // 4 * 4, 3, axis=2)
    image = Image.fromarray(pale)
    draw = ImageDraw.Draw(image)
    colors = {style.code: style.rgb for style in STYLES}
    # Small ones are a pixel and more; what is worse is drawn over what is less bad.
    for k in np.argsort(codes, kind="stable").tolist():
        for polygon in shapely.get_parts(shapes[k]).tolist():
            xy = (shapely.get_coordinates(polygon.exterior) - (window.col_off, window.row_off)) / stride
            points = [tuple(point) for point in xy.tolist()]
            draw.polygon(points, fill=colors[int(codes[k])], outline=colors[int(codes[k])])
    return np.asarray(image)
