"""Columns that came with a file beside our own: names that differ, types that a layer can hold, numbers out of texts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import SupportsFloat, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import ConfigError

__all__ = ["LayerColumns", "numbers_of", "renamed"]

RESERVED = ("fid", "geom", "geometry", "ogc_fid")
"""Names that a layer of a GeoPackage has for itself."""
LARGEST = 2**63


def renamed(theirs: Iterable[str], ours: Iterable[str]) -> dict[str, str]:
    """The names under which the columns of a file are written beside our own.

    Formats don't tell upper from lower letters, so that ``ZONE`` beside ``zone`` becomes ``ZONE_2``, as does a second ``Name``
    beside ``NAME``, and ``fid`` becomes ``fid_2``.
    """
    taken = {name.casefold() for name in (*ours, *RESERVED)}
    found: dict[str, str] = {}
    for name in theirs:
        new, number = name or "column", 1
        while new.casefold() in taken:
            number += 1
            new = f"{name or 'column'}_{number}"
        taken.add(new.casefold())
        found[name] = new
    return found


@dataclass(frozen=True, slots=True, eq=False)
class LayerColumns:
    """Columns as pyogrio writes them."""

    names: list[str]
    arrays: list[NDArray[np.generic]]
    missing: list[NDArray[np.bool_]]
    """(N,) by column, where there is no value."""

    @classmethod
    def of(cls, columns: Mapping[str, Sequence[object]]) -> LayerColumns:
        """Numbers as numbers, none of them rounded; truth values as such; all else as text."""
        arrays = [_as_array(values) for values in columns.values()]
        return cls(
            list(columns), arrays, [np.array([_is_none(value) for value in values], np.bool_) for values in columns.values()]
        )


def _is_none(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _as_array(values: Sequence[object]) -> NDArray[np.generic]:
    known = [value for value in values if not _is_none(value)]
    if known and all(isinstance(value, bool) for value in known):
        return np.array([bool(value) for value in values], np.bool_)
    if known and all(isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST for value in known):
        return np.array([0 if _is_none(value) else value for value in values], np.int64)
    exact = all(isinstance(v, float) or (isinstance(v, int) and not isinstance(v, bool) and abs(v) <= 2**53) for v in known)
    if known and exact:
        return np.array([np.nan if _is_none(value) else value for value in values], np.float64)
    return np.array([None if _is_none(value) else _text(value) for value in values], object)


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else str(value)


def numbers_of(path: Path, column: str, values: Sequence[object], cure: str) -> NDArray[np.float64]:
    """A column as numbers, those written as text among them; NaN where there is none.

    Args:
        path: The file that it is of.
        column: Its name.
        values: Its values.
        cure: What to do where it is no number.

    Raises:
        ConfigError: A value is none.
    """
    found = np.full(len(values), np.nan)
    for i, value in enumerate(values):
        if _is_none(value) or (isinstance(value, str) and not value.strip()):
            continue
        try:
            if not isinstance(value, str | SupportsFloat | SupportsIndex):
                raise TypeError(type(value).__name__)  # noqa: TRY301 - told below, as what float says
            found[i] = float(value)
        except (TypeError, ValueError, OverflowError):
            raise ConfigError(f"{path}: column {column!r} holds {str(value)[:40]!r}, which is no number; {cure}") from None
        if math.isinf(found[i]):
            raise ConfigError(f"{path}: column {column!r} holds {value}, which is no finite number; {cure}")
    return found
