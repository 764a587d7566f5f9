"""The mapping of the values of bands to what a model takes: scale, offset and limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geoseg.dialect import setting
from geoseg.errors import ConfigError, DtypeError
from geoseg.scenes.remote import shown
from geoseg.scenes.scene import Band, Scene

__all__ = ["ValueMap", "value_map"]

SHOWN_REFLECTANCE = 0.3
"""Of land; images of 8 bits mostly end near it."""


@dataclass(frozen=True, slots=True)
class ValueMap:
    """A mapping of pixel values to those that the model takes: ``value = pixel * scale + offset``, then clipped."""

    scale: tuple[float, ...]
    """By band."""
    offset: tuple[float, ...]
    """By band."""
    low: float = float("-inf")
    """Smallest value passed to the model."""
    high: float = float("inf")
    """Largest value passed to the model."""
    note: str | None = None
    """What was done, for the report; None where values are passed on as they are."""


def value_map(
    scene: Scene,
    bands: Sequence[Band],
    *,
    dtype: str,
    value_range: tuple[float, float] | None,
    physical: bool,
    rescale: Sequence[tuple[float, float]] | None,
) -> ValueMap:
    """The mapping from a scene's pixels to the values that a model takes.

    Args:
        scene: The scene, for messages.
        bands: The bands that the model gets.
        dtype: The model's data type.
        value_range: The range of the model's values.
        physical: Whether the model takes physical values, so that the file's scale and offset are applied.
        rescale: By band, the pixel values that are mapped to the ends of the model's range, as the user asked.

    Raises:
        DtypeError: The scene's values are not what the model takes, and nothing says how to convert them.
    """
    if rescale is not None:
        if value_range is None:
            raise ConfigError(f"{setting('rescale')}: the model's card gives no value_range to map to")
        if any(high <= low for low, high in rescale):
            raise ConfigError(f"{setting('rescale')}: the upper value must be above the lower one: {list(rescale)}")
        to_low, to_high = value_range
        scale = tuple((to_high - to_low) / (high - low) for low, high in rescale)
        offset = tuple(to_low - s * low for s, (low, _) in zip(scale, rescale, strict=True))
        span = ", ".join(f"{low:g}..{high:g}" for low, high in dict.fromkeys(rescale))
        return ValueMap(scale, offset, to_low, to_high, f"values {span} rescaled to the model's {to_low:g}..{to_high:g}")
    if physical:
        plain = all(band.scale == 1 and band.offset == 0 for band in bands)
        for file in sorted({band.file for band in bands}):
            own = [band for band in bands if band.file == file]
            if any(band.scale != 1 or band.offset != 0 or not np.issubdtype(np.dtype(band.dtype), np.integer) for band in own):
                continue
            raise DtypeError(
                f"{shown(scene.files[file].path)}: the model takes physical values, but the file ({own[0].dtype}) has no scale "
                f"and offset tags; pass {setting('rescale', 'LOW,HIGH')}, the pixel values that stand for the ends of the "
                "model's range"
            )
        note = None if plain else f"scale and offset of the file applied: {bands[0].scale:g}, {bands[0].offset:g}"
        return ValueMap(tuple(b.scale for b in bands), tuple(b.offset for b in bands), note=note)
    ones, zeros = (1.0,) * len(bands), (0.0,) * len(bands)
    same_kind = {band.dtype for band in bands} <= ({"float32", "float64"} if dtype.startswith("float") else {dtype})
    if not same_kind:
        span = f" of {value_range[0]:g}..{value_range[1]:g}" if value_range else ""
        raise DtypeError(
            f"{scene.path}: {', '.join(dict.fromkeys(b.dtype for b in bands))} pixels, but the model takes {dtype}{span}; "
            f"pass {setting('rescale', 'LOW,HIGH')}, the pixel values for the ends of that range: {_product_scale(bands)}; or "
            f"{setting('rescale', 'auto')}, under which the image looks most like what the model has learned from"
        )
    return ValueMap(ones, zeros)


def _product_scale(bands: Sequence[Band]) -> str:
    """The range in which products with such pixels are shown, as far as the file tells."""
    first = bands[0]
    if first.scale != 1 and 0 < first.scale < 1:
        low, high = ((value - first.offset) / first.scale for value in (0.0, SHOWN_REFLECTANCE))
        return f"by the file's own scale and offset {low:.0f},{high:.0f} for reflectances of 0 to {SHOWN_REFLECTANCE:g}"
    if np.issubdtype(np.dtype(first.dtype), np.floating):
        return f"for reflectances of 0..1 0,{SHOWN_REFLECTANCE:g}"
    return (
        "the product's own scale first, for reflectances that count 0..10000 (Sentinel-2 L2A, Planet, HLS) "
        f"0,{10000 * SHOWN_REFLECTANCE:.0f}, 1000 more for both where they are given with 1000 added"
    )
