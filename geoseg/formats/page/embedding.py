"""Pictures within a page, of bounded size."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from geoseg.arrays import U8
from geoseg.formats.page.elements import Picture, ScaleBar
from geoseg.formats.sheet.frame import length_text, round_length

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["drawing", "photo", "scale_bar"]

MOST_BYTES = 400_000
"""Of a picture before it becomes text, which adds a third."""
SIDE = 900
QUALITIES = (82, 70, 55)
BAR = 0.3
"""Most of the picture's width that a scale bar takes."""


def photo(image: U8, alt: str, caption: str = "", *, side: int = SIDE, most: int = MOST_BYTES) -> Picture:
    """(h, w, 3) of what a camera has seen, as JPEG; smaller and coarser until it fits.

    Args:
        image: The pixels.
        alt: What it shows.
        caption: Stands below it.
        side: Most pixels a side.
        most: Most bytes.
    """
    import PIL.Image

    whole = PIL.Image.fromarray(np.ascontiguousarray(image))
    for small in _smaller(whole, side, PIL.Image.Resampling.BOX):
        for quality in QUALITIES:
            data = _bytes(small, "JPEG", quality=quality)
            if len(data) <= most:
                return _picture(data, "image/jpeg", small, alt, caption, crisp=False)
    raise AssertionError("a picture of one pixel fits")


def drawing(image: U8, alt: str, caption: str = "", *, side: int = SIDE, most: int = MOST_BYTES) -> Picture:
    """(h, w, 3) of few colours, which are kept as they are, as PNG; smaller until it fits."""
    import PIL.Image

    whole = PIL.Image.fromarray(np.ascontiguousarray(image))
    for small in _smaller(whole, side, PIL.Image.Resampling.NEAREST):
        # Colours by number are a third of the bytes; more than 256 there are not.
        numbered = small.quantize(256, method=PIL.Image.Quantize.FASTOCTREE, dither=PIL.Image.Dither.NONE)
        same = numbered.convert("RGB").tobytes() == small.tobytes()
        data = _bytes(numbered if same else small, "PNG", compress_level=9)
        if len(data) <= most:
            return _picture(data, "image/png", small, alt, caption, crisp=True)
    raise AssertionError("a picture of one pixel fits")


def scale_bar(pixels: int, pixel_m: float | None) -> ScaleBar | None:
    """A bar of a round length for a picture that shows so many pixels of so many metres a row; None where that is unknown."""
    if not pixel_m or pixels < 1:
        return None
    whole = pixels * pixel_m
    length = round_length(BAR * whole)
    return ScaleBar(length_text(length), length / whole)


def _smaller(image: Image, side: int, resampling: int) -> Iterator[Image]:
    while True:
        factor = min(1.0, side / max(image.size))
        size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
        yield image if size == image.size else image.resize(size, resampling)
        side = max(1, side * 3 // 4)


def _bytes(image: Image, form: str, **options: int) -> bytes:
    out = io.BytesIO()
    image.save(out, format=form, **options)
    return out.getvalue()


def _picture(data: bytes, media: str, image: Image, alt: str, caption: str, *, crisp: bool) -> Picture:
    uri = f"data:{media};base64,{base64.b64encode(data).decode('ascii')}"
    return Picture(uri, image.width, image.height, alt, caption, crisp)
