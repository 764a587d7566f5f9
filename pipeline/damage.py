"""Damage of buildings between two dates: a class each, or *not analysed* with the reason, and summaries."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray

from geoseg.codes import NOT_ANALYSED
from geoseg.damage.crops import Crop, crop_of, pixel_shapes
from geoseg.damage.scale import CLASSES, LABELS, STYLES, building_figures, decided, xview2_score
from geoseg.errors import ConfigError, ModelError, OutputError
from geoseg.formats.styles import vector_qml
from geoseg.models.card import Card, DamageFacts
from geoseg.models.folder import Model
from geoseg.scenes.scene import Scene
from geoseg.scenes.sources import SceneRef
from geoseg.scenes.stack import StackReader, hidden_of
from pipeline.atomic import atomic_path, write_json
from pipeline.config import Config
from pipeline.dates import OpenedDates, open_dates
from pipeline.plan import open_options
from pipeline.polygon_files import PolygonFile, equal_area

__all__ = ["DamageRun", "collect_buildings", "crops_of", "judge_damage", "labels_of", "map_damage", "open_pair"]

BATCH = 64
BLOCK = 1024
"""Buildings are read in the order of blocks of so many pixels, so that each is decoded about once."""
LAYER = "buildings"
ID_FIELDS = ("uid", "id", "fid", "osm_id", "building_id")


@dataclass(frozen=True, slots=True, eq=False)
class Building:
    """A footprint and what was found out about it."""

    number: int
    name: str
    geometry: Any
    """In the CRS of the file."""
    shape: Any
    """In pixels of the scene."""
    facts: dict[str, Any]


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
    import shapely

    place = opened.scene.georeference
    if (file.crs is None) != (place.crs is None):
        lacking = file.path if file.crs is None else opened.scene.path
        raise ConfigError(
            f"{lacking}: no CRS, so that footprints can't be laid over the image; pass --assume-crs EPSG:xxxx if you know it"
        )
    found: list[Building] = []
    for geometries, values in file.batches(columns):
        shapes = pixel_shapes(geometries, file.crs, place)
        for k, (geometry, shape) in enumerate(zip(geometries, shapes, strict=True)):
            if geometry is None or shapely.get_dimensions(geometry) != 2:
                raise ConfigError(f"{file.path}: feature {len(found) + 1} is no polygon; footprints are polygons")
            facts = {name: column[k] for name, column in values.items()}
            name = next((str(facts[field]) for field in ID_FIELDS if facts.get(field) is not None), str(len(found) + 1))
            found.append(Building(len(found) + 1, name, geometry, shape, facts))
    if not found:
        raise ConfigError(f"{file.path}: holds no footprints")

    def block(building: Building) -> tuple[int, int, int]:
        x, y = (float(v) if np.isfinite(v) else 0.0 for v in building.shape.centroid.coords[0])
        return int(y // BLOCK), int(x // BLOCK), building.number

    return sorted(found, key=block)


def crops_of(buildings: Sequence[Building], opened: OpenedDates, facts: DamageFacts) -> Iterator[tuple[Building, Crop]]:
    """The crops of buildings, in their order."""
    scene = opened.scene
    with StackReader(scene, opened.bands, threads=2, hidden=hidden_of(scene), keep_blocks=True, cache_bytes=128 << 20) as reader:
        for building in buildings:
            yield building, crop_of(reader, building.shape, scene.georeference, facts)


def map_damage(
    ref: SceneRef, footprints: str, model: Model, config: Config, out: Path, *, zones: str | None = None, cell_m: float = 250.0,
) -> DamageRun:  # fmt: skip
    """Grade every footprint of a file and write what was found to ``out / ref.name``.

    Args:
        ref: The image before, and after it that after the event.
        footprints: A file of polygons.
        model: A model that grades buildings.
        config: The settings.
        out: The output folder.
        zones: A file of polygons by which buildings are counted.
        cell_m: Side of the cells by which they are counted.

    Raises:
        ConfigError: The settings don't fit.
        SceneError: An image can't be read, or they can't be laid over each other.
        OutputError: The folder holds other results.
    """
    from pipeline.folder import check_out

    card = model.card
    if card.damage is None:
        raise ConfigError(f"model: {card.name} maps pixels; make one that grades buildings with geoseg train-damage")
    check_out(out)
    folder = out / ref.name
    if (folder / "damage.json").exists() and not config.run.overwrite:
        raise OutputError(f"{folder}: holds results of another run; use --overwrite or another --out")
    file = PolygonFile.open(Path(footprints), config.scene.assume_crs)
    zone_file = None if zones is None else PolygonFile.open(Path(zones), config.scene.assume_crs)
    opened = open_pair(ref, card, config)
    buildings = collect_buildings(file, opened, file.fields)
    session = _session(model, config.infer.threads)
    rows: dict[int, dict[str, Any]] = {}
    order = crops_of(buildings, opened, card.damage)
    while batch := list(itertools.islice(order, BATCH)):
        analysed = [(building, crop) for building, crop in batch if crop.reason is None]
        found: NDArray[np.float32] = np.empty((0, len(CLASSES)), np.float32)
        if analysed:
            image, mask = (np.stack(parts) for parts in zip(*((c.image, c.mask[None]) for _, c in analysed), strict=True))
            found = session.run(None, {"image": image, "mask": mask})[0]
        graded = {building.number: p for (building, _), p in zip(analysed, found, strict=True)}
        for building, crop in batch:
            rows[building.number] = _row(building, crop, graded.get(building.number))
    folder.mkdir(parents=True, exist_ok=True)
    # Areas on the ground, in a CRS that keeps them.
    crs = equal_area(file)
    areas = _areas([b.geometry for b in buildings], file.crs, crs)
    for building, area in zip(buildings, areas, strict=True):
        rows[building.number]["area_m2"] = round(float(area), 2)
    ordered = sorted(buildings, key=lambda b: b.number)
    _write_buildings(folder, ordered, rows, file.crs, opened.scene, model)
    document = _document(opened, footprints, model, [rows[b.number] for b in ordered])
    document["files"] = ["buildings.gpkg", "buildings.geojson", "buildings.csv"]
    if file.crs is not None:
        document["grid"] = _grid(folder, ordered, rows, file.crs, crs, cell_m)
        document["files"].append("grid.gpkg")
    if zone_file is not None:
        document["zones"] = _by_zone(folder, zone_file, ordered, rows, file.crs)
        document["files"].append("zones.csv")
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


def _row(building: Building, crop: Crop, found: NDArray[np.float32] | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": building.number,
        "name": building.name,
        "code": NOT_ANALYSED,
        "class": "not analysed",
        "reason": crop.reason,
    }
    p = [None] * len(CLASSES) if found is None else [round(float(v), 4) for v in found]
    if found is not None:
        code = int(decided(found[None])[0])
        row |= {"code": code, "class": CLASSES[code]}
    return row | {
        "confidence": None if found is None else round(100 * float(found[row["code"]]), 1),
        **dict(zip(_p_names(), p, strict=True)),
    }


def _p_names() -> list[str]:
    return [f"p_{name.replace(' ', '_')}" for name in CLASSES]


def _areas(geometries: list[Any], source: pyproj.CRS | None, target: pyproj.CRS | None) -> NDArray[np.float64]:
    import shapely

    shapes = np.array(geometries, object)
    if source is not None and target is not None:
        move = pyproj.Transformer.from_crs(source, target, always_xy=True)
        shapes = shapely.transform(shapes, lambda xy: np.stack(move.transform(xy[:, 0], xy[:, 1]), axis=1))
    return np.asarray(shapely.area(shapes))


def _write_buildings(
    folder: Path,
    buildings: Sequence[Building],
    rows: dict[int, dict[str, Any]],
    crs: pyproj.CRS | None,
    scene: Scene,
    model: Model,
) -> None:
    import pyogrio.raw
    import shapely

    constants = {
        "pre_date": scene.dates[0].acquired, "post_date": scene.dates[-1].acquired,
        "pre_image": Path(scene.dates[0].path).name, "post_image": Path(scene.dates[-1].path).name,
        "model": f"{model.card.name} {model.card.version}", "model_sha256": model.sha256,
    }  # fmt: skip
    names = ["id", "name", "code", "class", "area_m2", "confidence", *_p_names(), "reason"]
    numbers = {"id": np.int64, "code": np.int16, "area_m2": np.float64, "confidence": np.float64} | dict.fromkeys(
        _p_names(), np.float64
    )
    columns: list[NDArray[Any]] = []
    for name in names:
        values = [rows[b.number][name] for b in buildings]
        kind = numbers.get(name)
        columns.append(np.array([np.nan if v is None else v for v in values], kind) if kind else np.array(values, object))
    columns += [np.full(len(buildings), value, object) for value in constants.values()]
    geometry = shapely.to_wkb(np.array([b.geometry for b in buildings], object))
    for suffix, driver in ((".gpkg", "GPKG"), (".geojson", "GeoJSON")):
        if driver == "GeoJSON" and crs is None:
            continue
        shapes = geometry if driver == "GPKG" or crs is None else shapely.to_wkb(_lonlat(buildings, crs))
        with atomic_path(folder / f"buildings{suffix}") as part:
            pyogrio.raw.write(
                part, shapes, columns, [*names, *constants], geometry_type="Unknown", driver=driver, layer=LAYER,
                crs=None if crs is None else ("OGC:CRS84" if driver == "GeoJSON" else crs.to_wkt()),
                layer_options={"GEOMETRY_NAME": "geom"} if driver == "GPKG" else {"RFC7946": "YES"},
            )  # fmt: skip
            if driver == "GPKG":
                _style(part)
    with atomic_path(folder / "buildings.csv") as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([rows[b.number][name] for name in names] for b in buildings)


def _style(path: Path) -> None:
    import sqlite3
    from contextlib import closing

    from geoseg.formats.vector import add_style

    with closing(sqlite3.connect(path)) as connection, connection:
        add_style(connection, LAYER, vector_qml(STYLES), "Damage")


def _lonlat(buildings: Sequence[Building], crs: pyproj.CRS) -> NDArray[Any]:
    import shapely

    move = pyproj.Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)
    shapes = np.array([b.geometry for b in buildings], object)
    return np.asarray(
        shapely.transform(shapely.force_2d(shapes), lambda xy: np.stack(move.transform(xy[:, 0], xy[:, 1]), axis=1))
    )


def _counts(codes: NDArray[np.int64]) -> dict[str, Any]:
    counts = {name: int((codes == k).sum()) for k, name in enumerate(CLASSES)}
    analysed = sum(counts.values())
    share = counts["destroyed"] / analysed if analysed else None
    return {
        **counts,
        "not analysed": int((codes == NOT_ANALYSED).sum()),
        "share_destroyed": None if share is None else round(share, 4),
    }


def _document(opened: OpenedDates, footprints: str, model: Model, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    codes = np.array([row["code"] for row in rows])
    reasons: dict[str, int] = {}
    for row in rows:
        if row["reason"]:
            reasons[row["reason"]] = reasons.get(row["reason"], 0) + 1
    return {
        "dates": [{"acquired": d.acquired, "source": [f.path for f in d.files]} for d in opened.scene.dates],
        "footprints": footprints, "model": {"name": model.card.name, "version": model.card.version, "sha256": model.sha256},
        "registration": [{"rows": r.rows, "cols": r.cols, "residual": r.residual, "consistent": r.consistent} for r in opened.registrations],
        "warnings": [*opened.scene.warnings, *opened.notes], "buildings": len(rows), "counts": _counts(codes), "not_analysed": reasons,
        "destroyed_expected": round(float(sum(row["p_destroyed"] or 0 for row in rows)), 1),
    }  # fmt: skip


def _grid(
    folder: Path,
    buildings: Sequence[Building],
    rows: dict[int, dict[str, Any]],
    crs: pyproj.CRS,
    metric: pyproj.CRS | None,
    cell_m: float,
) -> dict[str, Any]:
    """Counts by square cells, in an equal-area CRS around the buildings."""
    import pyogrio.raw
    import shapely

    assert metric is not None
    move = pyproj.Transformer.from_crs(crs, metric, always_xy=True)
    middle = shapely.centroid(np.array([b.geometry for b in buildings], object))
    x, y = move.transform(shapely.get_x(middle), shapely.get_y(middle))
    cells = np.stack([np.floor(np.asarray(x) / cell_m), np.floor(np.asarray(y) / cell_m)], axis=1).astype(np.int64)
    codes = np.array([rows[b.number]["code"] for b in buildings])
    every, which = np.unique(cells, axis=0, return_inverse=True)
    counts = [_counts(codes[which.ravel() == k]) for k in range(len(every))]
    shapes = shapely.box(every[:, 0] * cell_m, every[:, 1] * cell_m, (every[:, 0] + 1) * cell_m, (every[:, 1] + 1) * cell_m)
    names = list(counts[0])
    data = [np.array([np.nan if c[name] is None else c[name] for c in counts], np.float64) for name in names]
    density = np.array([c["destroyed"] for c in counts], np.float64) / (cell_m / 1000) ** 2
    with atomic_path(folder / "grid.gpkg") as part:
        pyogrio.raw.write(
            part, shapely.to_wkb(shapes), [*data, density], [*(n.replace(" ", "_") for n in names), "destroyed_per_km2"],
            geometry_type="Polygon", crs=metric.to_wkt(), driver="GPKG", layer="grid",
        )  # fmt: skip
    return {"cell_m": cell_m, "cells": len(every), "most_destroyed_per_km2": float(density.max())}


def _by_zone(
    folder: Path, zones: PolygonFile, buildings: Sequence[Building], rows: dict[int, dict[str, Any]], crs: pyproj.CRS | None
) -> list[dict[str, Any]]:
    """Counts by polygons, each building where its middle is."""
    import shapely

    middle = shapely.centroid(np.array([b.geometry for b in buildings], object))
    if crs is not None and zones.crs is not None:
        move = pyproj.Transformer.from_crs(crs, zones.crs, always_xy=True)
        middle = shapely.transform(middle, lambda xy: np.stack(move.transform(xy[:, 0], xy[:, 1]), axis=1))
    codes = np.array([rows[b.number]["code"] for b in buildings])
    tree = shapely.STRtree(middle)
    found: list[dict[str, Any]] = []
    for geometries, columns in zones.batches(zones.fields):
        for k, geometry in enumerate(geometries):
            inside = tree.query(geometry, predicate="intersects")
            found.append(
                {"zone": len(found) + 1, **{name: values[k] for name, values in columns.items()}, **_counts(codes[inside])}
            )
    if not found:
        raise ConfigError(f"{zones.path}: holds no polygons")
    with atomic_path(folder / "zones.csv") as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(found[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
    return found


def labels_of(buildings: Sequence[Building], column: str) -> NDArray[np.int64]:
    """Classes by building; -1 where the label is none of the scale."""
    if column not in buildings[0].facts:
        raise ConfigError(f"labels: no column {column!r}; the file has {', '.join(buildings[0].facts)}")
    return np.array([LABELS.get(str(b.facts[column]).strip().lower(), -1) for b in buildings], np.int64)


DRAWS = 2000


def judge_damage(found_path: Path, truth_path: Path, column: str, scene: Scene, *, seed: int = 0) -> dict[str, Any]:
    """Figures of graded buildings against a truth with the same footprints, with 95 % intervals, and the xView2 score by pixels.

    Buildings match by their ``name`` (the ``uid`` of the truth). Intervals come from drawing buildings with replacement. Buildings
    that lie wholly off the image are not judged.
    """
    import rasterio.features
    import shapely

    found, truth = (PolygonFile.open(path) for path in (found_path, truth_path))
    place = scene.georeference
    size = scene.height, scene.width
    image = shapely.box(0, 0, scene.width, scene.height)
    codes: dict[str, int] = {}
    shapes: dict[str, list[tuple[Any, int]]] = {"found": [], "truth": []}
    for geometries, values in found.batches(("name", "code")):
        for shape, name, code in zip(pixel_shapes(geometries, found.crs, place), values["name"], values["code"], strict=True):
            codes[str(name)] = int(code) if int(code) < len(CLASSES) else -1
            shapes["found"].append((shape, 1 + int(code) if int(code) < len(CLASSES) else 0))
    pairs = []
    for geometries, values in truth.batches((*ID_FIELDS, column)):
        field = next((f for f in ID_FIELDS if f in values), None)
        if column not in values or field is None:
            raise ConfigError(f"{truth_path}: needs a column {column!r} and one of {', '.join(ID_FIELDS)}")
        for shape, name, text in zip(pixel_shapes(geometries, truth.crs, place), values[field], values[column], strict=True):
            label = LABELS.get(str(text).strip().lower(), -1)
            if label < 0 or not shape.intersects(image):
                continue
            shapes["truth"].append((shape, 1 + label))
            if str(name) in codes:
                pairs.append((codes[str(name)], label))
    if not pairs:
        raise ConfigError(f"{truth_path}: none of its buildings is among those of {found_path}; both need the same ids")
    both = np.array(pairs, np.int64)
    figures = building_figures(both[:, 0], both[:, 1])
    rng = np.random.default_rng(seed)
    draws = [building_figures(*both[rng.integers(len(both), size=len(both))].T)["macro_f1"] for _ in range(DRAWS)]
    low, high = np.percentile(draws, (2.5, 97.5)).tolist()

    def burned(parts: list[tuple[Any, int]]) -> NDArray[np.uint8]:
        inside = [(shape, code) for shape, code in parts if code and not shape.is_empty]
        if not inside:
            return np.zeros(size, np.uint8)
        return np.asarray(rasterio.features.rasterize(inside, size, dtype="uint8"))

    return {**figures, "macro_f1_95": [low, high], "xview2": xview2_score([burned(shapes["found"])], [burned(shapes["truth"])])}
