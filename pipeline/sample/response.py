"""Response design: the reference class of each unit of a sample, from its form, a raster or polygons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from geoseg.addresses import split_layer
from geoseg.codes import MAX_CLASS, UNLABELLED
from geoseg.errors import ConfigError
from geoseg.labels.labels import Labels, is_vector, open_labels
from geoseg.models.model_folder import file_hash
from geoseg.windows import Window
from pipeline.files.areas import pixel_areas
from pipeline.sample.allocation import Stratum
from pipeline.sample.file import UNSURE, Design
from pipeline.sample.sampling_frame import ClassMap
from pipeline.train.label_files import codes_by_legend

__all__ = ["UNKNOWN", "Reference", "Tables", "kept_of", "labels_of", "shares_of", "tables_of"]

EXPLAIN = "--value"
"""The option that says what values of a reference mean."""
UNKNOWN = -1
"""Position of the class of a unit that has none."""
Columns = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Reference:
    """A file that says what lies where in the units of a sample."""

    path: str
    """A class raster, or a vector file."""
    column: str | None = None
    """Of a vector file, the column that names the class."""
    outside: str | None = None
    """Of a vector file, the class of what lies outside all features; None if nobody knows."""
    values: Mapping[str, str] = field(default_factory=dict)
    """Names of classes by values of the file, where the two differ."""

    @classmethod
    def of(cls, path: str | None, column: str | None, outside: str | None, values: Mapping[str, str]) -> Reference | None:
        """That of settings; None where no file is named.

        Raises:
            ConfigError: They say how a file is read, and name none.
        """
        if path is not None:
            return cls(path, column, outside, values)
        if column or outside or values:
            raise ConfigError("--column, --outside, --value: say how --reference is read; give it, too")
        return None


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """Map against reference, unit by unit."""

    pixels: NDArray[np.int64]
    """(n, K, K) pixels by class of the map (rows) and of the reference."""
    area: NDArray[np.float64]
    """(n, K, K) their area."""
    missing: NDArray[np.int64]
    """(n,) analysed pixels of which the reference says nothing."""


def labels_of(columns: Columns, names: Mapping[int, str]) -> NDArray[np.int64]:
    """(n,) the class that the form of each unit gives, by position among the names; UNKNOWN where there is none.

    Raises:
        ConfigError: A label is no class.
    """
    order = {str(code): k for k, code in enumerate(names)} | {name: k for k, name in enumerate(names.values())}
    found = []
    for number, value in enumerate(columns["reference"].tolist(), 1):
        text = "" if value is None or value != value else str(value).strip()  # noqa: PLR0124 - NaN is not itself
        if text and text != UNSURE and text not in order:
            raise ConfigError(
                f"sample: unit {number} is labelled {text!r}, which is none of {', '.join(names.values())}; correct it"
            )
        found.append(order.get(text, UNKNOWN) if text != UNSURE else UNKNOWN)
    return np.array(found, np.int64)


def kept_of(
    stratum_of: NDArray[np.int64], strata: Sequence[Stratum], known: NDArray[np.bool_], what: str, *, drop: bool
) -> NDArray[np.int64]:
    """Units of which it is known what is there.

    Args:
        stratum_of: (n,) position of each unit's stratum.
        strata: The strata.
        known: (n,) whether it is known.
        what: What others lack, and the cure, for the message.
        drop: Leave these out instead of refusing.

    Raises:
        ConfigError: Some are not known, or too few of a stratum are.
    """
    missing = int((~known).sum())
    if missing and not drop:
        raise ConfigError(
            f"sample: {missing} of {len(known)} units have no {what}, or pass --nonresponse drop to take the others "
            "for all, which is right only if what can't be told is like the rest"
        )
    for number, stratum in enumerate(strata):
        count = int((known & (stratum_of == number)).sum())
        if count < min(2, stratum["size"]):
            raise ConfigError(
                f"sample: of the {stratum['units']} units of the stratum {stratum['name']!r}, {count} have a label; at least "
                f"{min(2, stratum['size'])} are needed for a standard error: label more of them, or draw again with more"
            )
    return np.flatnonzero(known)


def shares_of(columns: Columns, classes: int) -> NDArray[np.float64]:
    """(n, K) the shares of classes that the form of each block gives; NaN where there are none.

    Raises:
        ConfigError: They don't add up, or one is below 0.
    """
    percent = np.stack([columns[f"percent_{k}"].astype(np.float64) for k in range(classes)], axis=1)
    known: NDArray[np.bool_] = np.asarray(np.isfinite(percent).any(axis=1))
    percent = np.where(known[:, None], np.nan_to_num(percent), np.nan)
    whole = percent.sum(axis=1)
    wrong = np.flatnonzero(known & ((np.abs(whole - 100) > 1) | (percent < 0).any(axis=1)))
    if len(wrong):
        first = int(wrong[0])
        raise ConfigError(
            f"sample: the shares of unit {first + 1} add up to {whole[first]:g} percent, the least is "
            f"{np.nanmin(percent[first]):g}; they are to be 100, and none below 0"
        )
    return np.asarray(percent / whole[:, None])


def tables_of(image: ClassMap, design: Design, reference: Reference) -> Tables:
    """Map against reference in all units of a sample.

    The reference is read unit by unit at the middles of the map's pixels: a raster of another grid by nearest neighbour, polygons
    by what covers the middle. Holds a (K, K) table for each unit.

    Args:
        image: The map, with classes of K names.
        design: Its sample.
        reference: What lies there.

    Raises:
        ConfigError: The reference does not fit the map, or a value of it is no class.
        SceneError: It can't be read, or has no place on Earth.
    """
    names = tuple(image.names.values())
    labels = _open(image, reference, names)
    count, block = len(names), design.facts["block"]
    position = np.full(256, UNKNOWN, np.int64)
    position[list(image.names)] = np.arange(count)
    scene = Window.of(image.raster.shape)
    pixels = np.zeros((len(design.row), count, count), np.int64)
    area = np.zeros(pixels.shape)
    missing = np.zeros(len(design.row), np.int64)
    for unit, (row, col) in enumerate(zip(design.row.tolist(), design.col.tolist(), strict=True)):
        window = Window.at((row, col), (block, block)) & scene
        assert window is not None
        classes, there = image.raster.classes(window), labels.read(window)[0]
        analysed = classes <= MAX_CLASS
        known = analysed & (there != UNLABELLED)
        missing[unit] = analysed.sum() - known.sum()
        at = unit, position[classes[known]], there[known].astype(np.int64)
        np.add.at(pixels, at, 1)
        np.add.at(area, at, pixel_areas(image.raster.georeference, window)[known])
    return Tables(pixels, area, missing)


def _open(image: ClassMap, reference: Reference, names: Sequence[str]) -> Labels:
    """The reference on the map's grid, in positions of classes."""
    path = reference.path
    file = split_layer(path)[0]
    if not file.exists():
        raise ConfigError(f"--reference: {path}: no such file")
    if file_hash(file) == file_hash(image.path):
        raise ConfigError(f"--reference: {path} is the map itself; what lies there is to be known from elsewhere")
    by_name = {name: k for k, name in enumerate(names)}

    def class_of(text: str, option: str) -> int:
        if text not in by_name:
            raise ConfigError(f"{option}: {text!r} is none of the classes {', '.join(names)}")
        return by_name[text]

    given = {v: UNLABELLED if name == "unlabelled" else class_of(name, EXPLAIN) for v, name in reference.values.items()}
    by_code = {str(code): k for k, code in enumerate(image.names)}
    vector = is_vector(path)
    if vector:
        if reference.column is None:
            raise ConfigError(f"--reference: {path} holds features; name the column of their classes with --column")
        codes = by_code | by_name | given
    else:
        if reference.column is not None or reference.outside is not None:
            raise ConfigError(f"--reference: {path} is a raster; --column and --outside are for features")
        codes = {**codes_by_legend(path, by_name, by_code, EXPLAIN), **given}
    outside = UNLABELLED if reference.outside is None else class_of(reference.outside, "--outside")
    place = image.raster.georeference
    return open_labels(
        path, place, *image.raster.shape, codes, column=reference.column if vector else None, outside=outside, explain=EXPLAIN
    )
