"""Vector files of other programs, for tests."""

from __future__ import annotations

import json
from typing import Any

import geopandas
import pyproj
import shapely

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
