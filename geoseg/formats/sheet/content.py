"""The content of a map sheet, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from geoseg.arrays import F64, U8
from geoseg.georeference import Georeference

__all__ = ["LegendEntry", "Outline", "Picture", "Sheet", "Surroundings"]


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """The image under the polygons."""

    pixels: U8
    """(h, w, 3 or 4) red, green, blue and opacity; as many pixels as the page shows, some 1500 a side, not the whole scene."""
    georeference: Georeference
    """Where these pixels lie; in the CRS of the sheet."""


@dataclass(frozen=True, slots=True)
class LegendEntry:
    """A class that the map shows."""

    code: int
    name: str
    color: str
    """``#rrggbb``."""
    amount: str = ""
    """How much there is: ``1,204 ha``, ``87 buildings``."""


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """Areas that the map shows beside the classes: the area of interest, what was not analysed."""

    name: str
    geometries: Sequence[Any]
    """Polygons of shapely in the CRS of the sheet."""
    color: str = "#d7263d"
    dashed: bool = True
    hatched: bool = False
    amount: str = ""
    """How much there is, as of a class."""


@dataclass(frozen=True, slots=True, eq=False)
class Surroundings:
    """What lies around what was mapped, as somebody else's files have it."""

    roads: Sequence[Any] = ()
    """Lines of shapely in the CRS of the sheet."""
    places: Sequence[tuple[str, tuple[float, float]]] = ()
    """Names, and where they are in the CRS of the sheet, the most important first."""
    borders: Sequence[F64] = ()
    """(N, 2) longitudes and latitudes each: lines on the locator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """The texts of a map sheet."""

    title: str
    subtitle: str = ""
    legend: tuple[LegendEntry, ...] = ()
    """In the order of drawing: the last lies on top."""
    table: tuple[tuple[str, ...], ...] = ()
    """Rows of two or three cells, the first its head."""
    sources: tuple[str, ...] = ()
    """A line each: images with their dates, the model with its sha256."""
    produced: str
    """Date of production, ISO 8601."""
    producer: str = ""
    edition: str = ""
    """Version and status."""
    contact: str = ""
    quality: tuple[str, ...] = ()
    """A line each: what was measured of the map, and what is to be minded, the most important first."""
    disclaimer: str = ""
    licence: str = ""
    """Licence and attribution."""
    code: str = ""
    """Of the event or the product."""
    around: Surroundings = Surroundings()
