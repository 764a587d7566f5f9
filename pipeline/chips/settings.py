"""Settings of chips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from geoseg.codes import UNLABELLED

__all__ = ["ChipOptions", "LabelOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelOptions:
    """Meaning of labels."""

    codes: Mapping[str, int] | None = None
    """Class codes by raster value or text of the class column; None takes raster values as they are, and features as 1."""
    column: str | None = None
    """Of vector labels, the column that names the class."""
    outside: int = UNLABELLED
    """Code of what lies outside all features."""
    ignore: str | None = None
    """A vector file with areas that are not labelled."""
    all_touched: bool = False
    """Burn all pixels that a feature touches."""
    border: int = 0
    """Pixels to each side of a border between classes or objects that are not labelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipOptions:
    """Chips that are written."""

    size: int = 256
    """Rows and columns."""
    step: int | None = None
    """Pixels from each chip of the grid to the next; None for ``size``."""
    sampler: str = "grid"
    """``grid``, ``area`` or ``class``."""
    count: int = 1000
    """Number that samplers other than the grid draw; those drawn twice are written once."""
    seed: int = 0
    """Of what is drawn."""
    labelled: float = 0.0
    """Least share of labelled pixels; chips without any are left out in any case."""
