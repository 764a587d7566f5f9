"""Tables of scenes in the manner of stac-geoparquet: a row an item, of which those in a box are found without the others.

The specification is https://github.com/radiantearth/stac-geoparquet-spec; the file is GeoParquet 1.1 in longitude and latitude.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from geoseg.arrays import F64, I64
from geoseg.formats.stac import bbox_of, footprint, time_of
from geoseg.georeference import Georeference
from geoseg.scenes.acquired import year_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ROWS", "IndexedScene", "write_scene_table"]

ROWS = 4096
"""Of a row group, which is read or passed over as a whole."""
LEVELS = 16
"""Halvings of longitudes and latitudes by which rows are put in order."""
GEOTIFF = "image/tiff; application=geotiff"
SIDES = ("xmin", "ymin", "xmax", "ymax")
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
    import pyarrow.parquet as pq

    outlines = [footprint(scene.georeference, scene.shape) for scene in scenes]
    placed = [(scene, outline) for scene, outline in zip(scenes, outlines, strict=True) if outline is not None]
    boxes = np.array([bbox_of(outline) for _, outline in placed], np.float64).reshape(-1, 4)
    names = np.array([scene.name for scene, _ in placed], object)
    order = np.lexsort((names.astype(str), _places(boxes)))
    shapes = np.array([outline for _, outline in placed], object)[order]
    table = _table([placed[k][0] for k in order], shapes, boxes[order])
    about: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": sorted({shape.geom_type for shape in shapes}),
        "covering": {"bbox": {side: ["bbox", side] for side in SIDES}},
    }
    if len(shapes):
        about["bbox"] = [*shapely.total_bounds(shapes).tolist()]
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": about}}
    facts = {"geo": json.dumps(geo), "stac-geoparquet": json.dumps({"version": "1.0.0"})}
    pq.write_table(
        table.replace_schema_metadata(facts),
        path,
        row_group_size=ROWS,
        compression="zstd",
        compression_level=1,
        store_schema=True,
    )


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


def _table(scenes: Sequence[IndexedScene], shapes: Any, boxes: F64) -> pa.Table:
    import pyarrow as pa

    box = pa.struct([pa.field(side, pa.float64(), nullable=False) for side in SIDES])
    texts, numbers = pa.list_(pa.string()), pa.list_(pa.float64())
    codes = [scene.georeference.epsg for scene in scenes]
    columns: dict[str, tuple[pa.DataType, list[Any] | pa.Array]] = {
        "type": (pa.string(), ["Feature"] * len(scenes)),
        "stac_version": (pa.string(), ["1.1.0"] * len(scenes)),
        "stac_extensions": (texts, [[]] * len(scenes)),
        "id": (pa.string(), [scene.name for scene in scenes]),
        "geometry": (pa.binary(), shapely.to_wkb(shapes).tolist()),
        "bbox": (box, pa.StructArray.from_arrays([pa.array(side) for side in boxes.T], fields=list(box))),
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
    made = {name: values if isinstance(values, pa.Array) else pa.array(values, kind) for name, (kind, values) in columns.items()}
    return pa.table(made)


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
