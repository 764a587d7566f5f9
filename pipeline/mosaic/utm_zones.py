"""The maps that scenes make as one: one, one of each area of interest, and of several UTM zones one for each.

Those of zones are cut where the next zone begins, so that together they map all ground once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyproj

from geoseg.crs import crs_of
from geoseg.dialect import setting
from geoseg.errors import ConfigError
from geoseg.models.ensemble import AnyModel
from geoseg.scenes.sources import Refused, SceneRef
from pipeline.config.sections import Config
from pipeline.mosaic.planning import NAME
from pipeline.mosaic.scenes import Given
from pipeline.plan.within import Feature, features_of
from pipeline.segment.planned import SceneJob

__all__ = ["Zone", "by_zones", "job_of", "jobs_by_area", "zones_of"]

UTM = re.compile(r"(?P<number>[0-9]+)(?P<half>[NS])")
WIDTH, CIRCLE, HALF = 6, 360, 180
MOST = 45
"""Degrees beyond a zone that its map may reach: nobody has scenes that far off."""


@dataclass(frozen=True, slots=True)
class Zone:
    """The CRS of a UTM zone, and the part of the Earth that its map is for."""

    crs: str
    """``EPSG:32720``, or WKT where it has no code."""
    label: str
    """``EPSG32720``, or ``UTM20S``."""
    within: str
    """``W,S,E,N`` in degrees; over the 180th meridian where W is larger than E."""


def zones_of(given: Sequence[Given]) -> list[Zone]:
    """The zones of scenes, west to east from behind the widest gap between them; none where a scene has no zone, or all one CRS.

    Neighbours meet at the meridian between them; where zones lie between them without a scene, in the middle of these. Where
    there are both halves of a zone they meet at the equator.
    """
    every = {str(one.scene.georeference.crs): crs_of(str(one.scene.georeference.crs)) for one in given}
    different: list[pyproj.CRS] = []
    for crs in every.values():
        if crs not in different:
            different.append(crs)
    found: dict[tuple[int, str], pyproj.CRS] = {}
    for crs in different:
        match = UTM.fullmatch(crs.utm_zone or "")
        if match is None:
            return []
        found[int(match["number"]), match["half"]] = crs
    if len(different) < 2 or len(found) < len(different):
        return []
    return [_zone(crs, number, half, found) for (number, half), crs in sorted(found.items())]


def _zone(crs: pyproj.CRS, number: int, half: str, found: dict[tuple[int, str], pyproj.CRS]) -> Zone:
    numbers = sorted({one for one, _ in found})
    at = numbers.index(number)
    west = _begin(number) - _reach(numbers[at - 1], number)
    east = _begin(number) + WIDTH + _reach(number, numbers[(at + 1) % len(numbers)])
    both = len({other for one, other in found if one == number}) > 1
    south, north = (0 if both and half == "N" else -90), (0 if both and half == "S" else 90)
    code = crs.to_authority()
    return Zone(
        crs.to_wkt() if code is None else ":".join(code),
        f"UTM{number}{half}" if code is None else "".join(code),
        # From -180 on in the west, up to 180 in the east.
        f"{(west + HALF) % CIRCLE - HALF},{south},{HALF - (HALF - east) % CIRCLE},{north}",
    )


def _begin(number: int) -> int:
    """The meridian on the west of a zone."""
    return (number - 1) * WIDTH - HALF


def _reach(one: int, other: int) -> int:
    """How far the maps of a zone and of the next one that there is to the east reach towards each other, in degrees."""
    return min(MOST, (_begin(other) - _begin(one) - WIDTH) % CIRCLE // 2)


def jobs_by_area(
    scenes: Sequence[SceneRef], refused: Sequence[Refused], model: AnyModel, config: Config, out: Path
) -> list[SceneJob]:
    """The jobs of mapping scenes as one: one, or one for each feature of the file of areas of interest; see ``job_of``."""
    return [job_of(scenes, refused, model, config, out, feature) for feature in features_of(config) or (None,)]


def job_of(
    scenes: Sequence[SceneRef],
    refused: Sequence[Refused],
    model: AnyModel,
    config: Config,
    out: Path,
    feature: Feature | None = None,
) -> SceneJob:
    """The job of mapping scenes as one, in whatever order they are given.

    Args:
        scenes: The scenes.
        refused: Those that can't be used.
        model: The model.
        config: The settings.
        out: The output folder.
        feature: Of several areas of interest, the one that is mapped, into a folder of its name.

    Raises:
        ConfigError: There is none, or one can't be used: a map without it would look whole.
    """
    if refused:
        more = f", and {len(refused) - 1} more" if len(refused) > 1 else ""
        raise ConfigError(f"mosaic: {refused[0].name}: {refused[0].reason}{more}; mend what can't be used or leave it out")
    if not scenes:
        raise ConfigError("mosaic: there is no scene; give files, folders or addresses of at least one")
    if config.area.aoi_column is not None and feature is None:
        raise ConfigError(f"{setting('aoi_column')}: a mosaic is one map of one area here; leave it out, or {setting('mosaic')}")
    # One reference holds them all: the stages know one scene.
    ref = SceneRef(NAME, (), later=tuple(sorted(scenes, key=lambda ref: ref.name)))
    return SceneJob.of(ref if feature is None else feature.of(ref), model, config, out)


def by_zones(job: SceneJob, given: Sequence[Given]) -> list[SceneJob]:
    """The jobs of the mosaics of scenes, one for each of their zones; the job itself where they have one CRS."""
    config = job.config
    zones = zones_of(given) if config.scene.target_crs is None and config.mosaic.within is None else []
    jobs = []
    for zone in zones:
        scene = config.scene.model_copy(update={"target_crs": zone.crs})
        mosaic = config.mosaic.model_copy(update={"within": zone.within})
        own = config.model_copy(update={"scene": scene, "mosaic": mosaic})
        jobs.append(SceneJob.of(replace(job.ref, name=f"{job.ref.name}-{zone.label}"), job.model, own, job.out))
    return jobs or [job]
