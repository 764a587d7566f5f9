"""Roles of bands: red, near infrared, alpha, by name, wavelength or colour interpretation.

A description, a name in the band's tags and a wavelength are written by somebody who knew; the colour interpretation is often
not: GDAL calls the bands of any file of three bytes red, green and blue, and of four bytes red, green, blue and alpha, unless
it is told otherwise. Names of satellites' bands stand for roles where all satellites that can be meant agree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from geoseg.scenes.bands.platforms import platform_of, tables_of, zero_free
from geoseg.scenes.bands.wavelengths import UNITS_TAGS, agree, contradicts, only_wavelengths, role_of_length, wavelength_of

__all__ = ["ALPHA", "Role", "default_colors", "is_anonymous", "readings", "roles_of", "tags_of_bands"]

ALPHA = "alpha"
PHRASES = (
    ("near infrared", "nir"),
    ("near infra red", "nir"),
    ("near ir", "nir"),
    ("vnir", "nir"),
    ("red edge", "rededge"),
    ("coastal aerosol", "coastal"),
    ("coastal blue", "coastal"),
    ("ultra blue", "coastal"),
    ("short wave infrared", "swir"),
    ("shortwave infrared", "swir"),
)
"""Names of several words, which are looked for first."""
WORDS = {
    "red": "red",
    "green": "green",
    "blue": "blue",
    "r": "red",
    "g": "green",
    "b": "blue",
    "nir": "nir",
    "ir": "nir",
    "n": "nir",
    "nearinfrared": "nir",
    "nearir": "nir",
    "infrared": "nir",
    "nir08": "nir08",
    "nir09": "nir09",
    "nir1": "nir",
    "nir2": "nir09",
    "coastal": "coastal",
    "yellow": "yellow",
    "rededge": "rededge",
    "swir": "swir",
    "swir1": "swir16",
    "swir16": "swir16",
    "swir2": "swir22",
    "swir22": "swir22",
    "pan": "pan",
    "panchromatic": "pan",
    "thermal": "thermal",
    "tir": "thermal",
    "lwir": "thermal",
    "cirrus": "cirrus",
    "alpha": ALPHA,
    "mask": ALPHA,
    "validity": ALPHA,
    "transparency": ALPHA,
}
REDEDGE = re.compile(r"^(?:rededge|v?re)(?P<number>[1-4]?)$")
CODE = re.compile(r"^b0*(?P<number>\d{1,2}|8a)$")
PADDED = re.compile(r"^b0\d$")
ANONYMOUS = re.compile(r"^(?:band|channel|layer)?[ _-]?\d*$", re.IGNORECASE)
"""Descriptions that programs give, which say nothing but the number."""
NAME_TAGS = (
    "bandname",
    "name",
    "commonname",
    "eocommonname",
    "longname",
    "standardname",
    "band",
    "description",
    "color",
    "colour",
)
OF_BAND = re.compile(r"band0*(?P<number>[1-9]\d*)(?:name)?")
LISTS = {
    "bandnames": "bandname",
    "bands": "bandname",
    "bandname": "bandname",
    "wavelength": "wavelength",
    "wavelengths": "wavelength",
    "centerwavelength": "wavelength",
    "centerwavelengths": "wavelength",
}
"""Tags of a file that list something of each of its bands, and what that is."""


@dataclass(frozen=True, slots=True)
class Role:
    """The role of a band, and who says so."""

    name: str | None
    """``red``, ``nir``, ``alpha``, as STAC's common names; None where nothing says it."""
    source: str = ""
    """The words that say it."""
    conflict: str | None = None
    """Where two sources differ, both of them in words."""


def roles_of(
    descriptions: Sequence[str | None], tags: Sequence[Mapping[str, str]], platform: str | None = None
) -> tuple[Role, ...]:
    """Roles of the bands of a file by their names and wavelengths; colour interpretation is none of these.

    Args:
        descriptions: By band.
        tags: By band; of all domains together.
        platform: The satellite, where it is known.
    """
    lower = [dict(_split(key, value) for key, value in own.items()) for own in tags]
    if (lengths := only_wavelengths(descriptions)) is not None:
        lower = [{"wavelength": text} | own for text, own in zip(lengths, lower, strict=True)]
    names = [_names(text, own) for text, own in zip(descriptions, lower, strict=True)]
    codes = {code for some in names for text in some if (code := _code(text)) is not None}
    every = [text for some in names for text in some]
    padded = any(PADDED.match(word) for text in every for word in _words(text))
    tables = tables_of(codes, platform or platform_of(every), padded=padded)
    return tuple(_role(some, own, tables) for some, own in zip(names, lower, strict=True))


def readings(names: Sequence[str | None]) -> dict[str, list[str | None]]:
    """Roles of the bands by satellite, if the file were of it: for examples, never for decisions."""
    codes = [None if name is None else _code(name) for name in names]
    return {title: [None if code is None else table.get(code) for code in codes] for title, table in zero_free().items()}


def tags_of_bands(tags: Mapping[str, str], count: int) -> list[dict[str, str]]:
    """Tags of each band among those of a file: ``Band_1 = NIR``, or lists with an entry a band, as of ENVI's headers."""
    found: list[dict[str, str]] = [{} for _ in range(count)]
    for key, text in tags.items():
        plain = _letters(key)
        if (match := OF_BAND.fullmatch(plain)) is not None and int(match["number"]) <= count:
            found[int(match["number"]) - 1]["bandname"] = text
        elif (kind := LISTS.get(plain)) is not None:
            parts = [part.strip(" \"'\n") for part in text.strip(" {}[]()").split(",")]
            if len(parts) == count:
                for own, part in zip(found, parts, strict=True):
                    own[kind] = part
        elif plain in UNITS_TAGS:
            for own in found:
                own[plain] = text
    return found


def _split(key: str, value: str) -> tuple[str, str]:
    """A tag by the letters of its name; GDAL ends the name at a colon: ``eo:common_name=red`` is read as ``eo``."""
    match = re.fullmatch(r"(?P<name>[a-z_]+)=(?P<value>.+)", value) if key.lower() == "eo" else None
    return (_letters(key), value) if match is None else (_letters(key + match["name"]), match["value"])


def _letters(key: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", key.lower())


def _words(text: str) -> list[str]:
    return re.split(r"[^a-z0-9]+", _plain(text))


def is_anonymous(name: str) -> bool:
    """Whether a description is one that programs give, such as ``Band 1``."""
    return ANONYMOUS.match(name.strip()) is not None


def default_colors(colors: Sequence[str], dtypes: Sequence[str]) -> bool:
    """Whether the colours are those that GDAL gives any file of so many bands of bytes."""
    usual = (("red", "green", "blue"), ("red", "green", "blue", ALPHA))
    return tuple(colors) in usual and all(dtype == "uint8" for dtype in dtypes)


def _plain(text: str) -> str:
    return text.strip().lower()


def _names(description: str | None, tags: Mapping[str, str]) -> list[str]:
    given = [description, *(tags.get(key) for key in NAME_TAGS)]
    return [text for text in given if text is not None and text.strip()]


def _word(text: str) -> str | None:
    """The one role that the words of a name tell of."""
    plain = re.sub(r"[^a-z0-9]+", " ", _plain(text)).strip()
    for phrase, role in PHRASES:
        if phrase in plain:
            digits = re.search(rf"{phrase} ?(\d)\b", plain)
            return role if digits is None or role != "rededge" else f"{role}{digits[1]}"
    words = plain.split()
    if len(edges := [match for word in words if (match := REDEDGE.match(word)) is not None]) == 1:
        return f"rededge{edges[0]['number']}"
    found = {WORDS[word] for word in words if word in WORDS and (len(word) > 1 or len(words) == 1)}
    return found.pop() if len(found) == 1 else None


def _code(text: str) -> str | None:
    """``B4`` of ``b04``, ``SR_B4`` or ``B04 (10 m)``; None where the name is no number of a satellite's band."""
    for word in _words(text):
        if (match := CODE.match(word)) is not None:
            return f"B{match['number'].upper()}"
    return None


def _role(names: Sequence[str], tags: Mapping[str, str], tables: Sequence[Mapping[str, str]]) -> Role:
    told: list[tuple[str, str]] = []
    for text in names:
        code = _code(text)
        meant = {table.get(code) for table in tables} if code is not None else set()
        if (word := _word(text)) is not None:
            told.append((word, f"its name {text.strip()!r}"))
        elif len(meant) == 1 and (only := meant.pop()) is not None:
            told.append((only, f"its name {text.strip()!r}"))
    length = wavelength_of(names, tags)
    if length is not None and (by_length := role_of_length(length)) is not None:
        fits = [role for role, _ in told if not contradicts(role, length)]
        if not told or not fits:
            told.append((by_length, f"its wavelength of {length * 1000:.0f} nm"))
    if not told:
        return Role(None)
    (first, why), rest = told[0], told[1:]
    other = next(((role, text) for role, text in rest if not agree(first, role)), None)
    return Role(first, why, None if other is None else f"{why} says {first}, {other[1]} says {other[0]}")
