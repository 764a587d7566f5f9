"""Facts of a map that stand in the panel of its sheet: coordinates, scale, middle, size."""

from __future__ import annotations

import numpy as np

from geoseg.errors import GeoreferenceError
from geoseg.formats.sheet.frame import MapFrame, degrees_text, length_text

__all__ = ["map_facts"]


def map_facts(frame: MapFrame) -> list[str]:
    """What is said of a map: its coordinates, scale, middle and size."""
    wide, high = frame.half
    facts = [f"Coordinates: {_crs_name(frame)}"]
    if frame.denominator is None:
        return facts
    facts.append(f"Scale 1 : {frame.denominator:,.10g} on A4, in the middle of the map")
    try:
        lon, lat = frame.lonlat(np.zeros((1, 2)))[0]
    except GeoreferenceError:
        return facts
    facts.append(f"Middle: {_short(lat, 1)}, {_short(lon, 0)} (WGS 84)")
    sides = (length_text(float(f"{2 * side:.3g}")) for side in (wide, high))
    facts.append(f"The frame is {' x '.join(sides)} on the ground")
    return facts


def _crs_name(frame: MapFrame) -> str:
    import pyproj

    code = frame.georeference.name
    if frame.georeference.crs is None:
        return code
    name = pyproj.CRS.from_user_input(frame.georeference.crs).name
    return name if name in (code, "unknown") else f"{name} ({code})"


def _short(degrees: float, axis: int) -> str:
    """To the second."""
    return degrees_text(round(float(degrees) * 3600) / 3600, axis)
