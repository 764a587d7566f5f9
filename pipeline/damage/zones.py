"""Graded buildings counted by zones, such as the blocks of a town: a table and a layer."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pyproj
import shapely

from geoseg.crs import between
from geoseg.errors import ConfigError
from geoseg.formats.shades import shares_qml
from geoseg.formats.text import write_table
from geoseg.formats.vector import FIXED_DATE, add_style
from geoseg.vectors.polygon_file import PolygonFile
from pipeline.damage.document import GradedBuilding, counts_of
from pipeline.files.atomic import atomic_path
from pipeline.files.columns import LayerColumns, renamed

__all__ = ["ZONE_FILES", "count_by_zone"]

ZONE_FILES = ("zones.csv", "zones.gpkg")


def count_by_zone(
    folder: Path, zones: PolygonFile, graded: Sequence[GradedBuilding], crs: pyproj.CRS | None
) -> list[dict[str, object]]:
    """Counts by polygons, each building where its middle is; written with the columns that the polygons came with.

    Raises:
        ConfigError: There are no polygons, or they can't be laid over the buildings.
    """
    if (zones.crs is None) != (crs is None):
        raise ConfigError(
            f"{zones.path}: only one of zones and footprints has a CRS, so they can't be laid over each other; give "
            "--assume-crs EPSG:xxxx"
        )
    middle = shapely.centroid(np.array([one.building.geometry for one in graded], object))
    if crs is not None and zones.crs is not None:
        move = between(crs, zones.crs)
        middle = shapely.transform(middle, lambda xy: np.stack(move.transform(xy[:, 0], xy[:, 1]), axis=1))
    codes = np.array([one.code for one in graded])
    tree = shapely.STRtree(middle)
    ours = ("zone", *counts_of(codes[:0]))
    names = renamed(zones.fields, (*ours, *("_".join(name.split()) for name in ours)))
    found: list[dict[str, object]] = []
    shapes: list[shapely.Geometry | None] = []
    for geometries, columns in zones.zones():
        for k, geometry in enumerate(geometries):
            inside = tree.query(geometry, predicate="intersects") if geometry is not None else np.empty(0, np.int64)
            facts = {names[name]: values[k] for name, values in columns.items()}
            found.append({"zone": len(found) + 1, **facts, **counts_of(codes[inside])})
            shapes.append(geometry)
    table, layer = (folder / name for name in ZONE_FILES)
    with atomic_path(table) as part:
        write_table(part, list(found[0]), found)
    _write_layer(layer, found, shapes, zones.crs, ours)
    return found


def _write_layer(
    path: Path,
    found: Sequence[Mapping[str, object]],
    shapes: Sequence[shapely.Geometry | None],
    crs: pyproj.CRS | None,
    ours: Sequence[str],
) -> None:
    import pyogrio
    import pyogrio.raw

    columns = LayerColumns.of(
        {"_".join(name.split()) if name in ours else name: [row[name] for row in found] for name in found[0]}
    )
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": FIXED_DATE})
    with atomic_path(path) as part:
        pyogrio.raw.write(
            part,
            shapely.to_wkb(shapely.force_2d(np.array(shapes, object))),
            columns.arrays,
            columns.names,
            field_mask=columns.missing,
            layer="zones",
            geometry_type="Unknown",
            crs=None if crs is None else crs.to_wkt(),
            driver="GPKG",
            dataset_options={"VERSION": "1.3"},
            layer_options={"GEOMETRY_NAME": "geom"},
        )
        with closing(sqlite3.connect(part)) as connection, connection:
            add_style(connection, "zones", shares_qml("share_destroyed", "destroyed"), "Share destroyed among the analysed")
