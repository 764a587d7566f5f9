"""Class rasters and their truths, paired by name and opened on one grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from geoseg.addresses import split_layer
from geoseg.codes import MAX_CLASS, NODATA, UNLABELLED
from geoseg.errors import ConfigError, GeoreferenceError
from geoseg.georeference import Georeference
from geoseg.labels.coco import mask_labels
from geoseg.labels.images import read_image
from geoseg.labels.labels import VECTORS, is_vector, open_labels
from geoseg.labels.values import declared_codes
from geoseg.scenes.scene import OpenOptions
from geoseg.vectors.folder_datasets import is_dataset
from geoseg.windows import Window
from pipeline.evaluate.settings import TruthOptions
from pipeline.files.class_rasters import open_class_raster
from pipeline.files.maps import RASTERS, MapFiles, find_maps
from pipeline.train.label_files import codes_by_legend, is_label_file

__all__ = ["Classes", "Opened", "Pair", "find_pairs", "known_classes", "open_pair", "pair_up"]

EXPLAIN = "--map"
"""The option that says what values of a truth mean."""
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Pair:
    """A map and its truth, before they are opened."""

    files: MapFiles
    truth: str

    @property
    def name(self) -> str:
        """Of the map."""
        return self.files.name

    @property
    def prediction(self) -> str:
        """The class raster."""
        return self.files.classes


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes, in the order of their codes from 0."""

    names: tuple[str, ...]
    colors: tuple[str | None, ...]


class Truth(Protocol):
    """Class codes of the truth by window of the map."""

    def read(self, window: Window) -> tuple[Bytes, NDArray[np.int32] | None]:
        """Codes (h, w), 255 where nothing is known."""
        ...


class Map(Protocol):
    """Class codes of a map by window."""

    def classes(self, window: Window) -> Bytes:
        """Codes (h, w), 254 not analysed, 255 no data."""
        ...


@dataclass(frozen=True, slots=True)
class Opened:
    """A pair on the grid of the map."""

    pair: Pair
    height: int
    width: int
    map: Map
    truth: Truth
    georeference: Georeference | None


def find_pairs(
    predictions: Sequence[str], truth: str, *, rename: tuple[str, str] | None = None, allow_unpaired: bool = False
) -> tuple[list[Pair], list[str]]:
    """Maps with their truths, by name; and what has no partner.

    Args:
        predictions: Class rasters, globs, folders of them, or folders that ``segment`` wrote.
        truth: A class raster or a vector file for all maps, or a folder with one for each, of the same name.
        rename: Text in the name of a map, and what stands for it in that of its truth.
        allow_unpaired: Leave out what has no partner.

    Raises:
        ConfigError: Nothing is there, or something has no partner.
    """
    return pair_up(find_maps(predictions), truth, rename=rename, allow_unpaired=allow_unpaired)


def pair_up(
    maps: Sequence[MapFiles], truth: str, *, rename: tuple[str, str] | None = None, allow_unpaired: bool = False
) -> tuple[list[Pair], list[str]]:
    """Maps that were found with their truths, and what has no partner; see ``find_pairs``."""
    given = split_layer(truth)[0]
    if not given.exists():
        raise ConfigError(f"--truth: {truth}: no such file or folder")
    if not given.is_dir() or is_dataset(given):
        return [Pair(files, truth) for files in maps], []
    truths: dict[str, list[Path]] = {}
    for path in sorted(p for p in given.rglob("*") if _is_truth(p)):
        truths.setdefault(path.relative_to(given).with_suffix("").as_posix(), []).append(path)
    pairs, alone = [], []
    for files in maps:
        wanted = files.name.replace(*rename) if rename is not None else files.name
        found = truths.get(wanted) or truths.get(Path(wanted).name)
        if found is None:
            alone.append(files.classes)
            continue
        if len(found) > 1:
            raise ConfigError(f"--truth: {found[0]} and {found[1]} are both the truth of {files.name}; take one of them away")
        pairs.append(Pair(files, str(found[0])))
    used = {pair.truth for pair in pairs}
    alone += [str(path) for paths in truths.values() for path in paths if str(path) not in used]
    if alone and not allow_unpaired:
        more = f" and {len(alone) - 1} more" if len(alone) > 1 else ""
        raise ConfigError(
            f"{alone[0]}{more}: no partner; a truth has the name of its map, or one by --rename OLD=NEW; "
            "--allow-unpaired leaves such files out"
        )
    if not pairs:
        raise ConfigError(f"--truth: {truth} has no file of the name of a map, the first of which is {maps[0].name}")
    return pairs, alone


def _is_truth(path: Path) -> bool:
    return is_label_file(path) and path.suffix.lower() in (*RASTERS, *VECTORS) and not path.name.startswith(".")


def known_classes(pairs: Sequence[Pair], names: Mapping[int, str], options: TruthOptions) -> Classes:
    """The classes by the legend of the maps, and by the names that were given.

    Raises:
        ConfigError: The maps have no legend and no names were given, or codes are missing.
    """
    found: dict[int, str] = {}
    colors: dict[int, str] = {}
    for pair in pairs:
        if options.plain:
            break
        legend = open_class_raster(pair.prediction, OpenOptions(assume_crs=options.assume_crs))[1]
        here, colors = dict(legend.names), colors | dict(legend.colors)
        other = next((c for c, name in here.items() if found.get(c, name) != name), None)
        if other is not None:
            raise ConfigError(
                f"{pair.prediction}: code {other} is {here[other]}, in other maps {found[other]}; evaluate them apart"
            )
        found |= here
    found = {code: name for code, name in found.items() if code <= MAX_CLASS} | dict(names)
    if not found:
        raise ConfigError("--pred: the maps don't say what their classes are; name them: --names 0=other,1=forest")
    if sorted(found) != list(range(len(found))):
        missing = next(code for code in range(max(found)) if code not in found)
        raise ConfigError(f"--names: code {missing} has no name, and {max(found)} has; name all codes from 0")
    order = range(len(found))
    return Classes(tuple(found[code] for code in order), tuple(colors.get(code) for code in order))


def open_pair(pair: Pair, classes: Classes, options: TruthOptions) -> Opened:
    """Open a map, and its truth on the map's grid: vectors burnt, rasters of other grids by nearest neighbour.

    Raises:
        SceneError: One can't be read, or has no place on Earth.
        ConfigError: A class is not known.
    """
    codes = _codes(pair.truth, classes, options)
    if options.plain:
        image = read_image(pair.prediction)
        if len(image) != 1 or image.dtype != np.uint8:
            raise ConfigError(f"{pair.prediction}: a map is one band of 8 bits, not {len(image)} of {image.dtype}")
        odd = image[0][(image[0] > MAX_CLASS) & ~np.isin(image[0], declared_codes(pair.prediction))]
        if odd.size:
            raise ConfigError(
                f"{pair.prediction}: {odd.size:,} pixels have the value {odd[0]}; codes of classes are from 0 to {MAX_CLASS}: "
                f"write the map with such, or declare {odd[0]} as no data (gdal_edit.py -a_nodata {odd[0]} FILE)"
            )
        truth = mask_labels(pair.truth, codes, EXPLAIN)
        if truth.shape != image[0].shape:
            raise GeoreferenceError(
                f"{pair.truth}: {truth.shape} pixels, the map has {image[0].shape}; without a place they must agree"
            )
        return Opened(pair, truth.shape[0], truth.shape[1], _Whole(image[0]), _Whole(truth), None)
    raster, _ = open_class_raster(pair.prediction, OpenOptions(assume_crs=options.assume_crs))
    outside = UNLABELLED if options.outside == "unlabelled" else _code(options.outside, classes)
    labels = open_labels(
        pair.truth, raster.georeference, *raster.shape, codes, column=options.column, outside=outside, explain=EXPLAIN
    )
    return Opened(pair, raster.shape[0], raster.shape[1], raster, labels, raster.georeference)


def _codes(truth: str, classes: Classes, options: TruthOptions) -> dict[str, int]:
    """Codes by value or name."""
    by_name = {name: code for code, name in enumerate(classes.names)}
    by_code = {str(code): code for code in range(len(classes.names))}
    codes: dict[str, int] = {"": 1}
    if options.plain or is_vector(truth):
        codes |= by_name | by_code
    else:
        codes |= codes_by_legend(truth, by_name, by_code, EXPLAIN, OpenOptions(assume_crs=options.assume_crs))
    for value, name in options.values.items():
        codes[value] = UNLABELLED if name == "unlabelled" else _code(name, classes)
    return codes


def _code(name: str, classes: Classes) -> int:
    if name in classes.names:
        return classes.names.index(name)
    if name.isdecimal() and int(name) < len(classes.names):
        return int(name)
    raise ConfigError(f"{name!r} is no class: {', '.join(classes.names)}")


@dataclass(frozen=True, slots=True, eq=False)
class _Whole:
    """An image in memory, as a map or as a truth."""

    codes: Bytes

    def classes(self, window: Window) -> Bytes:
        """Class codes."""
        return self.codes[window.slices]

    def read(self, window: Window) -> tuple[Bytes, None]:
        """Class codes; there are no objects."""
        found = self.codes[window.slices]
        return np.where(found <= MAX_CLASS, found, np.uint8(NODATA)), None
