"""Where outlines that people draw may lie: about what is reviewed, not with longitude and latitude swapped."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import shapely

from geoseg.crs import between
from geoseg.errors import ConfigError
from geoseg.vectors.polygon_file import PolygonFile
from pipeline.review.decisions import Decision, shape_of
from pipeline.review.replay import LONLAT
from pipeline.review.reviewed_units import BUILDING_UNITS
from pipeline.review.subject import Subject

__all__ = ["Place", "place_of"]

REACH_KM = 50
"""About the box of all that is reviewed: what footprints have missed lies on the same images."""
KM_OF_DEGREE = 111.2
"""Of latitude."""
DENSIFIED = 21


@dataclass(frozen=True, slots=True)
class Place:
    """A box in longitude and latitude, in which what is drawn has to lie."""

    west: float
    south: float
    east: float
    north: float

    @classmethod
    def about(cls, file: PolygonFile) -> Self | None:
        """The box of all polygons of a file and the reach about it; None where it holds nothing.

        Raises:
            ConfigError: It can't be read.
        """
        box = file.extent()
        if box is None or file.crs is None:
            return None
        west, south, east, north = between(file.crs, LONLAT).transform_bounds(*box, densify_pts=DENSIFIED)
        if west > east:  # over the 180th meridian
            east += 360
        up = REACH_KM / KM_OF_DEGREE
        aside = up / max(math.cos(math.radians(min(max(abs(south), abs(north)) + up, 89))), up)
        return cls(west - aside, south - up, east + aside, north + up)

    def check(self, decision: Decision) -> None:
        """Refuse an outline elsewhere: with it, no version could be made any more of a log that only grows.

        Raises:
            ConfigError: It does not lie in the box.
        """
        if decision.geometry is None:
            return
        left, bottom, right, top = shapely.bounds(shape_of(decision.geometry)).tolist()
        # Longitudes go round: -181 is 179.
        turn = 360 * math.ceil((self.west - left) / 360)
        if left + turn < self.west or right + turn > self.east or bottom < self.south or top > self.north:
            raise ConfigError(
                f"decision: geometry: longitudes {left:g} to {right:g} and latitudes {bottom:g} to {top:g} are not where the "
                f"buildings are (longitudes {self.west:.2f} to {self.east:.2f}, latitudes {self.south:.2f} to {self.north:.2f}, "
                f"with {REACH_KM} km about them); GeoJSON has the longitude first"
            )


def place_of(subject: Subject) -> Place | None:
    """Where what is drawn has to lie: of buildings, near those of the run; elsewhere a raster has its own borders.

    Raises:
        ConfigError: The buildings can't be read.
    """
    return Place.about(subject.polygons(0)) if subject.units is BUILDING_UNITS else None
