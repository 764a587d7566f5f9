"""Maps that are there already: class rasters of this or another program, with the layers beside them."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg.dialect import listed, number_of
from geoseg.errors import ConfigError
from geoseg.scenes.gdal import gdal_env, open_raster
from geoseg.scenes.remote import is_remote
from geoseg.windows import Window
from pipeline.files.reviews import lies_in_reviews
from pipeline.files.run_folder import WORK, RunFolder

__all__ = [
    "BUILDINGS",
    "CLASSES",
    "POLYGONS",
    "RASTERS",
    "VALUES",
    "MapFiles",
    "find_maps",
    "first_file",
    "is_result",
    "map_at",
    "one_result",
    "refuse_values_folder",
    "result_folders",
]

RASTERS = (".tif", ".tiff", ".png")
CLASSES = "classes.tif"
VALUES = "values.tif"
"""The map of a model that regresses."""
LAYERS = ("confidence", "probabilities", "uncertainty", "coverage", "preview")
"""What a map folder holds beside the classes."""
POLYGONS = ("polygons.gpkg", "polygons.fgb", "polygons.parquet", "polygons.geojson")
BUILDINGS = ("buildings.gpkg", "buildings.fgb", "buildings.parquet", "buildings.geojson")
"""Names of files of features; where there are several, the first is read."""
NAMED = 3
"""Results that an error names."""


@dataclass(frozen=True, slots=True)
class MapFiles:
    """The files of one map."""

    name: str
    """Of the scene; for a file of its own, its stem."""
    classes: str
    confidence: str | None = None
    """Probability of the class of each pixel, in percent."""
    probabilities: str | None = None
    """Probabilities, a band a class, in percent."""

    def percents(self, window: Window, shape: tuple[int, int]) -> NDArray[np.float32] | None:
        """Probabilities (K, h, w), or the confidence (1, h, w), from 0 to 1; NaN where there is none; None without a file.

        Raises:
            ConfigError: The layer has not the ``shape`` of the map.
        """
        path = self.probabilities or self.confidence
        if path is None:
            return None
        area = window.for_rasterio()
        with gdal_env(), open_raster(path) as dataset:
            if dataset.shape != shape:
                raise ConfigError(f"{path}: {dataset.shape[0]} x {dataset.shape[1]} pixels, the map has {shape[0]} x {shape[1]}")
            values = dataset.read(window=area)
        return np.where(values <= 100, values.astype(np.float32) / 100, np.float32(np.nan))


def find_maps(inputs: Sequence[str]) -> list[MapFiles]:
    """Maps by name: class rasters, globs, folders of them, or folders that ``segment`` wrote.

    Raises:
        ConfigError: None is there, or one twice.
    """
    found = [(name, path) for text in inputs for name, path in _maps(text)]
    if not found:
        raise ConfigError(f"maps: {', '.join(inputs)}: no class raster is there")
    names = [name for name, _ in found]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ConfigError(f"maps: {doubled[0]} is there {names.count(doubled[0])} times; give each map once")
    return [_files(name, path) for name, path in found]


def map_at(text: str) -> MapFiles:
    """The one map of a path: a class raster, also at an address, or a folder that ``segment`` wrote.

    Raises:
        ConfigError: A folder has none, or several.
    """
    if is_remote(text):
        return MapFiles(Path(text).stem, text)
    if not Path(text).is_dir():
        return replace(_files(Path(text).stem, Path(text)), classes=text)
    found = find_maps([text])
    if len(found) > 1:
        raise ConfigError(f"maps: {text}: has {len(found)} class rasters ({found[0].name}, {found[1].name}, …); give one of them")
    return found[0]


def first_file(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of some files that a folder has."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def refuse_values_folder(folder: Path, why: str) -> None:
    """Refuse a folder that holds maps of values, where polygons are needed.

    Raises:
        ConfigError: It does.
    """
    found = next(folder.rglob(VALUES), None)
    if found is not None:
        raise ConfigError(f"{found}: is a map of values, without classes and polygons, and {why}")


def is_result(folder: Path) -> bool:
    """Whether a folder is that of one result: a map, changes, or graded buildings."""
    return first_file(folder, (CLASSES, *BUILDINGS, *POLYGONS)) is not None


def result_folders(folder: Path) -> list[Path]:
    """The folder itself where it is that of a result, or those below it that are, by name, without hidden ones and reviews."""
    if is_result(folder):
        return [folder]
    below = sorted({path.parent for name in (CLASSES, *BUILDINGS, *POLYGONS) for path in folder.rglob(name)})
    return [path for path in below if not _hidden(path.relative_to(folder)) and not lies_in_reviews(path, folder)]


def one_result(folder: Path) -> Path:
    """The folder of one result: itself, or the only one below it, as a run over one scene has it. Itself where there is none.

    Raises:
        ConfigError: Several are below it.
    """
    found = result_folders(folder)
    if len(found) > 1:
        names = [str(path) for path in found]
        raise ConfigError(f"{folder}: holds {number_of(len(found), 'result')} ({listed(names, NAMED)}); give the folder of one")
    return found[0] if found else folder


def _files(name: str, path: Path) -> MapFiles:
    beside = {layer: path.with_name(f"{layer}.tif") for layer in ("confidence", "probabilities")}
    there = {layer: str(file) for layer, file in beside.items() if path.name == CLASSES and file.is_file()}
    return MapFiles(name, str(path), there.get("confidence"), there.get("probabilities"))


def _maps(text: str) -> list[tuple[str, Path]]:
    path = Path(text)
    if path.is_dir():
        # Publishes that were cut off are ended before their files are read.
        for folder in {path, *(work.parent for work in path.rglob(WORK))}:
            RunFolder(folder).settle()
        if (path / CLASSES).is_file():
            return [(path.resolve().name, path / CLASSES)]
        done = [p for p in sorted(path.rglob(CLASSES)) if not lies_in_reviews(p, path)]
        if done:
            return [(p.parent.relative_to(path).as_posix(), p) for p in done if not _hidden(p.relative_to(path))]
        return [(p.relative_to(path).with_suffix("").as_posix(), p) for p in sorted(path.rglob("*")) if _is_map(p)]
    if path.is_file():
        return [(path.resolve().parent.name if path.name == CLASSES else path.stem, path)]
    matches = [Path(m) for m in sorted(glob.glob(text, recursive=True))]
    if not matches:
        raise ConfigError(f"maps: {text}: no such file or folder")
    return [found for match in matches if match.is_dir() or _is_map(match) for found in _maps(str(match))]


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _is_map(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in RASTERS and path.stem not in LAYERS and not path.name.startswith(".")
