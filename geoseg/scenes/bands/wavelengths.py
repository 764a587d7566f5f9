"""Roles of bands by the wavelength of their centre, as tags and names tell it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

__all__ = ["UNITS_TAGS", "agree", "contradicts", "only_wavelengths", "role_of_length", "wavelength_of"]

WAVELENGTH_TAG = re.compile(r"(?:eo)?(?:cent(?:ral|er|re))?wavelengths?(?P<unit>nm|um|nanometers|micrometers)?")
UNITS_TAGS = ("wavelengthunits", "wavelengthunit", "units", "unit")
"""Tags of bands, in lower case, letters and digits only."""
NANOMETRES = (350, 2500)
VISIBLE = 750
"""Descriptions that are nothing but numbers within these, one of them of visible light, are wavelengths."""
WAVELENGTH = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>nm|nanomet\w*|um|µm|μm|micromet\w*|microns?)\b", re.IGNORECASE)
RANGES = (
    (0.400, 0.452, "coastal"),
    (0.452, 0.515, "blue"),
    (0.515, 0.598, "green"),
    (0.598, 0.630, "yellow"),
    (0.630, 0.690, "red"),
    (0.690, 0.790, "rededge"),
    (0.790, 0.855, "nir"),
    (0.855, 0.900, "nir08"),
    (0.900, 1.000, "nir09"),
    (1.340, 1.410, "cirrus"),
    (1.500, 1.750, "swir16"),
    (2.000, 2.400, "swir22"),
    (8.000, 14.00, "thermal"),
)
"""Least and largest centre in micrometres."""
SLACK_UM = 0.04
"""A band's centre may lie so far outside of the range of what it is called."""


def only_wavelengths(descriptions: Sequence[str | None]) -> list[str] | None:
    """Descriptions that are the centres of all bands in nanometres, and nothing else."""
    texts = [(text or "").strip() for text in descriptions]
    plain = len({*texts}) > 1 and all(re.fullmatch(r"\d{3,4}(?:\.\d+)?", text) for text in texts)
    lengths = [float(text) for text in texts] if plain else []
    # Years are such numbers, too; a camera has a band of light that is seen.
    seen = any(NANOMETRES[0] <= length < VISIBLE for length in lengths)
    return texts if seen and all(NANOMETRES[0] <= length <= NANOMETRES[1] for length in lengths) else None


def agree(one: str, other: str) -> bool:
    """Whether two roles can be meant by the same band: ``rededge`` and ``rededge2``, ``nir`` and ``nir08``."""
    return one.rstrip("0123456789") == other.rstrip("0123456789")


def wavelength_of(names: Sequence[str], tags: Mapping[str, str]) -> float | None:
    """The centre in micrometres."""
    for key, value in tags.items():
        named, number = WAVELENGTH_TAG.fullmatch(key), re.match(r"\s*(\d+(?:\.\d+)?)", value)
        if named is not None and number is not None:
            unit = named["unit"] or next((tags[u] for u in UNITS_TAGS if u in tags), "")
            return _micrometres(float(number[1]), f"{value} {unit}")
    for name in names:
        match = WAVELENGTH.search(name)
        if match is not None:
            return _micrometres(float(match["number"]), match["unit"])
    return None


def _micrometres(number: float, text: str) -> float:
    """By its unit; a number without one is in nanometres where it could be nothing else."""
    nano = re.search(r"\bnm|nano", text, re.IGNORECASE) is not None or number > 100
    return number / 1000 if nano else number


def role_of_length(micrometres: float) -> str | None:
    """The role whose range holds a centre, in micrometres."""
    return next((role for low, high, role in RANGES if low <= micrometres < high), None)


def contradicts(role: str, micrometres: float) -> bool:
    """Whether a centre, in micrometres, lies well outside of the range of a role."""
    spans = [(low, high) for low, high, name in RANGES if agree(name, role)]
    return bool(spans) and not any(low - SLACK_UM <= micrometres < high + SLACK_UM for low, high in spans)
