"""Footprints of buildings in pixels of a pair of images, and the crops that show them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.damage.crops import Crop, crop_of, pixel_shapes
from geoseg.damage.scale import LABELS
from geoseg.dates.stack import StackReader
from geoseg.errors import ConfigError
from geoseg.inference.reading import hidden_of
from geoseg.models.card import Card
from geoseg.models.card_values import DamageFacts
from geoseg.polygons.placing import valid_polygons
from geoseg.scenes.bands.value_map import ValueMap
from geoseg.scenes.sources import SceneRef
from geoseg.vectors.area_of_interest import AreaOfInterest
from geoseg.vectors.polygon_file import Geometries, PolygonFile
from geoseg.vectors.texts import text_of
from pipeline.config.sections import Config
from pipeline.plan.dates import OpenedDates, open_dates
from pipeline.plan.options import open_options

__all__ = ["ID_FIELDS", "Building", "buildings_in", "collect_buildings", "crops_of", "labels_of", "open_pair"]

BLOCK = 1024
"""Buildings are read in the order of blocks of so many pixels, so that each is decoded about once."""
CACHE_BYTES = 128 << 20
ID_FIELDS = ("uid", "id", "fid", "osm_id", "building_id")
"""Columns that name a building, the first that is there."""
POLYGON, MULTI = 3, 6
"""Types of geometries, as GEOS numbers them."""


@dataclass(frozen=True, slots=True, eq=False)
class Building:
    """A footprint with its columns."""

    number: int
    """Position in the file, from 1."""
    name: str
    """Its id in the file, or its number."""
    geometry: shapely.Geometry | None
    """In the CRS of the file, valid; None where the file has none."""
    shape: shapely.Geometry
    """In pixels of the scene."""
    facts: Mapping[str, object]
    """Its columns."""


def open_pair(ref: SceneRef, card: Card, config: Config) -> OpenedDates:
    """Both dates on the grid of the first.

    Raises:
        SceneError: One can't be read, or they can't be laid over each other.
    """
    return open_dates(ref, card, open_options(config, card), config)


def collect_buildings(file: PolygonFile, opened: OpenedDates, columns: tuple[str, ...]) -> list[Building]:
    """The footprints of a file in the order in which the scene is read.

    Raises:
        ConfigError: There are none, or the file has no CRS.
    """
    place = opened.scene.georeference
    if (file.crs is None) != (place.crs is None):
        lacking = file.path if file.crs is None else opened.scene.path
        raise ConfigError(
            f"{lacking}: no CRS, so that footprints can't be laid over the image; pass --assume-crs EPSG:xxxx if you know it"
        )
    found: list[Building] = []
    for geometries, values in file.batches(columns):
        odd = np.flatnonzero(~np.isin(shapely.get_type_id(geometries), (-1, POLYGON, MULTI)))
        if len(odd):
            raise ConfigError(f"{file.path}: feature {len(found) + int(odd[0]) + 1} is no polygon; footprints are polygons")
        valid = repaired(geometries)
        shapes = pixel_shapes(np.where(shapely.is_missing(valid), shapely.Polygon(), valid), file.crs, place)
        for k, (geometry, shape) in enumerate(zip(valid, shapes, strict=True)):
            facts = {name: column[k] for name, column in values.items()}
            name = next((text_of(facts[field]) for field in ID_FIELDS if facts.get(field) is not None), str(len(found) + 1))
            found.append(Building(len(found) + 1, name, geometry, shape, facts))
    if not found:
        raise ConfigError(f"{file.path}: holds no footprints")

    def block(building: Building) -> tuple[int, int, int]:
        x, y = (
            np.nan_to_num([building.shape.centroid.x, building.shape.centroid.y], posinf=0, neginf=0)
            if building.geometry
            else (0, 0)
        )
        return int(y // BLOCK), int(x // BLOCK), building.number

    return sorted(found, key=block)


def buildings_in(buildings: Sequence[Building], area: AreaOfInterest) -> list[Building]:
    """Those of some buildings that count to an area: their representative point lies in it."""
    shapes = np.array([building.shape for building in buildings], object)
    # What has no place in the image has none in the area.
    placed = np.isfinite(shapely.bounds(shapes)).all(axis=1)
    points = shapely.point_on_surface(np.where(placed, shapes, shapely.Point()))
    inside = placed & shapely.contains(area.geometry, points)
    return [building for building, yes in zip(buildings, inside.tolist(), strict=True) if yes]


def repaired(geometries: Geometries) -> Geometries:
    """Footprints as valid polygons, each in its place; None where there is none."""
    shapes = valid_polygons(shapely.force_2d(geometries))
    shapes[shapely.is_empty(shapes)] = None
    return shapes


def crops_of(
    buildings: Sequence[Building], opened: OpenedDates, facts: DamageFacts, values: ValueMap | None = None
) -> Iterator[tuple[Building, Crop]]:
    """The crops of buildings, in their order; ``values`` says how pixels become what the network takes."""
    scene = opened.scene
    with StackReader(
        scene, opened.bands, threads=2, hidden=hidden_of(scene), keep_blocks=True, cache_bytes=CACHE_BYTES
    ) as reader:
        for building in buildings:
            yield building, crop_of(reader, building.shape, scene.georeference, facts, values)


def labels_of(buildings: Sequence[Building], column: str) -> NDArray[np.int64]:
    """Classes by building; -1 where the label is none of the scale."""
    if column not in buildings[0].facts:
        raise ConfigError(f"labels: no column {column!r}; the file has {', '.join(buildings[0].facts)}")
    return np.array([LABELS.get(str(b.facts[column]).strip().lower(), -1) for b in buildings], np.int64)
