"""Files of graded buildings: GeoPackage, GeoJSON, CSV."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from geoseg.crs import between
from geoseg.damage.scale import STYLES
from geoseg.formats.styles import vector_qml
from geoseg.formats.text import clean, write_table
from geoseg.formats.vector import FIXED_DATE, add_style
from geoseg.scenes.scene import Scene
from geoseg.vectors.polygon_file import Geometries
from pipeline.damage.buildings import MULTI, Building
from pipeline.damage.document import GradedBuilding, columns_of_rows, probability_names
from pipeline.files.atomic import atomic_path

__all__ = ["LAYER", "Common", "areas_of", "write_buildings", "write_labels"]

LAYER = "buildings"


def areas_of(
    geometries: Sequence[shapely.Geometry | None], source: pyproj.CRS | None, target: pyproj.CRS | None
) -> NDArray[np.float64]:
    """Areas of polygons after they are brought to a CRS that keeps areas; in their own units without one."""
    shapes = np.array(geometries, object)
    if source is not None and target is not None:
        move = between(source, target)
        shapes = shapely.transform(shapes, lambda xy: np.stack(move.transform(xy[:, 0], xy[:, 1]), axis=1))
    return np.asarray(np.nan_to_num(shapely.area(shapes)))


@dataclass(frozen=True, slots=True)
class Common:
    """What all buildings of a file have in common."""

    columns: Mapping[str, str | None]
    """The images and the model, as columns."""
    decimals: int
    """Of degrees in GeoJSON."""

    @classmethod
    def of(cls, scene: Scene, model: Mapping[str, str]) -> Common:
        """Of buildings that a model has graded on a pair of images."""
        columns = {
            "pre_date": scene.dates[0].acquired,
            "post_date": scene.dates[-1].acquired,
            "pre_image": clean(Path(scene.dates[0].path).name),
            "post_image": clean(Path(scene.dates[-1].path).name),
            "model": f"{model['name']} {model['version']}",
            "model_sha256": model["sha256"],
        }
        return cls(columns, scene.georeference.degree_decimals((scene.height, scene.width)))


def write_buildings(folder: Path, graded: Sequence[GradedBuilding], crs: pyproj.CRS | None, common: Common) -> None:
    """Write the buildings in the order given, with the scene and the model on each: GeoPackage with a style, GeoJSON, CSV."""
    import pyogrio
    import pyogrio.raw

    constants = common.columns
    rows = [one.row() for one in graded]
    names = columns_of_rows(
        labelled=any(one.labelled is not None for one in graded), reviewed=any(one.review is not None for one in graded)
    )
    numbers: dict[str, type[np.number]] = {"id": np.int64, "code": np.int16, "area_m2": np.float64, "confidence": np.float64}
    numbers["labelled"] = np.int16
    numbers |= dict.fromkeys(probability_names(), np.float64)
    columns: list[NDArray[np.generic]] = []
    for name in names:
        values, kind = [row.get(name) for row in rows], numbers.get(name)
        columns.append(np.array([np.nan if v is None else v for v in values], kind) if kind else np.array(values, object))
    columns += [np.full(len(graded), value, object) for value in constants.values()]
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": FIXED_DATE})
    shapes = np.array([one.building.geometry for one in graded], object)
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
                    "COORDINATE_PRECISION": str(common.decimals),
                },
                **options,
            )
            if driver == "GPKG":
                _style(part)
    with atomic_path(folder / "buildings.csv") as part:
        write_table(part, names, rows)


def _style(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        add_style(connection, LAYER, vector_qml(STYLES), "Damage")


def _lonlat(shapes: Geometries, crs: pyproj.CRS) -> Geometries:
    move = between(crs, "OGC:CRS84")
    return np.asarray(shapely.transform(shapes, lambda xy: np.stack(move.transform(xy[:, 0], xy[:, 1]), axis=1)))


def write_labels(
    path: Path,
    layer: str,
    buildings: Sequence[Building],
    columns: Mapping[str, NDArray[np.generic]],
    crs: pyproj.CRS | None,
) -> None:
    """Write outlines of buildings with their labels as a GeoPackage, whole or not at all.

    Args:
        path: The file.
        layer: Its only layer.
        buildings: N of them.
        columns: (N,) attributes by name.
        crs: Of the outlines; None where the images have none.
    """
    import pyogrio
    import pyogrio.raw

    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": FIXED_DATE})
    with atomic_path(path) as part:
        pyogrio.raw.write(
            part,
            shapely.to_wkb(np.array([building.geometry for building in buildings], object)),
            list(columns.values()),
            list(columns),
            geometry_type="MultiPolygon",
            promote_to_multi=True,
            driver="GPKG",
            layer=layer,
            crs=None if crs is None else crs.to_wkt(),
            dataset_options={"VERSION": "1.3"},
            layer_options={"GEOMETRY_NAME": "geom"},
        )
