"""What a mosaic is cut to: the area of interest, and the part of the Earth that its CRS is for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from geoseg.documents import Json
from geoseg.scenes.scene import Scene
from geoseg.vectors.area_of_interest import AreaOfInterest, area_on
from geoseg.vectors.given_area import GivenArea, read_area
from pipeline.config.sections import Config

__all__ = ["AROUND_PX", "area_facts", "areas_of", "mosaic_area"]

AROUND_PX = 1.0
"""Pixels around the area that are mapped in each scene: what they give together is cut."""


def areas_of(config: Config, feature: str | None = None) -> tuple[GivenArea, ...]:
    """What a mosaic is cut to: up to two areas, in both of which its pixels lie.

    Args:
        config: The settings.
        feature: Of several areas of interest, the one of this name.

    Raises:
        ConfigError: One can't be read.
    """
    column = None if feature is None else config.area.aoi_column
    given = [(config.area.aoi, column, feature), (config.mosaic.within, None, None)]
    return tuple(read_area(text, config.scene.assume_crs, *which) for text, *which in given if text is not None)


def mosaic_area(scene: Scene, areas: Sequence[GivenArea], *, grown: float = 0.0) -> AreaOfInterest | None:
    """The areas on a scene or on the mosaic; None where nothing is cut.

    Args:
        scene: The scene.
        areas: See ``areas_of``.
        grown: By how many pixels it is larger on all sides.

    Raises:
        OutsideAreaError: The scene lies outside of it.
        ConfigError: An area has no CRS.
    """
    if not areas:
        return None
    within = areas[1] if len(areas) > 1 else None
    return area_on(areas[0], scene.georeference, (scene.height, scene.width), scene.path, grown=grown, within=within)


def area_facts(areas: Sequence[GivenArea], config: Config) -> dict[str, Json]:
    """What the area of a mosaic depends on, as it was given; nothing where nothing is cut."""
    if not areas:
        return {}
    parts = [area.digest for area in areas]
    if config.mosaic.within is not None:
        # For an area of interest alone, the settings have it.
        parts.append(config.area.aoi_cut)
    return {"area": parts[0] if len(parts) == 1 else hashlib.sha256(" ".join(parts).encode()).hexdigest()}
