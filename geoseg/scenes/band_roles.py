"""What a band is: red, near infrared, alpha, by its name, its wavelength or its colour interpretation.

A description, a name in the band's tags and a wavelength are written by somebody who knew; the colour interpretation is often
not: GDAL calls the bands of any file of three bytes red, green and blue, and of four bytes red, green, blue and alpha, unless
it is told otherwise. Names of satellites' bands stand for roles where all satellites that can be meant agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from geoseg.scenes.bandfiles import LANDSAT_OLI, LANDSAT_TM, SENTINEL2

__all__ = ["ALPHA", "Role", "agree", "default_colors", "is_anonymous", "platform_of", "readings", "roles_of", "tags_of_bands"]

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
WAVELENGTH_TAG = re.compile(r"(?:eo)?(?:cent(?:ral|er|re))?wavelengths?(?P<unit>nm|um|nanometers|micrometers)?")
UNITS_TAGS = ("wavelengthunits", "wavelengthunit", "units", "unit")
"""Tags of bands, in lower case, letters and digits only."""
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


@dataclass(frozen=True, slots=True)
class Role:
    """What a band is, and who says so."""

    name: str | None
    """``red``, ``nir``, ``alpha``, as STAC's common names; None where nothing says it."""
    source: str = ""
    """The words that say it."""
    conflict: str | None = None
    """Where two sources differ, both of them in words."""


def platform_of(texts: Iterable[str]) -> str | None:
    """The satellite that tags or file names tell of; None where they tell of none or of several."""
    found = {name for text in texts for name, sign in SIGNS if sign.search(text.upper())}
    return found.pop() if len(found) == 1 else None


def roles_of(
    descriptions: Sequence[str | None], tags: Sequence[Mapping[str, str]], platform: str | None = None
) -> tuple[Role, ...]:
    """What the bands of a file are by their names and wavelengths; colour interpretation is none of these.

    Args:
        descriptions: By band.
        tags: By band; of all domains together.
        platform: The satellite, where it is known.
    """
    lower = [dict(_split(key, value) for key, value in own.items()) for own in tags]
    if (lengths := _only_wavelengths(descriptions)) is not None:
        lower = [{"wavelength": text} | own for text, own in zip(lengths, lower, strict=True)]
    names = [_names(text, own) for text, own in zip(descriptions, lower, strict=True)]
    codes = {code for some in names for text in some if (code := _code(text)) is not None}
    every = [text for some in names for text in some]
    padded = any(PADDED.match(word) for text in every for word in _words(text))
    tables = _tables(codes, platform or platform_of(every), padded=padded)
    return tuple(_role(some, own, tables) for some, own in zip(names, lower, strict=True))


def readings(names: Sequence[str | None]) -> dict[str, list[str | None]]:
    """By satellite, what the bands would be if the file were of it: for examples, never for decisions."""
    codes = [None if name is None else _code(name) for name in names]
    return {title: [None if code is None else table.get(code) for code in codes] for title, table in _zero_free().items()}


def tags_of_bands(tags: Mapping[str, str], count: int) -> list[dict[str, str]]:
    """What the tags of a file say of each of its bands: ``Band_1 = NIR``, or lists with an entry a band, as of ENVI's headers."""
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


def _only_wavelengths(descriptions: Sequence[str | None]) -> list[str] | None:
    """Descriptions that are the centres of all bands in nanometres, and nothing else."""
    texts = [(text or "").strip() for text in descriptions]
    plain = len({*texts}) > 1 and all(re.fullmatch(r"\d{3,4}(?:\.\d+)?", text) for text in texts)
    lengths = [float(text) for text in texts] if plain else []
    # Years are such numbers, too; a camera has a band of light that is seen.
    seen = any(NANOMETRES[0] <= length < VISIBLE for length in lengths)
    return texts if seen and all(NANOMETRES[0] <= length <= NANOMETRES[1] for length in lengths) else None


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


def agree(one: str, other: str) -> bool:
    """Whether two roles can be meant by the same band: ``rededge`` and ``rededge2``, ``nir`` and ``nir08``."""
    return one.rstrip("0123456789") == other.rstrip("0123456789")


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


def _zero_free() -> dict[str, dict[str, str]]:
    return {name: {f"B{key[1:].lstrip('0')}": role for key, role in table.items()} for name, table in PLATFORMS.items()}


def _tables(codes: set[str], platform: str | None, *, padded: bool) -> list[dict[str, str]]:
    """What the numbers may stand for: the tables of all satellites that the file can be of."""
    tables = _zero_free()
    if platform is not None:
        return [tables[platform]]
    if padded or "B8A" in codes or "B12" in codes:
        return [tables["Sentinel-2"]]
    return [table for table in tables.values() if codes <= table.keys()]


def _role(names: Sequence[str], tags: Mapping[str, str], tables: Sequence[Mapping[str, str]]) -> Role:
    told: list[tuple[str, str]] = []
    for text in names:
        code = _code(text)
        meant = {table.get(code) for table in tables} if code is not None else set()
        if (word := _word(text)) is not None:
            told.append((word, f"its name {text.strip()!r}"))
        elif len(meant) == 1 and (only := meant.pop()) is not None:
            told.append((only, f"its name {text.strip()!r}"))
    length = _wavelength(names, tags)
    if length is not None and (by_length := _of_length(length)) is not None:
        fits = [role for role, _ in told if not _contradicts(role, length)]
        if not told or not fits:
            told.append((by_length, f"its wavelength of {length * 1000:.0f} nm"))
    if not told:
        return Role(None)
    (first, why), rest = told[0], told[1:]
    other = next(((role, text) for role, text in rest if not agree(first, role)), None)
    return Role(first, why, None if other is None else f"{why} says {first}, {other[1]} says {other[0]}")


def _wavelength(names: Sequence[str], tags: Mapping[str, str]) -> float | None:
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


def _of_length(micrometres: float) -> str | None:
    return next((role for low, high, role in RANGES if low <= micrometres < high), None)


def _contradicts(role: str, micrometres: float) -> bool:
    spans = [(low, high) for low, high, name in RANGES if agree(name, role)]
    return bool(spans) and not any(low - SLACK_UM <= micrometres < high + SLACK_UM for low, high in spans)
