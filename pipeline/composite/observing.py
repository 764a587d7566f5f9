"""The scenes of a composite, on one lattice, with the bands that are taken of each, and what hides their ground."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

import numpy as np

from geoseg.dialect import setting
from geoseg.documents import Json
from geoseg.errors import BandError, ConfigError, OutsideAreaError
from geoseg.scenes.bands.choosing import choose_bands
from geoseg.scenes.bands.roles import ALPHA
from geoseg.scenes.scene import Scene
from geoseg.scenes.sources import SceneRef
from geoseg.vectors.area_of_interest import AreaOfInterest, area_on
from geoseg.vectors.given_area import read_area
from geoseg.windows import Window
from pipeline.composite.periods import period_of
from pipeline.config.sections import Config
from pipeline.mosaic.lattice import Lattice, lattice_of
from pipeline.mosaic.scenes import Given, PlacedScene, refuse_mixed, survey
from pipeline.plan.cloud_source import with_clouds

__all__ = ["FLOAT_NODATA", "Observation", "Observations", "Values", "observe"]

Dtype: TypeAlias = Literal["uint8", "uint16", "int16", "float32"]
KEPT: Mapping[str, Dtype] = {"uint8": "uint8", "uint16": "uint16", "int8": "int16", "int16": "int16"}
"""Types of pixels that files of composites have, too; all others become float32."""
FLOAT_NODATA = -9999


@dataclass(frozen=True, slots=True)
class Values:
    """What the numbers of a composite are."""

    names: tuple[str, ...]
    """Of its bands; empty for what has none."""
    colors: tuple[str, ...]
    """Of its bands, the colour interpretation of the first scene."""
    dtype: Dtype
    """Of its file."""
    nodata: int
    scales: tuple[tuple[float, float], ...]
    """By band, scale and offset of its file."""
    physical: bool
    """Whether scenes are brought to physical values, since their scales differ."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What the bands are called in records."""
        return tuple(name or f"band {number}" for number, name in enumerate(self.names, 1))


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """One scene on the lattice."""

    scene: Scene
    bands: tuple[int, ...]
    """Indices into its bands."""
    image: Window
    """What it fills of the lattice."""
    facts: Mapping[str, Json]
    """For the record."""

    @property
    def day(self) -> int:
        """Its date as YYYYMMDD; 0 where it has none."""
        return int((self.scene.acquired or "0")[:10].replace("-", ""))


@dataclass(frozen=True, slots=True, eq=False)
class Observations:
    """All scenes of a run."""

    lattice: Lattice
    window: Window
    """What the images of all periods fill of the lattice."""
    values: Values
    periods: Mapping[str, tuple[Observation, ...]]
    """By period, the latest first; those of one date by name."""
    area: AreaOfInterest | None
    """On the raster of the images."""
    notes: tuple[str, ...]


def observe(refs: Sequence[SceneRef], config: Config) -> Observations:
    """Open scenes, lay them on one lattice, and sort them into periods; the order in which they come does not matter.

    Raises:
        SceneError: One can't be read or placed, or its bands are others.
        ConfigError: The settings don't fit, or a date is missing.
        OutsideAreaError: No scene touches the area of interest.
    """
    given = survey(refs, config, None)
    refuse_mixed(given, config)
    _check_dates(given, config)
    lattice = lattice_of(given[0].ref, given[0].scene, config, None)
    placed = [PlacedScene.on(lattice, one, 1) for one in given]
    window, area = _extent(lattice, placed, config)
    near = [(one, place) for one, place in zip(given, placed, strict=True) if place.image & window]
    chosen = _bands_of([one.scene for one, _ in near], config)
    values = _values_of([one.scene for one, _ in near], chosen)
    notes: list[str] = []
    found = []
    for (one, place), bands in zip(near, chosen, strict=True):
        known = {name: band for name, band in zip(values.names, bands, strict=True) if name}
        scene, said = with_clouds(place.laid(one.scene, lattice), one.name, config, known)
        notes += [f"{one.name}: {note}" for note in (*one.scene.warnings, *said)]
        clouds = None if scene.clouds is None else scene.clouds.name
        facts = {**place.document(), "fingerprint": scene.fingerprint, "clouds": clouds}
        found.append(Observation(scene, bands, place.image, facts))
    return Observations(lattice, window, values, _by_period(found, config), area, tuple(notes))


def _check_dates(given: Sequence[Given], config: Config) -> None:
    """Refuse scenes without a date where dates decide.

    Raises:
        ConfigError: There is one.
    """
    asked = config.composite
    by_date = asked.period != "all" or (asked.method == "best" and asked.best == "latest")
    missing = [one.scene.path for one in given if one.scene.acquired is None]
    if by_date and missing:
        what = f"period: {asked.period}" if asked.period != "all" else "best: latest"
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise ConfigError(
            f"composite.{what}: {missing[0]}{more}: neither tags nor name say when it was acquired; put the date into the name "
            "(2019-07-04) or into the tag ACQUISITION_DATE"
        )


def _extent(lattice: Lattice, placed: Sequence[PlacedScene], config: Config) -> tuple[Window, AreaOfInterest | None]:
    """What the images fill of the lattice, and the area of interest on them.

    Raises:
        OutsideAreaError: No scene touches it.
    """
    images = [one.image for one in placed]
    window = Window.between(
        min(image.row_off for image in images),
        max(image.row_stop for image in images),
        min(image.col_off for image in images),
        max(image.col_stop for image in images),
    )
    if config.area.aoi is None:
        return window, None
    given = read_area(config.area.aoi, config.scene.assume_crs, None, None)
    place = lattice.georeference(window.row_off, window.col_off)
    whole = area_on(given, place, window.shape, "all scenes together").window
    cut = Window.at((window.row_off + whole.row_off, window.col_off + whole.col_off), whole.shape)
    if not any(image & cut for image in images):
        raise OutsideAreaError(f"area of interest {given.label} touches none of the scenes")
    return cut, area_on(given, lattice.georeference(cut.row_off, cut.col_off), cut.shape, "all scenes together")


def _bands_of(scenes: Sequence[Scene], config: Config) -> list[tuple[int, ...]]:
    """Indices of the bands of each scene: those that were asked for, or all of the first one, by what they are called."""
    asked = config.scene.bands
    if asked is not None:
        return [choose_bands(scene, asked, asked)[0] for scene in scenes]
    wanted = _names(scenes[0])
    labels = [name or f"band {number}" for number, name in enumerate(wanted, 1)]
    found = []
    for scene in scenes:
        if _names(scene) == wanted:
            found.append(tuple(range(len(wanted))))
            continue
        try:
            found.append(choose_bands(scene, labels, None)[0])
        except BandError as error:
            raise BandError(
                f"{error} (bands of {scenes[0].path}; choose some that all scenes have with {setting('bands')})"
            ) from error
    return found


def _names(scene: Scene) -> list[str]:
    """What its bands are called: by their roles where these tell them apart, else by their names; empty without one."""
    roles = [band.role for band in scene.bands]
    found: list[str] = []
    for band in scene.bands:
        known = (band.role if roles.count(band.role) == 1 else None, band.name)
        found.append(next((name for name in known if name is not None and name not in found), ""))
    return found


def _values_of(scenes: Sequence[Scene], chosen: Sequence[tuple[int, ...]]) -> Values:
    """Names, type, no data and scales of the composite."""
    first = _names(scenes[0])
    taken = [[scene.bands[i] for i in bands] for scene, bands in zip(scenes, chosen, strict=True)]
    scales = [tuple((band.scale, band.offset) for band in bands) for bands in taken]
    physical = any(other != scales[0] for other in scales)
    mixed = np.result_type(*{band.dtype for bands in taken for band in bands}).name
    dtype: Dtype = "float32" if physical else KEPT.get(mixed, "float32")
    told = {band.nodata for bands in taken for band in bands}
    nodata = _nodata(dtype, told.pop() if len(told) == 1 and not physical else None)
    return Values(
        names=tuple(first[i] for i in chosen[0]),
        colors=tuple(_color(first[i], band.color) for i, band in zip(chosen[0], taken[0], strict=True)),
        dtype=dtype,
        nodata=nodata,
        scales=tuple((1.0, 0.0) for _ in chosen[0]) if physical else scales[0],
        physical=physical,
    )


def _color(name: str, color: str) -> str:
    """The colour interpretation of a band: what its name says, where it has one."""
    if name:
        return name if name in ("red", "green", "blue") else "undefined"
    return "undefined" if color == ALPHA else color


def _nodata(dtype: Dtype, told: float | None) -> int:
    """The value for no data: that of all scenes where a file of this type can hold it, else the least one."""
    if dtype == "float32":
        exact = told is not None and np.isfinite(told) and float(told).is_integer() and abs(told) < 2**24
        return int(cast("float", told)) if exact else FLOAT_NODATA
    limits = np.iinfo(dtype)
    if told is not None and float(told).is_integer() and limits.min <= told <= limits.max:
        return int(told)
    return int(limits.min)


def _by_period(found: Sequence[Observation], config: Config) -> dict[str, tuple[Observation, ...]]:
    groups: dict[str, list[Observation]] = defaultdict(list)
    for one in sorted(found, key=lambda one: one.scene.name):
        groups[period_of(one.scene.acquired or "", config.composite.period)].append(one)
    return {key: tuple(sorted(groups[key], key=lambda one: one.scene.acquired or "", reverse=True)) for key in sorted(groups)}
