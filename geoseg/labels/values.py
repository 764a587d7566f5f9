"""Meanings of the values of class rasters: listed classes, no data, or something that nobody has explained."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import U8, Bools
from geoseg.codes import RESERVED, UNLABELLED, keeps_codes
from geoseg.errors import ConfigError
from geoseg.scenes.gdal import IMAGES, gdal_env, open_raster

__all__ = ["Tally", "ValueCodes", "declared_codes"]

log = logging.getLogger(__name__)

SHOWN = 10
"""Values that a message lists."""


@dataclass(frozen=True, slots=True, eq=False)
class ValueCodes:
    """Class codes by value of a raster of any data type. Picklable."""

    table: U8
    """(256,) codes of the values from 0 to 255."""
    listed: Bools
    """(256,) whether it was said what a value means."""
    others: Mapping[int, int]
    """Codes of values beyond these."""

    @classmethod
    def of(cls, codes: Mapping[str, int], *, own: bool = False) -> ValueCodes:
        """The codes of values given as text; texts that are no whole numbers are for features.

        Args:
            codes: Class codes by value.
            own: Whether the raster is of this program, so that its reserved codes are known to be unlabelled.
        """
        table, listed = np.full(256, UNLABELLED, np.uint8), np.zeros(256, np.bool_)
        others: dict[int, int] = {}
        if own:
            listed[list(RESERVED)] = True
        for text, code in codes.items():
            number = _integer(text)
            if number is not None and 0 <= number < 256:
                table[number], listed[number] = code, True
            elif number is not None:
                others[number] = code
        return cls(table, listed, others)

    def __call__(self, values: NDArray[Any], known: Bools) -> tuple[U8, Bools]:
        """Class codes of pixels, and which of the known ones have a value of which nothing was said."""
        low = (values >= 0) & (values < 256)
        whole = np.where(low & np.isfinite(values), values, 0).astype(np.uint8)
        same = low & (whole == values)
        codes = np.where(same, self.table[whole], UNLABELLED).astype(np.uint8)
        said = same & self.listed[whole]
        for value, code in self.others.items():
            there = values == value
            codes[there] = code
            said |= there
        codes[~known] = UNLABELLED
        return codes, known & ~said & np.isfinite(values)

    def first(self, values: NDArray[Any], odd: Bools) -> tuple[str, int, int]:
        """The first pixel of some: its value as text, its row and column."""
        row, col = (int(k) for k in np.unravel_index(int(odd.argmax()), odd.shape))
        return _text(values[row, col].item()), row, col

    def is_class(self, value: float | None) -> bool:
        """Whether a value stands for a class."""
        if value is None or not np.isfinite(value) or value != int(value):
            return False
        number = int(value)
        return self.others.get(number, int(self.table[number]) if 0 <= number < 256 else UNLABELLED) != UNLABELLED

    def unused(self, kind: np.dtype[Any]) -> float:
        """A value of a data type that stands for nothing."""
        if kind.kind == "f":
            return float("nan")
        taken = {*np.flatnonzero(self.listed).tolist(), *self.others}
        most = int(np.iinfo(kind).max)
        return float(next((value for value in range(most, max(most - 256, -1), -1) if value not in taken), most))


@dataclass(slots=True)
class Tally:
    """Numbers of pixels of labels by what they are."""

    path: str
    pixels: int = 0
    labelled: int = 0
    hidden: int = 0
    """Of the value that the file declares as no data, and that stands for a class."""
    classes: set[int] = field(default_factory=set)
    """Their codes."""
    odd: Counter[float] = field(default_factory=Counter)
    """By value of which nothing was said."""

    def add(self, values: NDArray[Any], codes: U8, odd: Bools) -> None:
        """Count some pixels."""
        self.pixels += codes.size
        there = codes != UNLABELLED
        self.labelled += int(there.sum())
        self.classes.update(np.unique(codes[there]).tolist())
        found, counts = np.unique(values[odd], return_counts=True)
        self.odd.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))

    def tell(self, known: Iterable[str], nodata: float | None = None) -> None:
        """Warn of what is not labelled although somebody may think so.

        Args:
            known: The values that stand for classes.
            nodata: The value that the file declares as no data.

        Raises:
            ConfigError: No value is a class.
        """
        shown = ", ".join(f"{_text(value)} ({count:,} px)" for value, count in self.odd.most_common(SHOWN))
        if self.odd and not self.labelled and {*self.odd} != {UNLABELLED}:
            raise ConfigError(f"{self.path}: none of the values is a class: {shown}; known: {', '.join(filter(None, known))}")
        # Where there are classes, 255 for the rest is what many data sets have; a mask of 0 and 255 has one.
        if self.odd and ({*self.odd} != {UNLABELLED} or len(self.classes) <= 1):
            total = sum(self.odd.values())
            log.warning(
                "%s: %s of %s pixels (%.1f %%) have values that are no class and are not labelled: %s; list them if they are one",
                self.path,
                f"{total:,}",
                f"{self.pixels:,}",
                100 * total / self.pixels,
                shown,
            )
        if not self.labelled and not self.odd and not self.hidden:
            log.warning("%s: labels no pixel of the image: it has no data there, or lies elsewhere", self.path)
        if self.hidden:
            log.warning(
                "%s: %s of %s pixels (%.1f %%) are not labelled: the file declares them as no data by %s, which is also the "
                "value of a class; if it is one there, take the declaration out: gdal_edit.py -unsetnodata %s",
                self.path,
                f"{self.hidden:,}",
                f"{self.pixels:,}",
                100 * self.hidden / self.pixels,
                _text(nodata),
                self.path,
            )


def _text(value: float | None) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _integer(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def declared_codes(path: str) -> tuple[int, ...]:
    """Those of 254 and 255 that an image says are no class: as one of this program, or by its nodata value.

    Raises:
        ReadError: It can't be read.
    """
    if not path.lower().endswith((".png", ".tif", ".tiff")):
        return ()
    with gdal_env(), open_raster(path, IMAGES) as dataset:
        own = keeps_codes(dataset.tags(), dataset.tags(1))
        return tuple(code for code in RESERVED if own or dataset.nodata == code)
