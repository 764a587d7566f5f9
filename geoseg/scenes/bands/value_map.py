"""The mapping of the values of bands to what a model takes: scale, offset and limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from geoseg.dialect import setting
from geoseg.errors import ConfigError, DtypeError
from geoseg.scenes.remote import shown
from geoseg.scenes.scene import Band, Scene

__all__ = ["ValueMap", "value_map"]

SHOWN_REFLECTANCE = 0.3
"""Of land; images of 8 bits mostly end near it."""
REFLECTANCES: Mapping[str | None, float] = {"top-of-atmosphere reflectance": 0.3558, "surface reflectance": 0.2}
"""Reflectance at which the true-colour images of Sentinel-2 products (TCI) end, L1C and L2A: it is 255 there, and 0 is 1."""
DN = 10_000
"""What a reflectance of 1 is in whole numbers, as most products have it."""


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
        return _rescaled(value_range, rescale)
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
    if (values := _of_reflectances(scene, bands, dtype, value_range)) is not None:
        return values
    ones, zeros = (1.0,) * len(bands), (0.0,) * len(bands)
    same_kind = {band.dtype for band in bands} <= ({"float32", "float64"} if dtype.startswith("float") else {dtype})
    if not same_kind:
        span = f" of {value_range[0]:g}..{value_range[1]:g}" if value_range else ""
        raise DtypeError(
            f"{scene.path}: {', '.join(dict.fromkeys(b.dtype for b in bands))} pixels, but the model takes {dtype}{span}; "
            f"pass {setting('rescale', 'LOW,HIGH')}, the pixel values for the ends of that range: {_product_scale(bands)}; or "
            f"{setting('rescale', 'auto')}, under which the image looks most like what the model has learned from"
        )
    stored = next((band for band in bands if band.quantity is not None and band.offset != 0), None)
    note = None
    if stored is not None:
        note = (
            f"values are passed on as they are stored, 0 being {stored.offset:g}: the model's card tells neither a "
            "value_range of reflectances (0..1 or 0..10000) nor physical values"
        )
    return ValueMap(ones, zeros, note=note)


def _rescaled(value_range: tuple[float, float] | None, rescale: Sequence[tuple[float, float]]) -> ValueMap:
    """The mapping of ranges that were asked for to the model's."""
    if value_range is None:
        raise ConfigError(f"{setting('rescale')}: the model's card gives no value_range to map to")
    if any(high <= low for low, high in rescale):
        raise ConfigError(f"{setting('rescale')}: the upper value must be above the lower one: {list(rescale)}")
    to_low, to_high = value_range
    scale = tuple((to_high - to_low) / (high - low) for low, high in rescale)
    offset = tuple(to_low - s * low for s, (low, _) in zip(scale, rescale, strict=True))
    span = ", ".join(f"{low:g}..{high:g}" for low, high in dict.fromkeys(rescale))
    return ValueMap(scale, offset, to_low, to_high, f"values {span} rescaled to the model's {to_low:g}..{to_high:g}")


def _of_reflectances(scene: Scene, bands: Sequence[Band], dtype: str, value_range: tuple[float, float] | None) -> ValueMap | None:
    """The mapping from a product's reflectances to what a model takes, where its range tells which form of them that is.

    Models of 8-bit true colour get Sentinel-2 products as their own true-colour images show them (ESA, Sentinel-2 user guide,
    definitions: reflectances are coded from 1 to 255, 0 is no data).
    """
    if value_range is None or not all(band.quantity in REFLECTANCES for band in bands):
        return None
    kinds = {None if one.product is None else one.product.kind for one in scene.dates or (scene,)}
    colors = {(band.role or "").partition("@")[0] for band in bands} <= {"red", "green", "blue"}
    if dtype.startswith("float") and value_range[0] <= 0 < value_range[1] <= 2:
        factors, shift, low, high, words = [1.0] * len(bands), 0.0, float("-inf"), float("inf"), "reflectances"
    elif value_range[0] == 0 and value_range[1] == DN:
        factors, shift, low, high, words = [float(DN)] * len(bands), 0.0, 0.0, float("inf"), f"reflectances times {DN}"
    elif dtype == "uint8" and value_range[0] == 0 and value_range[1] == 255 and colors and kinds == {"sentinel2"}:
        factors, shift, low, high = [254 / REFLECTANCES[band.quantity] for band in bands], 1.0, 1.0, 255.0
        words = f"true colour as of the product's TCI, reflectances 0..{REFLECTANCES[bands[0].quantity]:g} as 1..255"
    else:
        return None
    scale = tuple(factor * band.scale for factor, band in zip(factors, bands, strict=True))
    offset = tuple(factor * band.offset + shift for factor, band in zip(factors, bands, strict=True))
    how = f"scale {bands[0].scale:g}, offset {bands[0].offset:g}"
    return ValueMap(scale, offset, low, high, f"values of the product ({how}) are given to the model as {words}")


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
