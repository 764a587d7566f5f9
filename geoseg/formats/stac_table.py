"""Tables of scenes in the manner of stac-geoparquet: a row an item, of which those in a box are found without the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geoseg.arrays import F64, I64
from geoseg.formats.stac import EXTENSIONS, PROJECTION, bbox_of, footprint, time_of
from geoseg.formats.stac_parquet import write_rows
from geoseg.georeference import Georeference
from geoseg.scenes.acquired import year_of
from geoseg.scenes.fingerprint import FileState

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["IndexedScene", "read_looks", "write_scene_table"]

LEVELS = 16
"""Halvings of longitudes and latitudes by which rows are put in order."""
GEOTIFF = "image/tiff; application=geotiff"
IMAGE = "image"
LOOKS = (
    *("id", "proj:shape", "proj:transform", "geoseg:fingerprint"),
    *("geoseg:acquired", "geoseg:crs", "geoseg:opened_with", "geoseg:files"),
)
"""Columns that say what a look at a scene has found."""


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
    files: tuple[FileState, ...] = ()
    """Its files and what lies beside them, as they were looked at, with paths as ``hrefs``; none where that is not known."""
    opened_with: str | None = None
    """Key of the settings with which it was looked at."""


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
        "geoseg:acquired": (pa.string(), [scene.acquired for scene in scenes]),
        "geoseg:crs": (pa.string(), [scene.georeference.crs for scene in scenes]),
        "geoseg:opened_with": (pa.string(), [scene.opened_with for scene in scenes]),
        "geoseg:files": (_states_type(), [[asdict(state) for state in scene.files] or None for scene in scenes]),
    }
    return {name: pa.array(values, kind) for name, (kind, values) in columns.items()}


def _states_type() -> pa.DataType:
    import pyarrow as pa

    fields = [("path", pa.string()), ("size", pa.int64()), ("modified_ns", pa.int64()), ("ends", pa.string())]
    return pa.list_(pa.struct(fields))


def read_looks(path: Path, opened_with: str) -> list[IndexedScene]:
    """The scenes of a table whose files it tells, as they were looked at; none of a table that does not tell them.

    Args:
        path: The file, which geoseg has written.
        opened_with: Key of the settings: those that were looked at with others are left out.
    """
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        if not set(LOOKS) <= set(file.schema_arrow.names):
            return []
        rows = file.read(columns=list(LOOKS), use_threads=False).to_pylist()
    return [_looked(row) for row in rows if row["geoseg:files"] and row["geoseg:opened_with"] == opened_with]


def _looked(row: Mapping[str, Any]) -> IndexedScene:
    a, b, c, d, e, f = (float(number) for number in row["proj:transform"])
    height, width = row["proj:shape"]
    return IndexedScene(
        name=row["id"],
        georeference=Georeference((a, b, c, d, e, f), row["geoseg:crs"]),
        shape=(height, width),
        hrefs=(),
        fingerprint=row["geoseg:fingerprint"],
        acquired=row["geoseg:acquired"],
        files=tuple(FileState(**state) for state in row["geoseg:files"]),
        opened_with=row["geoseg:opened_with"],
    )


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
