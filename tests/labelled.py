"""A map with errors and its truth, and samples of it that are labelled or broken."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
from numpy.typing import NDArray

from tests.support import TRANSFORM, UTM, patchy

NAMES = ("stable non-forest", "stable forest", "forest loss", "forest gain")
Bytes = NDArray[np.uint8]
Place = tuple[Path, Bytes, Bytes]


def write(path: Path, codes: Bytes, **changes: Any) -> Path:
    profile = {
        "driver": "GTiff",
        "height": codes.shape[0],
        "width": codes.shape[1],
        "count": 1,
        "dtype": "uint8",
        "crs": UTM,
        "transform": TRANSFORM,
        "nodata": 255,
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "deflate",
    } | changes
    with rasterio.open(path, "w", **profile) as target:
        target.write(codes, 1)
        target.update_tags(geoseg_scene=path.stem)
        target.update_tags(1, **{f"class_{k}": name for k, name in enumerate(NAMES)})
    return path


def make_place(folder: Path) -> Place:
    """A map with errors, and the truth."""
    noise = patchy(600, 800, 20, 3, 5.0)
    truth = np.select([noise == 0, noise == 1, noise < 9], [2, 3, 1], 0).astype(np.uint8)
    mapped = np.roll(truth, (2, 3), (0, 1))
    mapped[:40], mapped[100:150, 100:200] = 255, 254
    return write(folder / "classes.tif", mapped), mapped, truth


def broken(good: Path, path: Path, *statements: str) -> Path:
    """A copy of a sample, changed."""
    shutil.copy(good, path)
    with sqlite3.connect(path) as connection:
        for trigger in [t for (t,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]:
            connection.execute(f'DROP TRIGGER "{trigger}"')
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return path


def label(path: Path, value_of: Any) -> None:
    """Fill in the form as QGIS does: in the file."""
    frame = geopandas.read_file(path, layer="sample")
    with sqlite3.connect(path) as connection:
        # SQLite asks for the functions of the triggers that GeoPackage has on geometries.
        connection.create_function("ST_IsEmpty", 1, lambda _: 0)
        for name in ("ST_MinX", "ST_MaxX", "ST_MinY", "ST_MaxY"):
            connection.create_function(name, 1, lambda _: 0.0)
        for _, row in frame.iterrows():
            for field, value in value_of(row).items():
                connection.execute(f"UPDATE sample SET {field} = ? WHERE unit = ?", (value, row["unit"]))
    connection.close()


def labels_of(truth: Bytes) -> Any:
    def value(row: Any) -> dict[str, str]:
        col, line = ~TRANSFORM @ (row.geometry.x, row.geometry.y)
        return {"reference": NAMES[truth[int(line), int(col)]]}

    return value
