"""Choosing the bands that a model takes, and the mapping of their values to what it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geoseg.errors import BandError, ConfigError, DtypeError
from geoseg.scenes.remote import shown
from geoseg.scenes.scene import Band, Scene

__all__ = ["ValueMap", "choose_bands", "value_map"]


MOST_LISTED = 30
"""A message names so many bands: a file may have 65,535."""


def choose_bands(scene: Scene, wanted: Sequence[str], chosen: Sequence[str] | None) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Which of the scene's bands the model gets, in the model's order.

    Args:
        scene: The scene.
        wanted: Names of the model's bands.
        chosen: What the user asked for: band numbers from 1, or names; None to choose by name, then by colour
            interpretation, then, where the counts agree and nothing speaks against it, by order.

    Returns:
        Indices into ``scene.bands``, and notes for the report.

    Raises:
        BandError: The bands are missing or ambiguous.
    """
    if chosen is not None:
        return _by_user(scene, wanted, chosen), ()
    names = [band.name for band in scene.bands]
    colors = [band.color for band in scene.bands]
    for labels in (names, colors):
        if all(labels.count(name) == 1 for name in wanted):
            return tuple(labels.index(name) for name in wanted), ()
    merged = [name if name in wanted else color for name, color in zip(names, colors, strict=True)]
    if all(merged.count(name) == 1 for name in wanted):
        return tuple(merged.index(name) for name in wanted), ()
    known = {name for name in merged if name in wanted}
    if len(scene.bands) == len(wanted) and not known:
        note = f"bands are not named, so they are taken in the order of the file as {', '.join(wanted)}"
        return tuple(range(len(wanted))), (note,)
    listing = _listing(scene)
    if len(scene.bands) < len(wanted):
        raise BandError(
            f"{scene.path}: the model takes {len(wanted)} bands ({', '.join(wanted)}), the file has {len(scene.bands)}: {listing}"
        )
    raise BandError(
        f"{scene.path}: the model takes {len(wanted)} bands ({', '.join(wanted)}), and which of the file's {len(scene.bands)} "
        f"they are is not clear: {listing}; name them with --bands, for example --bands {','.join(str(i + 1) for i in range(len(wanted)))}"
    )


def _listing(scene: Scene) -> str:
    more = len(scene.bands) - MOST_LISTED
    first = ", ".join(f"{i} {band.label}" for i, band in enumerate(scene.bands[:MOST_LISTED], start=1))
    return first if more <= 0 else f"{first} and {more:,} more"


def _by_user(scene: Scene, wanted: Sequence[str], chosen: Sequence[str]) -> tuple[int, ...]:
    if len(chosen) != len(wanted):
        raise BandError(
            f"--bands: {len(chosen)} bands ({', '.join(chosen)}), but the model takes {len(wanted)} ({', '.join(wanted)})"
        )
    result = []
    for text in chosen:
        if text.strip().isdigit():
            index = int(text) - 1
            if not 0 <= index < len(scene.bands):
                raise BandError(f"{scene.path}: --bands: no band {text}; the file has {len(scene.bands)}: {_listing(scene)}")
        else:
            labels = [text.strip().lower() in (band.name, band.color) for band in scene.bands]
            if labels.count(True) != 1:
                raise BandError(f"{scene.path}: --bands: {labels.count(True)} bands are named {text!r}: {_listing(scene)}")
            index = labels.index(True)
        result.append(index)
    return tuple(result)


@dataclass(frozen=True, slots=True)
class ValueMap:
    """How pixel values become the values that the model takes: ``value = pixel * scale + offset``, then clipped."""

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
            raise ConfigError("--rescale: the model's card gives no value_range to map to")
        if any(high <= low for low, high in rescale):
            raise ConfigError(f"--rescale: the upper value must be above the lower one: {list(rescale)}")
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
                f"{shown(scene.files[file].path)}: the model takes physical values, but the file ({own[0].dtype}) has no scale and offset tags; "
                "pass --rescale LOW,HIGH, the pixel values that stand for the ends of the model's range"
            )
        note = None if plain else f"scale and offset of the file applied: {bands[0].scale:g}, {bands[0].offset:g}"
        return ValueMap(tuple(b.scale for b in bands), tuple(b.offset for b in bands), note=note)
    ones, zeros = (1.0,) * len(bands), (0.0,) * len(bands)
    same_kind = {band.dtype for band in bands} <= ({"float32", "float64"} if dtype.startswith("float") else {dtype})
    if not same_kind:
        span = f" of {value_range[0]:g}..{value_range[1]:g}" if value_range else ""
        raise DtypeError(
            f"{scene.path}: {', '.join(dict.fromkeys(b.dtype for b in bands))} pixels, but the model takes {dtype}{span}; "
            "pass --rescale LOW,HIGH (the pixel values for the ends of that range) or --rescale auto (2nd and 98th percentile)"
        )
    return ValueMap(ones, zeros)
