"""What is written of graded buildings: the buildings themselves, and their summary."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from geoseg.codes import NOT_ANALYSED, UNGRADED
from geoseg.crs import between
from geoseg.damage.scale import CLASSES, STYLES
from geoseg.formats.styles import vector_qml
from geoseg.formats.text import clean, write_table
from geoseg.formats.vector import FIXED_DATE, add_style
from geoseg.models.model_folder import Model
from geoseg.scenes.remote import shown
from geoseg.scenes.scene import Scene
from pipeline.damage.buildings import MULTI, Building
from pipeline.files.atomic import atomic_path
from pipeline.plan.dates import OpenedDates

__all__ = ["LAYER", "areas_of", "counts_of", "probability_names", "summary_of", "write_buildings"]

LAYER = "buildings"


def probability_names() -> list[str]:
    """Columns of the probabilities."""
    return [f"p_{name.replace(' ', '_')}" for name in CLASSES]


def areas_of(geometries: list[Any], source: pyproj.CRS | None, target: pyproj.CRS | None) -> NDArray[np.float64]:
    """Areas of polygons after they are brought to a CRS that keeps areas; in their own units without one."""
    shapes = np.array(geometries, object)
    if source is not None and target is not None:
        move = between(source, target)
        shapes = shapely.transform(shapes, lambda xy: np.stack(move.transform(xy[:, 0], xy[:, 1]), axis=1))
    return np.asarray(np.nan_to_num(shapely.area(shapes)))


def write_buildings(
    folder: Path,
    buildings: Sequence[Building],
    rows: dict[int, dict[str, Any]],
    crs: pyproj.CRS | None,
    scene: Scene,
    model: Model,
) -> None:
    """Write the buildings in the order given, with the scene and the model on each: GeoPackage with a style, GeoJSON, CSV."""
    import pyogrio
    import pyogrio.raw

    constants = {
        "pre_date": scene.dates[0].acquired,
        "post_date": scene.dates[-1].acquired,
        "pre_image": clean(Path(scene.dates[0].path).name),
        "post_image": clean(Path(scene.dates[-1].path).name),
        "model": f"{model.card.name} {model.card.version}",
        "model_sha256": model.sha256,
    }
    names = ["id", "name", "code", "class", "area_m2", "confidence", *probability_names(), "reason"]
    numbers = {"id": np.int64, "code": np.int16, "area_m2": np.float64, "confidence": np.float64} | dict.fromkeys(
        probability_names(), np.float64
    )
    columns: list[NDArray[Any]] = []
    for name in names:
        values = [rows[b.number][name] for b in buildings]
        kind = numbers.get(name)
        columns.append(np.array([np.nan if v is None else v for v in values], kind) if kind else np.array(values, object))
    columns += [np.full(len(buildings), value, object) for value in constants.values()]
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": FIXED_DATE})
    shapes = np.array([b.geometry for b in buildings], object)
    multi = bool((shapely.get_type_id(shapes) == MULTI).any())
    for suffix, driver in ((".gpkg", "GPKG"), (".geojson", "GeoJSON")):
        if driver == "GeoJSON" and crs is None:
            continue
        options = {"dataset_options": {"VERSION": "1.3"}} if driver == "GPKG" else {}
        with atomic_path(folder / f"buildings{suffix}") as part:
            pyogrio.raw.write(
                part,
                shapely.to_wkb(shapes if driver == "GPKG" or crs is None else _lonlat(shapes, crs)),
                columns,
                [*names, *constants],
                geometry_type=("MultiPolygon" if multi else "Polygon") if driver == "GPKG" else "Unknown",
                driver=driver,
                layer=LAYER,
                promote_to_multi=driver == "GPKG" and multi,
                crs=None if crs is None else ("OGC:CRS84" if driver == "GeoJSON" else crs.to_wkt()),
                layer_options={"GEOMETRY_NAME": "geom"}
                if driver == "GPKG"
                else {
                    "RFC7946": "YES",
                    "COORDINATE_PRECISION": str(scene.georeference.degree_decimals((scene.height, scene.width))),
                },
                **options,
            )
            if driver == "GPKG":
                _style(part)
    with atomic_path(folder / "buildings.csv") as part:
        write_table(part, names, ([rows[b.number][name] for name in names] for b in buildings))


def _style(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        add_style(connection, LAYER, vector_qml(STYLES), "Damage")


def _lonlat(shapes: NDArray[Any], crs: pyproj.CRS) -> NDArray[Any]:
    move = between(crs, "OGC:CRS84")
    return np.asarray(shapely.transform(shapes, lambda xy: np.stack(move.transform(xy[:, 0], xy[:, 1]), axis=1)))


def counts_of(codes: NDArray[np.int64]) -> dict[str, Any]:
    """How many buildings of each class there are, and the share destroyed among the analysed; none where nothing was."""
    counts = {name: int((codes == k).sum()) for k, name in enumerate(CLASSES)}
    analysed = sum(counts.values())
    share = counts["destroyed"] / analysed if analysed else None
    return {
        **counts,
        UNGRADED: int((codes == NOT_ANALYSED).sum()),
        "share_destroyed": None if share is None else round(share, 4),
    }


def summary_of(opened: OpenedDates, footprints: str, model: Model, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The summary of a run, as ``damage.json`` has it."""
    codes = np.array([row["code"] for row in rows])
    reasons: dict[str, int] = {}
    for row in rows:
        if row["reason"]:
            reasons[row["reason"]] = reasons.get(row["reason"], 0) + 1
    return {
        "dates": [{"acquired": d.acquired, "source": [shown(f.path) for f in d.files]} for d in opened.scene.dates],
        "footprints": shown(footprints),
        "model": {"name": model.card.name, "version": model.card.version, "sha256": model.sha256},
        "registration": [
            {"rows": r.rows, "cols": r.cols, "residual": r.residual, "consistent": r.consistent} for r in opened.registrations
        ],
        "warnings": [*opened.scene.warnings, *opened.notes],
        "buildings": len(rows),
        "counts": counts_of(codes),
        "not_analysed": reasons,
        "destroyed_expected": round(float(sum(row["p_destroyed"] or 0 for row in rows)), 1),
    }
