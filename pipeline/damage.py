"""Damage of buildings between two dates: a class each, or *not analysed* with the reason, and summaries."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.windows import Window as RasterioWindow

from geoseg.codes import NOT_ANALYSED
from geoseg.damage.crops import Crop, crop_of, pixel_shapes
from geoseg.damage.pooling import footprint_mask, pooled
from geoseg.damage.scale import CLASSES, LABELS, decided
from geoseg.errors import ConfigError, ModelError, OutputError, SceneError
from geoseg.georeference import Georeference
from geoseg.models.card import Card, DamageFacts
from geoseg.models.folder import Model
from geoseg.scenes.bands import ValueMap
from geoseg.scenes.scene import gdal_env
from geoseg.scenes.sources import SceneRef
from geoseg.scenes.stack import StackReader, hidden_of
from geoseg.windows import Window
from pipeline.atomic import write_json
from pipeline.config import Config
from pipeline.damage_files import (
    LAYER,
    MULTI,
    POLYGON,
    UNKNOWN,
    Building,
    areas_of,
    probability_names,
    repaired,
    summary_of,
    write_buildings,
)
from pipeline.damage_zones import ZONE_FILES, count_by_zone
from pipeline.dates import OpenedDates, dates_of, open_dates
from pipeline.folder import check_out, segment_folder
from pipeline.infer import LocalWorkers
from pipeline.plan import open_options
from pipeline.polygon_files import PolygonFile, equal_area
from pipeline.rescale import rescale_of, values_of
from pipeline.summaries import write_density, write_grid

__all__ = ["DamageRun", "collect_buildings", "crops_of", "labels_of", "map_damage", "open_pair"]

BATCH = 64
BLOCK = 1024
"""Buildings are read in the order of blocks of so many pixels, so that each is decoded about once."""
ID_FIELDS = ("uid", "id", "fid", "osm_id", "building_id")


@dataclass(frozen=True, slots=True)
class DamageRun:
    """What became of a run."""

    folder: Path
    document: dict[str, Any]


def open_pair(ref: SceneRef, card: Card, config: Config) -> OpenedDates:
    """Both dates on the grid of the first.

    Raises:
        SceneError: One can't be read, or they can't be laid over each other.
    """
    return open_dates(ref, card, open_options(config, card), config.dates, config.scene.bands)


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
            name = next((str(facts[field]) for field in ID_FIELDS if facts.get(field) is not None), str(len(found) + 1))
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


def crops_of(
    buildings: Sequence[Building], opened: OpenedDates, facts: DamageFacts, values: ValueMap | None = None
) -> Iterator[tuple[Building, Crop]]:
    """The crops of buildings, in their order; ``values`` says how pixels become what the network takes."""
    scene = opened.scene
    with StackReader(scene, opened.bands, threads=2, hidden=hidden_of(scene), keep_blocks=True, cache_bytes=128 << 20) as reader:
        for building in buildings:
            yield building, crop_of(reader, building.shape, scene.georeference, facts, values)


def map_damage(
    ref: SceneRef, footprints: str, model: Model, config: Config, out: Path, *, zones: str | None = None, cell_m: float = 250.0,
    tolerance_m: float = 1.0,
) -> DamageRun:  # fmt: skip
    """Grade every footprint of a file and write what was found to ``out / ref.name``.

    Args:
        ref: The image before, and after it that after the event.
        footprints: A file of polygons.
        model: A model that grades buildings, or one that maps the classes of damage by pixels, of the image after or of both.
        config: The settings.
        out: The output folder.
        zones: A file of polygons by which buildings are counted.
        cell_m: Side of the cells by which they are counted.
        tolerance_m: For a model that maps pixels: those so near to a footprint count to it.

    Raises:
        ConfigError: The settings don't fit.
        SceneError: An image can't be read, or they can't be laid over each other.
        OutputError: The folder holds other results.
    """
    card = model.card
    if card.damage is None and classes_of_damage(card) is None:
        raise ConfigError(
            f"model: {card.name} maps pixels of {', '.join(c.name for c in card.classes)}; give one that grades buildings (geoseg "
            f"train-damage), or one that maps {', '.join(CLASSES)}"
        )
    check_out(out)
    folder = out / ref.name
    if (folder / "damage.json").exists() and not config.run.overwrite:
        raise OutputError(f"{folder}: holds results of another run; use --overwrite or another --out")
    file = PolygonFile.open(Path(footprints), config.scene.assume_crs)
    zone_file = None if zones is None else PolygonFile.open(Path(zones), config.scene.assume_crs)
    opened = open_pair(ref, card, config)
    buildings = collect_buildings(file, opened, file.fields)
    if card.damage is not None:
        found = _by_crops(buildings, opened, model, config)
    else:
        found = _by_pixels(buildings, file.crs, ref, model, config, out, tolerance_m)
    rows = {building.number: _row(building, reason, p) for building, reason, p in found}
    folder.mkdir(parents=True, exist_ok=True)
    # What an earlier run left and this one does not write goes first: the summary, which comes last, vouches for all.
    for name in ("damage.json", "evaluation.json", *ZONE_FILES):
        (folder / name).unlink(missing_ok=True)
    # Areas on the ground, in a CRS that keeps them.
    crs = equal_area(file)
    areas = areas_of([b.geometry for b in buildings], file.crs, crs)
    for building, area in zip(buildings, areas, strict=True):
        rows[building.number]["area_m2"] = round(float(area), 2)
    ordered = sorted(buildings, key=lambda b: b.number)
    write_buildings(folder, ordered, rows, file.crs, opened.scene, model)
    document = summary_of(opened, footprints, model, [rows[b.number] for b in ordered])
    document["files"] = ["buildings.gpkg", "buildings.geojson", "buildings.csv"]
    if file.crs is not None:
        buildings_file, destroyed = folder / "buildings.gpkg", (CLASSES[-1],)
        grid = write_grid(buildings_file, folder / "grid.gpkg", destroyed, side_m=cell_m, without=(UNKNOWN,), layer=LAYER)
        write_density(buildings_file, folder / "density.tif", destroyed, radius_m=cell_m, layer=LAYER)
        document["grid"] = {"cell_m": cell_m, "cells": grid.cells, "crs": grid.crs}
        document["files"] += ["grid.gpkg", "density.tif", "density.qml"]
    if zone_file is not None:
        document["zones"] = count_by_zone(folder, zone_file, ordered, rows, file.crs)
        document["files"] += ZONE_FILES
    write_json(folder / "damage.json", document)
    return DamageRun(folder, document)


def _session(model: Model, threads: int) -> Any:
    import onnxruntime as ort

    if model.onnx is None:
        raise ModelError(f"{model.path}: has no model.onnx; train it again with geoseg train-damage")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return ort.InferenceSession(str(model.onnx), options, providers=["CPUExecutionProvider"])


Graded = Iterator[tuple[Building, str | None, NDArray[np.float32] | None]]
"""A building, why it is not analysed, or its probabilities."""


def _by_crops(buildings: Sequence[Building], opened: OpenedDates, model: Model, config: Config) -> Graded:
    assert model.card.damage is not None
    session = _session(model, config.infer.threads)
    rescale = rescale_of(opened.scene, opened.bands, config.scene.rescale)
    values = values_of(opened.scene, opened.bands, model.card, rescale, opened.lines)
    order = crops_of(buildings, opened, model.card.damage, values)
    while batch := list(itertools.islice(order, BATCH)):
        analysed = [(building, crop) for building, crop in batch if crop.reason is None]
        found: NDArray[np.float32] = np.empty((0, len(CLASSES)), np.float32)
        if analysed:
            image, mask = (np.stack(parts) for parts in zip(*((c.image, c.mask[None]) for _, c in analysed), strict=True))
            found = session.run(None, {"image": image, "mask": mask})[0]
        graded = {building.number: p for (building, _), p in zip(analysed, found, strict=True)}
        for building, crop in batch:
            yield building, crop.reason, graded.get(building.number)


def classes_of_damage(card: Card) -> list[int] | None:
    """Codes of the scale's classes in a model that maps pixels; None where one is missing."""
    codes = {LABELS[c.name.lower()]: c.value for c in card.classes if c.name.lower() in LABELS}
    return [codes[k] for k in range(len(CLASSES))] if len(codes) == len(CLASSES) else None


def _by_pixels(
    buildings: Sequence[Building],
    crs: pyproj.CRS | None,
    ref: SceneRef,
    model: Model,
    config: Config,
    out: Path,
    tolerance_m: float,
) -> Graded:
    """Damage mapped by pixels, pooled over each footprint."""
    codes = classes_of_damage(model.card)
    assert codes is not None
    # A model of one date sees the image after the event.
    target = ref if dates_of(model.card) > 1 else replace(ref.later[-1], name=f"{ref.name}_after")
    infer = config.infer.model_copy(update={"probabilities": True, "task": "semantic"})
    own = config.model_copy(update={"infer": infer, "vector": config.vector.model_copy(update={"formats": ()})})
    (report,) = segment_folder([target], [], model, own, out / "pixels", LocalWorkers)
    if report.status == "failed":
        raise SceneError(f"{report.reason}")
    with gdal_env(), rasterio.open(out / "pixels" / target.name / "probabilities.tif") as raster:
        place = Georeference(tuple(raster.transform)[:6], None if raster.crs is None else raster.crs.to_wkt())
        scene = Window(0, 0, raster.height, raster.width)
        shapes = pixel_shapes(np.array([b.geometry for b in buildings], object), crs, place)
        for building, shape in zip(buildings, shapes, strict=True):
            if shape is None or not np.isfinite(shape.bounds).all():
                yield building, "no polygon" if shape is None else "off image", None
                continue
            left, top, right, bottom = shape.bounds
            whole = Window.between(int(np.floor(top)), int(np.ceil(bottom)) + 1, int(np.floor(left)), int(np.ceil(right)) + 1)
            sides = place.pixel_sides(Window(0, 0, 1, 1)) or (1.0, 1.0)
            rows, cols = (int(np.ceil(tolerance_m / side)) + 1 for side in sides)
            window = Window(whole.row_off - rows, whole.col_off - cols, whole.height + 2 * rows, whole.width + 2 * cols) & scene
            if window is None or (whole & scene) is None:
                yield building, "off image", None
                continue
            inside = shapely.transform(shape, lambda xy, w=window: xy - [w.col_off, w.row_off])
            mask = footprint_mask(inside, window.shape, sides, tolerance_m)
            area = RasterioWindow(window.col_off, window.row_off, window.width, window.height)
            p, reason = pooled(raster.read([code + 1 for code in codes], window=area), mask)
            yield building, reason, p


def _row(building: Building, reason: str | None, found: NDArray[np.float32] | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": building.number,
        "name": building.name,
        "code": NOT_ANALYSED,
        "class": "not analysed",
        "reason": reason,
    }
    p = [None] * len(CLASSES) if found is None else [round(float(v), 4) for v in found]
    if found is not None:
        code = int(decided(found[None])[0])
        row |= {"code": code, "class": CLASSES[code]}
    return row | {
        "confidence": None if found is None else round(100 * float(found[row["code"]]), 1),
        **dict(zip(probability_names(), p, strict=True)),
    }


def labels_of(buildings: Sequence[Building], column: str) -> NDArray[np.int64]:
    """Classes by building; -1 where the label is none of the scale."""
    if column not in buildings[0].facts:
        raise ConfigError(f"labels: no column {column!r}; the file has {', '.join(buildings[0].facts)}")
    return np.array([LABELS.get(str(b.facts[column]).strip().lower(), -1) for b in buildings], np.int64)
