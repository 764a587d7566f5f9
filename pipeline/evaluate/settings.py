"""Settings of comparisons: how truths are read, what is measured, what matches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["BaselineOptions", "MatchOptions", "MeasureOptions", "TruthOptions"]


@dataclass(frozen=True, slots=True)
class TruthOptions:
    """Reading of truths."""

    values: Mapping[str, str] = field(default_factory=dict)
    """Class name, or ``unlabelled``, by value of the truth where the two differ."""
    column: str | None = None
    """Of vector files, the column that names the class."""
    outside: str = "unlabelled"
    """Class of what lies outside all features."""
    plain: bool = False
    """Images without a place on Earth."""
    assume_crs: str | None = None
    """CRS of maps that have none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureOptions:
    """Measures beside the confusion matrix."""

    boundary: Sequence[str] = ("1px", "3px", "10px")
    """Distances for boundary measures: ``3px``, or ``30m`` of the map's pixels."""
    isbi: str | None = None
    """The class of the objects, for the measures of the ISBI 2012 challenge; each image is then held in memory."""
    seed: int = 0
    """Of the intervals."""
    side: int = 1024
    """Rows and columns of a window; has no influence on any figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchOptions:
    """Objects that count, and those that match."""

    iou: float = 0.5
    """Least intersection over union of a match."""
    classes: Sequence[str] | None = None
    """Values of the column ``class`` of the polygons that count; None for all."""
    sizes: Sequence[float] = (50.0, 200.0)
    """Areas in square metres that divide the objects into strata."""
    score: str = "score"
    """The column of the scores; all polygons are alike where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineOptions:
    """Classical methods that are judged beside maps."""

    images: Sequence[str]
    """The images of the maps, by their names: files, folders, globs."""
    train: Sequence[str] = ()
    """Labelled scenes to fit on: ``IMAGES=LABELS``, or one recipe of a training; none to fit on the other maps' scenes."""
    bands: Sequence[str] | None = None
    """Names of the bands to take; None for all that the first image has."""
    methods: Sequence[str] | None = None
    """Names of methods; None for all."""
    seed: int = 0
    """Of what is drawn."""
