"""Assets of an item: which are images, what their bands are, and which of them a model needs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from geoseg.addresses import path_of
from geoseg.dialect import setting
from geoseg.scenes.bands.platforms import platform_of
from geoseg.scenes.bands.roles import roles_of
from geoseg.scenes.bands.wavelengths import agree
from geoseg.scenes.stac.hrefs import UnfitError
from geoseg.scenes.stac.told import ToldBand

__all__ = [
    "LISTS_OF_BANDS",
    "OF_ASSET",
    "Chosen",
    "NoAssetError",
    "bands_of_asset",
    "choose_assets",
    "is_geotiff",
    "texts_of_platform",
    "told_bands",
]

GEOTIFF = ("image/tiff", "image/vnd.stac.geotiff", "image/geotiff")
"""Media types of GeoTIFFs, whatever parameters follow."""
NO_DATA = {"thumbnail", "overview", "metadata", "cloud", "cloud-shadow", "snow-ice", "water-mask", "data-mask", "date"}
"""Roles of assets that are no images of the ground."""
LISTS_OF_BANDS = ("bands", "eo:bands", "raster:bands")
OF_ASSET = ("raster:scale", "raster:offset", "eo:common_name")
MAX_SIGN = 200
"""Longer texts are no names of satellites."""
MOST_BANDS = 1000
"""An asset that tells of more bands is not taken at its word."""


class NoAssetError(UnfitError):
    """An item lacks an asset that is asked for."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """An asset that becomes a file of the scene."""

    name: str
    """Its key in the item."""
    band: str | None = None
    """The model's name of its only band; None for an asset with all bands."""


def choose_assets(
    item: Mapping[str, object], assets: Mapping[str, object], names: Sequence[str] | None, bands: Sequence[str]
) -> tuple[Chosen, ...]:
    """The assets of an item that make a scene.

    Args:
        item: The item.
        assets: Its assets.
        names: Those that were asked for; None to choose.
        bands: The bands that are needed, by name or by what they show.

    Raises:
        UnfitError: They are not there, or it is not clear which they are.
    """
    label = item.get("id")
    if names is not None:
        lacks = [name for name in names if name not in assets]
        if lacks:
            raise NoAssetError(f"item {label} has no asset {', '.join(lacks)}; it has {_listed(assets)}")
        return tuple(Chosen(name, name if len(names) > 1 else None) for name in names)
    images = {name: asset for name, asset in assets.items() if isinstance(asset, Mapping) and _is_image(asset)}
    if not images:
        raise NoAssetError(f"item {label} has no GeoTIFF among its assets; it has {_listed(assets)}")
    data = {name: asset for name, asset in images.items() if "data" in _roles(asset) or not _roles(asset)}
    for group in (data, images):
        if bands and (found := _with_bands(label, _labelled(item, group), bands)):
            return found
    only = data or images
    if len(only) == 1:
        return (Chosen(next(iter(only))),)
    what = f"which of them hold {', '.join(bands)} is not told" if bands else "which of them is meant is not clear"
    raise NoAssetError(f"item {label} has the images {_listed(only)}, and {what}; name them with {setting('assets')}")


def told_bands(item: Mapping[str, object], asset: Mapping[str, object]) -> tuple[ToldBand, ...]:
    """What an item tells of the bands of an asset; none where it tells nothing."""
    bands = bands_of_asset(asset)
    roles = _roles_of(tuple((name, common) for name, common, _, _ in bands), _platform(item))
    return tuple(ToldBand(name, role, scale, offset) for (name, _, scale, offset), role in zip(bands, roles, strict=True))


def _listed(assets: Mapping[str, object]) -> str:
    names = sorted(assets)
    return ", ".join(names[:30]) + (", …" if len(names) > 30 else "") or "none"


def _is_image(asset: Mapping[str, object]) -> bool:
    return is_geotiff(asset) and not _roles(asset) & NO_DATA


def is_geotiff(asset: Mapping[str, object]) -> bool:
    """Whether an asset is a GeoTIFF, by its media type, else by its ending."""
    kind, href = asset.get("type"), asset.get("href")
    if isinstance(kind, str):
        return kind.partition(";")[0].strip().lower() in GEOTIFF
    return isinstance(href, str) and path_of(href.partition("?")[0]).lower().endswith((".tif", ".tiff"))


def _roles(asset: Mapping[str, object]) -> set[str]:
    roles = asset.get("roles")
    return {role for role in roles if isinstance(role, str)} if isinstance(roles, list) else set()


Labelled = Mapping[str, Sequence[tuple[str | None, str | None]]]
"""Of each asset, the name and the role of its bands."""


def _labelled(item: Mapping[str, object], assets: Mapping[str, Mapping[str, object]]) -> Labelled:
    """Bands by asset; an asset that tells nothing of them has one, which is called as it is."""
    bands = {name: [band[:2] for band in bands_of_asset(asset)] or [(name, None)] for name, asset in assets.items()}
    flat = [(name, pair) for name, own in bands.items() for pair in own]
    roles = _roles_of(tuple(pair for _, pair in flat), _platform(item))
    found: dict[str, list[tuple[str | None, str | None]]] = {name: [] for name in bands}
    for (name, (band, _)), role in zip(flat, roles, strict=True):
        found[name].append((None if band is None else band.lower(), role))
    return found


def _with_bands(label: object, assets: Labelled, bands: Sequence[str]) -> tuple[Chosen, ...]:
    """One asset with all bands, or one a band; none where they are not all there.

    Raises:
        NoAssetError: Several assets hold the same band.
    """
    wanted = [band.lower() for band in bands]
    whole = {name: own for name, own in assets.items() if len(own) > 1 and all(_holds(own, band, level=1) for band in wanted)}
    if whole:
        fewest = min(len(own) for own in whole.values())
        names = [name for name, own in whole.items() if len(own) == fewest]
        if len(names) > 1:
            raise _ambiguous(label, ", ".join(bands), names)
        return (Chosen(names[0]),)
    single = {name: own for name, own in assets.items() if len(own) == 1}
    chosen = []
    for band, name in zip(bands, wanted, strict=True):
        found: list[str] = []
        for level in range(3):
            found = [key for key, own in single.items() if _holds(own, name, level=level)]
            if found:
                break
        if not found:
            return ()
        if len(found) > 1:
            raise _ambiguous(label, band, found)
        chosen.append(Chosen(found[0], band if len(bands) > 1 else None))
    return tuple(chosen)


def _ambiguous(label: object, what: str, names: Sequence[str]) -> NoAssetError:
    return NoAssetError(f"item {label} has {what} in several assets ({', '.join(names)}); name one with {setting('assets')}")


def _holds(own: Sequence[tuple[str | None, str | None]], wanted: str, *, level: int) -> bool:
    """Whether an asset holds a band: by its name, then also by what it shows, then also by what is nearly that."""
    for name, role in own:
        if name == wanted or (level > 0 and role == wanted):
            return True
        if level > 1 and role is not None and agree(role, wanted):
            return True
    return False


_Band = tuple[str | None, str | None, float | None, float | None]


def bands_of_asset(asset: Mapping[str, object]) -> list[_Band]:
    """Name, common name, scale and offset of the bands of an asset: STAC 1.1's ``bands``, and the extensions before it."""
    tables = [table for key in LISTS_OF_BANDS if (table := _tables(asset.get(key)))]
    # What stands at the asset holds for each of its bands (STAC 1.1).
    own = [asset] if any(key in asset for key in OF_ASSET) else []
    if not tables:
        return [_band(own)] if own else []
    count = max(map(len, tables))
    return [_band([*(table[i] for table in tables if i < len(table)), *own]) for i in range(count)]


def _band(places: Sequence[Mapping[str, object]]) -> _Band:
    """What is said of a band, the nearest place first."""
    facts: dict[str, object] = {}
    for place in reversed(places):
        facts.update(place)
    name = _text(facts.get("name"))
    common = _text(facts.get("eo:common_name")) or _text(facts.get("common_name"))
    scale = _number(facts.get("raster:scale", facts.get("scale")))
    return name, common, scale or None, _number(facts.get("raster:offset", facts.get("offset")))


def _tables(value: object) -> list[Mapping[str, object]]:
    if not isinstance(value, list) or len(value) > MOST_BANDS:
        return []
    return [entry if isinstance(entry, dict) else {} for entry in value]


def _text(value: object) -> str | None:
    return value.strip()[:100] or None if isinstance(value, str) else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None


def _platform(item: Mapping[str, object]) -> str | None:
    """The satellite of an item, as the tables of bands call it."""
    return _platform_of(texts_of_platform(item))


def texts_of_platform(item: Mapping[str, object]) -> tuple[str, ...]:
    """The texts of an item that say which satellite it is of."""
    properties = item.get("properties")
    facts = properties if isinstance(properties, Mapping) else {}
    told = (facts.get("platform"), facts.get("constellation"), item.get("collection"))
    # Where nothing else says it, the id may.
    texts = told if any(isinstance(text, str) for text in told) else (item.get("id"),)
    return tuple(text for text in texts if isinstance(text, str) and len(text) < MAX_SIGN)


@lru_cache(maxsize=256)
def _platform_of(texts: tuple[str, ...]) -> str | None:
    return platform_of(texts)


@lru_cache(maxsize=256)
def _roles_of(bands: tuple[tuple[str | None, str | None], ...], platform: str | None) -> tuple[str | None, ...]:
    """What bands of these names and common names show; items of one collection have the same."""
    tags = [{} if common is None else {"common_name": common} for _, common in bands]
    return tuple(role.name for role in roles_of([name for name, _ in bands], tags, platform))
