"""Satellites: the roles of their bands by number, and the signs by which tags and file names tell of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from geoseg.scenes.bands.bandfiles import LANDSAT_OLI, LANDSAT_TM, SENTINEL2

__all__ = ["platform_of", "tables_of", "zero_free"]

PLATFORMS: Mapping[str, Mapping[str, str]] = {
    "Sentinel-2": SENTINEL2,
    "Landsat 8 and 9": LANDSAT_OLI,
    "Landsat 4 to 7": LANDSAT_TM,
}
SIGNS = (
    ("Sentinel-2", re.compile(r"(?<![A-Z0-9])(?:S(?:ENTINEL)?[-_ ]?2[ABC]?(?![A-Z0-9])|HLS[._]S30)")),
    ("Landsat 8 and 9", re.compile(r"(?<![A-Z0-9])(?:L[COT]0?[89](?![A-Z0-9])|LANDSAT[-_ ]?[89](?!\d)|HLS[._]L30|OLI(?![A-Z]))")),
    ("Landsat 4 to 7", re.compile(r"(?<![A-Z0-9])(?:L[TEM]0?[4-7](?![A-Z0-9])|LANDSAT[-_ ]?[4-7](?!\d)|ETM(?![A-Z]))")),
)
"""How a satellite is named in tags and file names, in upper case."""


def platform_of(texts: Iterable[str]) -> str | None:
    """The satellite that tags or file names tell of; None where they tell of none or of several."""
    found = {name for text in texts for name, sign in SIGNS if sign.search(text.upper())}
    return found.pop() if len(found) == 1 else None


def zero_free() -> dict[str, dict[str, str]]:
    """Roles by satellite and band, with names such as ``B4`` rather than ``B04``."""
    return {name: {f"B{key[1:].lstrip('0')}": role for key, role in table.items()} for name, table in PLATFORMS.items()}


def tables_of(codes: set[str], platform: str | None, *, padded: bool) -> list[dict[str, str]]:
    """Tables of roles by number: those of all satellites that the file can be of."""
    tables = zero_free()
    if platform is not None:
        return [tables[platform]]
    if padded or "B8A" in codes or "B12" in codes:
        return [tables["Sentinel-2"]]
    return [table for table in tables.values() if codes <= table.keys()]
