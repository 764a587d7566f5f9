"""Vector files of other programs, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyproj
import rasterio
import shapely
from rasterio.transform import from_origin

UTM = "EPSG:32633"
BOX = shapely.box(500_100, 5_399_700, 500_300, 5_399_900)


def frame(**columns: list[Any]) -> geopandas.GeoDataFrame:
    return geopandas.GeoDataFrame(columns or {"class": ["forest"]}, geometry=[BOX], crs=UTM)


def feature(shape: Any, properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Feature", "properties": properties, "geometry": shapely.geometry.mapping(shape)}


def geo(encoding: str | None, name: str = "geometry", **more: Any) -> dict[bytes, bytes]:
    about = {"encoding": encoding, "geometry_types": [], "crs": pyproj.CRS(UTM).to_json_dict()} | more
    about = {key: value for key, value in about.items() if value != "absent"}
    return {b"geo": json.dumps({"version": "1.1.0", "primary_column": name, "columns": {name: about}}).encode()}


def square_map(path: Path, **tags: str) -> Path:
    """Write a class map of 60 x 60 pixels in which class 1 lies where ``BOX`` does; tags are those of its band."""
    codes = np.zeros((60, 60), np.uint8)
    codes[10:30, 10:30] = 1
    place = {"crs": UTM, "transform": from_origin(500_000, 5_400_000, 10, 10)}
    with rasterio.open(path, "w", driver="GTiff", height=60, width=60, count=1, dtype="uint8", **place) as file:
        file.write(codes, 1)
        file.update_tags(1, **tags)
    return path
