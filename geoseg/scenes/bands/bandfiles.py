"""Band files: scenes that come as one file a band, as Sentinel-2 and Landsat products do."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable

from geoseg.addresses import shown

__all__ = ["COMMON_NAMES", "group_band_files", "parse_band_file"]

COMMON_NAMES = (
    "coastal",
    "blue",
    "green",
    "red",
    "rededge",
    "nir",
    "nir08",
    "nir09",
    "cirrus",
    "swir16",
    "swir22",
    "pan",
    "thermal",
)
"""Common band names (STAC electro-optical extension) that a file may be named for."""

SENTINEL2 = {
    "B01": "coastal",
    "B02": "blue",
    "B03": "green",
    "B04": "red",
    "B05": "rededge1",
    "B06": "rededge2",
    "B07": "rededge3",
    "B08": "nir",
    "B8A": "nir08",
    "B09": "nir09",
    "B10": "cirrus",
    "B11": "swir16",
    "B12": "swir22",
}
LANDSAT_OLI = {
    "B1": "coastal",
    "B2": "blue",
    "B3": "green",
    "B4": "red",
    "B5": "nir",
    "B6": "swir16",
    "B7": "swir22",
    "B8": "pan",
    "B9": "cirrus",
    "B10": "thermal",
    "B11": "thermal2",
}
LANDSAT_TM = {
    "B1": "blue",
    "B2": "green",
    "B3": "red",
    "B4": "nir",
    "B5": "swir16",
    "B6": "thermal",
    "B7": "swir22",
    "B8": "pan",
}

NUMBERED = re.compile(r"^(?P<scene>.+?)[_-](?:SR_|ST_|TOA_)?(?P<band>B(?:\d{1,2}|8A))(?:[_-](?:\d+m|\w*SR\w*))?$", re.IGNORECASE)
NAMED = re.compile(rf"^(?P<scene>.+?)[_-](?P<band>{'|'.join(COMMON_NAMES)})$", re.IGNORECASE)


def parse_band_file(stem: str) -> tuple[str, str] | None:
    """``(scene, band name)`` where a file's stem says that it holds one band of a scene.

    The name is the common one (``red``) where the product is known, else the band's number (``b4``).
    """
    if (match := NAMED.match(stem)) is not None:
        return match["scene"], match["band"].lower()
    match = NUMBERED.match(stem)
    if match is None:
        return None
    code = match["band"].upper()
    product = stem.upper()
    if re.match(r"L[COT]0[89]_", product):
        names = LANDSAT_OLI
    elif re.match(r"L[TEM]0[4-7]_", product):
        names = LANDSAT_TM
    elif re.match(r"(S2[ABC]_|T\d\d[A-Z]{3}_|\d\d[A-Z]{3}_)", product) or re.match(r"B(0\d|8A)$", code):
        names, code = SENTINEL2, code if len(code) > 2 else f"B0{code[1:]}"
    else:
        names = {}
    return match["scene"], names.get(code, code.lower())


def group_band_files(paths: Iterable[str]) -> tuple[list[tuple[str, list[str], list[str]]], list[str]]:
    """Group the band files among some paths.

    Returns the scenes as ``(path of the scene without extension, paths, band names)``, and the paths that are scenes
    of their own: a lone file that looks like a band is one too.
    """
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    single: list[str] = []
    for path in paths:
        # A signature after the path is not part of the name; and pathlib takes a slash from an address.
        plain = shown(path)
        folder, name = posixpath.split(plain)
        parsed = parse_band_file(posixpath.splitext(name)[0])
        if parsed is None:
            single.append(path)
        else:
            groups[posixpath.join(folder, parsed[0])].append((parsed[1], path))
    scenes = []
    for scene, members in groups.items():
        names = [name for name, _ in members]
        if len(members) == 1 or len(set(names)) < len(names):
            single.extend(path for _, path in members)
        else:
            members.sort(key=lambda member: member[1])
            scenes.append((scene, [path for _, path in members], [name for name, _ in members]))
    return scenes, single
