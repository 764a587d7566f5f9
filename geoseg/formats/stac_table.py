"""Tables of scenes in the manner of stac-geoparquet: a row an item, of which those in a box are found without the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geoseg.arrays import F64, I64
from geoseg.formats.stac import EXTENSIONS, PROJECTION, bbox_of, footprint, time_of
from geoseg.formats.stac_parquet import write_rows
from geoseg.georeference import Georeference
from geoseg.scenes.acquired import year_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["IndexedScene", "write_scene_table"]

LEVELS = 16
"""Halvings of longitudes and latitudes by which rows are put in order."""
GEOTIFF = "image/tiff; application=geotiff"
IMAGE = "image"


@dataclass(frozen=True, slots=True)
class IndexedScene:
    """What a table says of a scene."""

    name: str
    georeference: Georeference
    """Where its pixels lie."""
    shape: tuple[int, int]
    """Rows and columns."""
    hrefs: tuple[str, ...]
    """Its files: addresses, or paths relative to the table."""
    fingerprint: str
    """Identity of the files when they were looked at."""
    bands: tuple[str, ...] = ()
    """For a file a band, the names of the bands."""
    acquired: str | None = None
    """ISO 8601."""
    cloud_cover: float | None = None
    """Clouds in percent."""
    platform: str | None = None


def write_scene_table(path: Path, scenes: Sequence[IndexedScene]) -> None:
    """Write scenes that have a place on Earth as a table of STAC items; the same scenes give the same bytes in any order.

    Args:
        path: The file to write.
        scenes: They; those whose CRS has no relation to WGS 84 are left out.
    """
    outlines = [footprint(scene.georeference, scene.shape) for scene in scenes]
    placed = [(scene, outline) for scene, outline in zip(scenes, outlines, strict=True) if outline is not None]
    boxes = np.array([bbox_of(outline) for _, outline in placed], np.float64).reshape(-1, 4)
    names = np.array([scene.name for scene, _ in placed], object)
    order = np.lexsort((names.astype(str), _places(boxes)))
    write_rows(path, _columns([placed[k][0] for k in order]), [placed[k][1] for k in order], boxes[order])


def _places(boxes: F64) -> I64:
    """(N,) places of boxes along a curve that fills the Earth (Morton's, of their middles): near ones have near places."""
    west, south, east, north = boxes.T
    lon = (west + east) / 2 + np.where(west > east, 180.0, 0.0)
    at = np.stack([(lon + 180) / 360, ((south + north) / 2 + 90) / 180])
    cells = np.clip(at * (1 << LEVELS), 0, (1 << LEVELS) - 1).astype(np.int64)
    found = np.zeros(len(boxes), np.int64)
    for bit in range(LEVELS):
        for k in range(2):
            found |= ((cells[k] >> bit) & 1) << (2 * bit + k)
    return found


def _columns(scenes: Sequence[IndexedScene]) -> dict[str, pa.Array]:
    import pyarrow as pa

    texts, numbers = pa.list_(pa.string()), pa.list_(pa.float64())
    codes = [scene.georeference.epsg for scene in scenes]
    columns: dict[str, tuple[pa.DataType, list[Any]]] = {
        "type": (pa.string(), ["Feature"] * len(scenes)),
        "stac_version": (pa.string(), ["1.1.0"] * len(scenes)),
        "stac_extensions": (texts, [_extensions(scene) for scene in scenes]),
        "id": (pa.string(), [scene.name for scene in scenes]),
        "links": (pa.list_(pa.struct([("href", pa.string()), ("rel", pa.string())])), [[]] * len(scenes)),
        "assets": (_assets_type(scenes), [_assets(scene) for scene in scenes]),
        "datetime": (pa.timestamp("us", tz="UTC"), [_time(scene.acquired) for scene in scenes]),
        "platform": (pa.string(), [scene.platform for scene in scenes]),
        "eo:cloud_cover": (pa.float64(), [scene.cloud_cover for scene in scenes]),
        "proj:code": (pa.string(), [None if code is None else f"EPSG:{code}" for code in codes]),
        "proj:epsg": (pa.int64(), codes),
        "proj:shape": (pa.list_(pa.int64()), [list(scene.shape) for scene in scenes]),
        "proj:transform": (numbers, [list(scene.georeference.transform) for scene in scenes]),
        "geoseg:fingerprint": (pa.string(), [scene.fingerprint for scene in scenes]),
    }
    return {name: pa.array(values, kind) for name, (kind, values) in columns.items()}


def _extensions(scene: IndexedScene) -> list[str]:
    return [PROJECTION] if scene.cloud_cover is None else [PROJECTION, EXTENSIONS["eo:"]]


def _assets_type(scenes: Sequence[IndexedScene]) -> pa.DataType:
    import pyarrow as pa

    bands = pa.list_(pa.struct([("name", pa.string())]))
    asset = pa.struct([("href", pa.string()), ("type", pa.string()), ("roles", pa.list_(pa.string())), ("bands", bands)])
    return pa.struct([(key, asset) for key in sorted({key for scene in scenes for key in _assets(scene)} or {IMAGE})])


def _assets(scene: IndexedScene) -> dict[str, Any]:
    """One asset with all bands, or one a band; what is no GeoTIFF by its name has no media type."""
    keys = (
        scene.bands
        if len(scene.bands) == len(scene.hrefs) > 1
        else [IMAGE, *(f"{IMAGE}-{k}" for k in range(1, len(scene.hrefs)))]
    )
    found = {}
    for key, href in zip(keys, scene.hrefs, strict=True):
        is_tiff = href.partition("?")[0].lower().endswith((".tif", ".tiff"))
        bands = [{"name": key}] if key in scene.bands else None
        found[key] = {"href": href, "type": GEOTIFF if is_tiff else None, "roles": ["data"], "bands": bands}
    return found


def _time(text: str | None) -> datetime | None:
    """A moment; None of a year, which is none."""
    return None if text is None or year_of(text) else time_of(text)
