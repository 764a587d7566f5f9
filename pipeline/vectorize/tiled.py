"""Polygons as vector tiles in one file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import shapely

from geoseg.crs import between, crs_of
from geoseg.errors import GeoreferenceError
from geoseg.georeference import Georeference
from geoseg.polygons.features import GEOMETRY
from geoseg.tiles.pmtiles import write_pmtiles
from geoseg.tiles.polygon_store import PolygonStore, polygons_of
from geoseg.tiles.vector_tiles import VectorTiles
from geoseg.tiles.web_mercator import CRS
from geoseg.vectors.polygon_file import Geometries
from pipeline.files.spool import FeatureSpool

__all__ = ["write_tiled"]

LEFT_OUT = ("model_sha256",)
"""The record of the run holds it; every feature of every tile would."""


def write_tiled(path: Path, spool: FeatureSpool, georeference: Georeference, shape: tuple[int, int]) -> None:
    """Write features as PMTiles, down to the level whose pixels are those of the raster.

    All of them are in memory, in about 0.65 KB each.

    Args:
        path: The file to write.
        spool: The features.
        georeference: Where the raster's pixels lie.
        shape: Its rows and columns.

    Raises:
        GeoreferenceError: The raster has no place in web Mercator.
    """
    if georeference.crs is None:
        raise GeoreferenceError(f"{path.name}: tiles need a place on Earth, and the raster has no CRS")
    crs = crs_of(georeference.crs)
    names = tuple(name for name in spool.schema.names if name not in (GEOMETRY, *LEFT_OUT))
    store = polygons_of(_batches(spool, names), names, crs)
    codes = store.columns["code"].numbers.astype(np.int64)
    tiles = VectorTiles(store, _pixel(georeference, shape), codes, _largest_first(store), whole=True)
    scene = store.columns["scene"].constant if len(store) else None
    write_pmtiles(path, tiles, str(scene or path.stem))


def _batches(spool: FeatureSpool, names: Sequence[str]) -> Iterator[tuple[Geometries, Mapping[str, list[object]]]]:
    for batch in spool.batches():
        shapes = shapely.from_wkb(np.asarray(batch.column(GEOMETRY).to_numpy(zero_copy_only=False), object))
        yield shapes, {name: batch.column(name).to_pylist() for name in names}


def _largest_first(store: PolygonStore) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    areas = store.columns.get("area_m2")
    return np.argsort(-np.nan_to_num(store.areas() if areas is None else areas.numbers), kind="stable")


def _pixel(georeference: Georeference, shape: tuple[int, int]) -> float:
    """Side of the raster's middle pixel in metres of web Mercator."""
    assert georeference.crs is not None
    row, col = shape[0] / 2, shape[1] / 2
    corners = np.array([[row, col], [row + 1, col], [row, col + 1]])
    lonlat = georeference.lonlat(corners[:, 0], corners[:, 1])
    x, y = between("OGC:CRS84", CRS).transform(lonlat[:, 0], lonlat[:, 1])
    return float(max(np.hypot(x[1:] - x[0], y[1:] - y[0])))
