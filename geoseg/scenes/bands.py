"""Choosing the bands that a model takes, and the mapping of their values to what it takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from geoseg.errors import BandError, ConfigError, DtypeError
from geoseg.scenes.band_roles import ALPHA, agree, readings
from geoseg.scenes.remote import shown
from geoseg.scenes.scene import Band, Scene

__all__ = ["ValueMap", "choose_bands", "value_map"]

SHOWN_REFLECTANCE = 0.3
"""Of land; images of 8 bits mostly end near it."""


MOST_LISTED = 30
"""A message names so many bands: a file may have 65,535."""


def choose_bands(scene: Scene, wanted: Sequence[str], chosen: Sequence[str] | None) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Which of the scene's bands the model gets, in the model's order.

    Names come first, then what names and wavelengths tell of (``B04`` of Sentinel-2 is red), then colour interpretation where
    the band has no name that says otherwise; and order, where the counts agree and nothing speaks against it.

    Args:
        scene: The scene.
        wanted: Names of the model's bands.
        chosen: What the user asked for: band numbers from 1, or names; None to choose by what the file says.

    Returns:
        Indices into ``scene.bands``, and notes for the report.

    Raises:
        BandError: The bands are missing or ambiguous, or what the file says of them differs.
    """
    if chosen is not None:
        return _by_user(scene, wanted, chosen), ()
    _refuse_conflicts(scene, wanted)
    for labels in _labels(scene, wanted):
        if all(labels.count(name) == 1 for name in wanted):
            found = tuple(labels.index(name) for name in wanted)
            return found, _notes(scene, wanted, found)
    known = {name for labels in _labels(scene, wanted) for name in labels if name in wanted}
    told = [band.role for band in scene.bands if band.role is not None]
    if len(scene.bands) == len(wanted) and not known and not told:
        note = f"bands are not named, so they are taken in the order of the file as {', '.join(wanted)}"
        return tuple(range(len(wanted))), (note,)
    listing, takes = _listing(scene), f"the model takes {len(wanted)} bands ({', '.join(wanted)})"
    if len(scene.bands) < len(wanted):
        raise BandError(f"{scene.path}: {takes}, the file has {len(scene.bands)}: {listing}")
    raise BandError(
        f"{scene.path}: {takes}, and which of the file's {len(scene.bands)} they are is not clear: {listing}; "
        f"name them with --bands, {_example(scene, wanted)}"
    )


def _labels(scene: Scene, wanted: Sequence[str]) -> Iterator[list[str | None]]:
    """What the bands can be called, the surest names first."""
    names, roles = [band.name for band in scene.bands], [band.role for band in scene.bands]
    colors = _colors(scene)
    told = [_wanted_role(role, wanted, roles) for role in roles]
    yield list(names)
    yield list(told)
    named = [name if name in wanted else role for name, role in zip(names, told, strict=True)]
    yield named
    yield list(colors)
    yield [name if name in wanted else color for name, color in zip(named, colors, strict=True)]


def _colors(scene: Scene) -> list[str | None]:
    """The colours that say something, where the band has no name that says something else.

    All that somebody chose, and GDAL's default where it can be that of bands with such names: ``SR_B2`` is blue or green, as the
    satellite is, and never red; where no satellite's bands are coloured so, none of them are.
    """
    colors = [band.color for band in scene.bands]
    read = [roles for roles in readings([band.name for band in scene.bands]).values() if any(role is not None for role in roles)]
    fits = not read or any(
        all(role is None or color == ALPHA or agree(role, color) for role, color in zip(roles, colors, strict=True))
        for roles in read
    )
    return [
        band.color
        if (fits or band.told_color) and (band.role is None or (band.told_color and agree(band.role, band.color)))
        else None
        for band in scene.bands
    ]


def _wanted_role(role: str | None, wanted: Sequence[str], roles: Sequence[str | None]) -> str | None:
    """A role as the model calls it: ``nir08`` is its ``nir`` where the file has no nearer one."""
    if role is None or role in wanted:
        return role
    near = [name for name in wanted if agree(name, role) and name not in roles]
    return near[0] if len(near) == 1 and sum(r is not None and agree(r, near[0]) for r in roles) == 1 else role


def _refuse_conflicts(scene: Scene, wanted: Sequence[str]) -> None:
    """Refuse a scene of which what is written about its bands differs, where the model's bands are concerned.

    Raises:
        BandError: It does.
    """
    for number, band in enumerate(scene.bands, 1):
        if band.conflict is None or (band.name in wanted and band.role is None):
            continue
        told = {band.role, band.color} - {None}
        if any(agree(str(label), name) for label in told for name in (*wanted, ALPHA)):
            raise BandError(
                f"{scene.path}: band {number}: {band.conflict}; correct the file, or say which bands to take with --bands, "
                f"{_example(scene, wanted)}"
            )


def _notes(scene: Scene, wanted: Sequence[str], found: Sequence[int]) -> tuple[str, ...]:
    """A note where names beat the colours that GDAL gives by default."""
    bands = [scene.bands[i] for i in found]
    if not any(not b.told_color and b.role is not None and b.color != b.role for b in bands):
        return _note_of_defaults(scene, wanted, found)
    taken = ", ".join(
        f"{name} is band {i + 1}" + (f" ({scene.bands[i].name})" if scene.bands[i].name else "")
        for name, i in zip(wanted, found, strict=True)
    )
    return (f"bands are taken by their names or wavelengths, not by the colours that GDAL gives any such file: {taken}",)


def _note_of_defaults(scene: Scene, wanted: Sequence[str], found: Sequence[int]) -> tuple[str, ...]:
    """A note where nothing but the colours that GDAL gives by default says what bands are."""
    bands = [scene.bands[i] for i in found]
    if any(b.told_color or b.role is not None or b.name in wanted for b in bands):
        return ()
    names = [str(b.name) for b in scene.bands if b.name is not None and b.role is None]
    # A file of three bands without names is what it seems.
    if not names and len(scene.bands) == len(wanted):
        return ()
    taken = ", ".join(f"{name} is band {i + 1}" for name, i in zip(wanted, found, strict=True))
    unread = f"; their names ({', '.join(names[:MOST_LISTED])}) say nothing that is known" if names else ""
    return (f"bands are taken by the colours that GDAL gives any such file: {taken}{unread}; give --bands if they are others",)


def _example(scene: Scene, wanted: Sequence[str]) -> str:
    """How ``--bands`` could be given for this file, as far as its names let one guess."""
    bands, colors = scene.bands, _colors(scene)
    told: list[list[str | None]] = [[band.role or band.name or color for band, color in zip(bands, colors, strict=True)], colors]
    for labels in told:
        if all(name in labels for name in wanted):
            return f"for example --bands {_numbers(labels, wanted)}"
    read = {title: roles for title, roles in readings([band.name for band in bands]).items() if {*wanted} <= {*roles}}
    if read:
        first = _numbers(next(iter(read.values())), wanted)
        titles = " or ".join(title for title, roles in read.items() if _numbers(roles, wanted) == first)
        return f"for example --bands {first} if the image is of {titles}"
    names = {label for labels in told for label in labels if label is not None}
    missing = [name for name in wanted if not any(agree(name, label) for label in names)]
    if len(missing) < len(wanted):
        return f"the numbers of {', '.join(wanted)} in this order; none is known to be {' or '.join(missing or wanted)}"
    return f"the numbers of {', '.join(wanted)} in this order"


def _numbers(labels: Sequence[str | None], wanted: Sequence[str]) -> str:
    return ",".join(str(labels.index(name) + 1) for name in wanted)


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
            labels = [text.strip().lower() in (band.name, band.role) for band in scene.bands]
            if not any(labels):
                labels = [text.strip().lower() == band.color for band in scene.bands]
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
                f"{shown(scene.files[file].path)}: the model takes physical values, but the file ({own[0].dtype}) has no scale "
                "and offset tags; pass --rescale LOW,HIGH, the pixel values that stand for the ends of the model's range"
            )
        note = None if plain else f"scale and offset of the file applied: {bands[0].scale:g}, {bands[0].offset:g}"
        return ValueMap(tuple(b.scale for b in bands), tuple(b.offset for b in bands), note=note)
    ones, zeros = (1.0,) * len(bands), (0.0,) * len(bands)
    same_kind = {band.dtype for band in bands} <= ({"float32", "float64"} if dtype.startswith("float") else {dtype})
    if not same_kind:
        span = f" of {value_range[0]:g}..{value_range[1]:g}" if value_range else ""
        raise DtypeError(
            f"{scene.path}: {', '.join(dict.fromkeys(b.dtype for b in bands))} pixels, but the model takes {dtype}{span}; "
            f"pass --rescale LOW,HIGH, the pixel values for the ends of that range: {_product_scale(bands)}; or --rescale "
            "auto, under which the image looks most like what the model has learned from"
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
