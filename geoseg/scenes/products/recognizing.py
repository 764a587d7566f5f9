"""Recognizing products: whether a folder or a file is one, by names alone, and which files make it what it is."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence

from geoseg.errors import SceneError
from geoseg.scenes.products.container import is_archive, open_container
from geoseg.scenes.products.product_facts import ProductKind

__all__ = [
    "LANDSAT",
    "PLANET",
    "PLANET_MASK",
    "SENTINEL2",
    "files_of",
    "is_product",
    "kind_of",
    "kind_of_names",
    "name_of",
    "product_at",
    "scene_of",
]

SAFE = re.compile(r".+\.safe", re.IGNORECASE)
SENTINEL2 = re.compile(r"(?:MTD_MSI(?:L1C|L2A)|S2[A-D]_\w+_MTD_\w+)\.xml", re.IGNORECASE)
LANDSAT = re.compile(r"(?P<name>L[COTEM]\d\d_L\w+)_MTL\.(?:txt|json|xml)", re.IGNORECASE)
HLS = re.compile(r"(?P<name>HLS\.[LS]30\.T\w{5}\.\d{7}T\d{6}\.v\d+\.\d+)\.(?:B\d\d|B8A|Fmask)\.tif", re.IGNORECASE)
PLANET = re.compile(r"(?P<name>\d{8}_\w+?)_(?:3B|1B)_AnalyticMS(?P<kind>\w*)\.tiff?", re.IGNORECASE)
PLANET_MASK = re.compile(r"\d{8}_\w+_(?:udm2?|DN_udm)(?:_clip)?\.tiff?", re.IGNORECASE)
FLAT: dict[ProductKind, re.Pattern[str]] = {"landsat": LANDSAT, "hls": HLS}
"""Products whose files lie in one folder, and begin with their name."""
NAMED: dict[ProductKind, re.Pattern[str]] = {
    "sentinel2": re.compile(r"S2[A-D]_MSIL(?:1C|2A)_\w+(?:\.SAFE)?", re.IGNORECASE),
    "landsat": re.compile(r"L[COTEM]\d\d_L\w+_02_(?:T1|T2|RT)", re.IGNORECASE),
}
"""Names of archives that can be nothing else."""
IMAGES = (".jp2", ".tif", ".tiff")
OWN = (".jp2", ".tif", ".tiff", ".xml", ".txt", ".json")
"""Endings of files that pixels and their meaning come from; programs leave others beside."""


def kind_of_names(folder: str, names: Collection[str]) -> ProductKind | None:
    """What kind of product a folder is, by its name and those of its files; None where it is none, or holds other images, too."""
    images = [name.upper() for name in names if name.lower().endswith(IMAGES)]
    if SAFE.fullmatch(folder) or (any(SENTINEL2.fullmatch(name) for name in names) and not images):
        return "sentinel2"
    for kind, pattern in FLAT.items():
        found = {match["name"].upper() for name in names if (match := pattern.fullmatch(name)) is not None}
        if len(found) == 1 and all(name.startswith((*found,)) for name in images):
            return kind
    return None


def kind_of(path: str) -> ProductKind | None:
    """What kind of product a path is; None where it is none, or can't be looked at."""
    try:
        if PLANET.fullmatch(os.path.basename(path)):
            return "planet" if os.path.isfile(path) else None
        if is_archive(path):
            return _kind_of_archive(path) if os.path.isfile(path) else None
        if os.path.isdir(path):
            return kind_of_names(os.path.basename(os.path.abspath(path)), os.listdir(path))
    except OSError:
        pass
    return None


def _kind_of_archive(path: str) -> ProductKind | None:
    """By what it holds; by its name where it is not whole, so that whoever opens it says that."""
    try:
        container = open_container(path)
    except SceneError:
        stem = os.path.splitext(os.path.basename(path))[0]
        return next((kind for kind, pattern in NAMED.items() if pattern.fullmatch(stem)), None)
    return kind_of_names(container.root.rstrip("/"), [name for name in container.sizes if "/" not in name])


def is_product(path: str) -> bool:
    """Whether a local path is a product that is one scene."""
    return kind_of(path) is not None


def product_at(path: str) -> str | None:
    """The product that a path names: itself, or the folder whose metadata it is, as other programs take it; None for others."""
    folder, name = os.path.split(path.rstrip("/"))
    if SENTINEL2.fullmatch(name) or LANDSAT.fullmatch(name):
        return (folder or ".") if os.path.isfile(path) and is_product(folder or ".") else None
    return (path.rstrip("/") or path) if is_product(path) else None


def name_of(path: str) -> str:
    """The name of a product: that which its archive gave it, where its files tell, else that of its folder or file."""
    plain = os.path.basename(os.path.abspath(path))
    if os.path.isdir(path):
        if SAFE.fullmatch(plain):
            return plain[: -len(".SAFE")]
        for pattern in FLAT.values():
            found = {match["name"] for name in os.listdir(path) if (match := pattern.fullmatch(name)) is not None}
            if len(found) == 1:
                return found.pop()
        return plain
    stem = os.path.splitext(plain)[0]
    return stem[: -len(".SAFE")] if SAFE.fullmatch(stem) else stem


def scene_of(path: str) -> str:
    """The text with which the names of all files of a PlanetScope scene begin."""
    match = PLANET.fullmatch(os.path.basename(path))
    return "" if match is None else match["name"] + "_"


def files_of(path: str) -> Sequence[str]:
    """The files whose content is that of a scene: of a product its images and metadata, of anything else the path itself."""
    if os.path.isdir(path):
        names = open_container(path).sizes
        return [os.path.join(path, name) for name in sorted(names) if _is_own(name)]
    if start := scene_of(path):
        folder = os.path.dirname(path)
        beside = (name for name in sorted(os.listdir(folder or ".")) if name.startswith(start) and _is_own(name))
        return [path, *(os.path.join(folder, name) for name in beside if name != os.path.basename(path))]
    return [path]


def _is_own(name: str) -> bool:
    return name.lower().endswith(OWN) and not name.lower().endswith(".aux.xml")
