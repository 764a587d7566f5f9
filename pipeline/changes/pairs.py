"""Pairs of scenes of a stream that are two dates of one place: each with the last one before it whose footprint overlaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoseg.errors import SceneError
from geoseg.scenes.names import scene_name
from geoseg.scenes.opening import open_scene
from geoseg.scenes.refs import Refused, SceneRef, without_equal_names
from geoseg.scenes.scene import OpenOptions, Scene

if TYPE_CHECKING:
    import shapely

__all__ = ["consecutive_pairs"]

LEAST_SHARE = 0.2
"""Share of the smaller scene that two dates have in common at least."""


@dataclass(frozen=True, slots=True)
class _Placed:
    ref: SceneRef
    acquired: str
    footprint: shapely.Polygon


def consecutive_pairs(scenes: Sequence[SceneRef], options: OpenOptions) -> tuple[list[SceneRef], list[Refused]]:
    """Pairs in the order of their later dates, and the scenes that can't be placed in time or on Earth.

    Args:
        scenes: The scenes, in any order.
        options: How they are opened.
    """
    placed: list[_Placed] = []
    refused: list[Refused] = []
    for ref in scenes:
        try:
            scene = open_scene(ref.paths, ref.name, options, band_names=ref.band_names, told=ref.told)
        except SceneError as error:
            refused.append(Refused(ref.name, ref.paths, "failed", str(error)))
            continue
        if scene.acquired is None:
            reason = f"{scene.path}: neither its tags nor its name say when it was acquired, so that it can't be compared"
            refused.append(Refused(ref.name, ref.paths, "failed", reason))
        elif not scene.georeference.has_lonlat:
            refused.append(
                Refused(ref.name, ref.paths, "failed", f"{scene.path}: has no place on Earth, so that it can't be compared")
            )
        else:
            placed.append(_Placed(ref, scene.acquired, _footprint(scene)))
    placed.sort(key=lambda one: (one.acquired, one.ref.name))
    pairs = []
    for number, one in enumerate(placed):
        earlier = [
            other for other in placed[:number] if other.acquired < one.acquired and _shares(one.footprint, other.footprint)
        ]
        if earlier:
            before = earlier[-1].ref
            name = scene_name(f"{before.name}_to_{Path(one.ref.name).name}")
            pairs.append(replace(before, name=name, later=(one.ref,)))
    own, same = without_equal_names(pairs)
    return [pair for pair in pairs if pair in own], refused + same


def _footprint(scene: Scene) -> shapely.Polygon:
    import shapely

    rows = np.array([0, 0, scene.height, scene.height], np.float64)
    cols = np.array([0, scene.width, scene.width, 0], np.float64)
    return shapely.Polygon(scene.georeference.lonlat(rows, cols))


def _shares(one: shapely.Polygon, other: shapely.Polygon) -> bool:
    common = one.intersection(other).area
    return bool(common >= LEAST_SHARE * min(one.area, other.area))
