"""Choices among the assets of many items, which are made once for those that are alike but for their addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from geoseg.scenes.products.product_facts import QualityKind
from geoseg.scenes.stac.assets import (
    LISTS_OF_BANDS,
    OF_ASSET,
    Chosen,
    bands_of_asset,
    choose_assets,
    is_geotiff,
    texts_of_platform,
    told_bands,
)
from geoseg.scenes.stac.told import ToldBand

__all__ = ["Choice", "Forms"]

QUALITY_KEYS: Mapping[QualityKind, re.Pattern[str]] = {
    "scl": re.compile(r"scl(?:_\d\dm)?", re.IGNORECASE),
    "qa": re.compile(r"qa_?pixel", re.IGNORECASE),
    "fmask": re.compile(r"fmask", re.IGNORECASE),
    "udm2": re.compile(r"(?:ortho_|basic_)?udm2", re.IGNORECASE),
}
"""Keys of quality layers in catalogues of Sentinel-2, Landsat Collection 2, HLS and PlanetScope."""
SIGNS = ("type", "roles", *LISTS_OF_BANDS, *OF_ASSET, "name", "common_name", "scale", "offset")
"""Fields of an asset that say whether it is an image, and of which bands."""
MOST_FORMS = 8
"""Forms of items that are remembered: those of a search have one a collection and satellite."""


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """What is taken of an item."""

    chosen: tuple[Chosen, ...]
    """The assets that make a scene."""
    bands: tuple[tuple[ToldBand, ...], ...]
    """What is told of the bands of each."""
    quality: tuple[tuple[QualityKind, str], ...]
    """Kinds and keys of assets that say where the ground is hidden."""


class Forms:
    """Chooses assets of many items, which are alike but for their addresses: once for those that are.

    Args:
        names: The assets that were asked for; None to choose.
        bands: The bands that are needed, by name or by what they show.
    """

    def __init__(self, names: Sequence[str] | None, bands: Sequence[str]) -> None:
        self._names, self._bands = names, bands
        self._forms: list[tuple[list[object], Choice]] = []
        self.any_chosen = False
        """Whether any item had what is asked for."""

    def of(self, item: Mapping[str, object], assets: Mapping[str, object]) -> Choice:
        """What is taken of an item; raises as ``choose_assets``."""
        signs = _signs(item, assets)
        for known, choice in self._forms:
            if known == signs:
                return choice
        chosen = choose_assets(item, assets, self._names, self._bands)
        self.any_chosen = True
        found = [asset if isinstance(asset := assets[one.name], Mapping) else {} for one in chosen]
        bands = tuple(told_bands(item, asset) for asset in found)
        choice = Choice(chosen, bands, tuple(_quality(assets)))
        if signs is not None:
            self._forms = [(signs, choice), *self._forms[: MOST_FORMS - 1]]
        return choice


def _quality(assets: Mapping[str, object]) -> Iterator[tuple[QualityKind, str]]:
    """Kinds and keys of the GeoTIFFs among assets that are quality layers, by their keys or the name of their band."""
    for name, asset in assets.items():
        if isinstance(asset, Mapping) and is_geotiff(asset):
            bands = bands_of_asset(asset)
            names = (name, bands[0][0] if len(bands) == 1 else None)
            kinds = (kind for text in names if text for kind, key in QUALITY_KEYS.items() if key.fullmatch(text))
            if (kind := next(kinds, None)) is not None:
                yield kind, name


def _signs(item: Mapping[str, object], assets: Mapping[str, object]) -> list[object] | None:
    """All that a choice looks at; None where it looks at addresses, too."""
    signs: list[object] = [*texts_of_platform(item)]
    for name, asset in assets.items():
        if not isinstance(asset, dict) or not isinstance(asset.get("type"), str):
            return None
        signs += [name, *map(asset.get, SIGNS)]
    return signs
