"""Pictures of tiles: PNG of codes with a palette, WebP of images."""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np

from geoseg.arrays import U8, Bools
from geoseg.codes import MAX_CONFIDENCE

__all__ = ["CLEAR", "Palette", "confidence_palette", "palette_of", "png_of_codes", "webp_of_image"]

CLEAR = 255
"""The code that is transparent in every palette."""
RAMP = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
"""Viridis (BIDS, CC0), which the colour-blind distinguish and which grows lighter with the value."""
QUALITY = 85

Palette = tuple[bytes, bytes]
"""Red, green and blue of 256 codes, and the opacity of each."""


def palette_of(colors: Iterable[tuple[int, tuple[int, int, int]]]) -> Palette:
    """The palette of ``(code, (red, green, blue))``; all other codes are transparent."""
    rgb, alpha = np.zeros((256, 3), np.uint8), np.zeros(256, np.uint8)
    for code, color in colors:
        rgb[code], alpha[code] = color, 255
    alpha[CLEAR] = 0
    return rgb.tobytes(), alpha.tobytes()


def confidence_palette() -> Palette:
    """The palette of confidence, 0 to 100 percent, from dark to light."""
    steps = np.linspace(0, MAX_CONFIDENCE, len(RAMP))
    shades = np.stack([np.interp(np.arange(MAX_CONFIDENCE + 1), steps, channel) for channel in np.array(RAMP).T], axis=1)
    return palette_of((value, (int(r), int(g), int(b))) for value, (r, g, b) in enumerate(shades.round().tolist()))


def png_of_codes(codes: U8, palette: Palette) -> bytes:
    """A PNG of (h, w) codes, whose chunks ``PLTE`` and ``tRNS`` have 256 entries: a browser hides a class by one byte."""
    from PIL import Image

    picture = Image.fromarray(codes, mode="L")
    picture.putpalette(palette[0])
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=3, transparency=palette[1], bits=8)
    return out.getvalue()


def webp_of_image(rgb: U8, valid: Bools) -> bytes:
    """A WebP of (h, w, 3) colours, transparent where not ``valid`` (h, w)."""
    # Of its own accord, Pillow looks for the writer in all of its forty formats, which takes longer than the tile.
    from PIL import Image, WebPImagePlugin  # noqa: F401 - registers its format

    rgba = np.dstack([rgb, np.where(valid, np.uint8(255), np.uint8(0))])
    out = io.BytesIO()
    Image.fromarray(rgba).save(out, "WEBP", quality=QUALITY, method=0)
    return out.getvalue()
