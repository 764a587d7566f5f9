"""What record batches raise on their way to GDAL arrives as it was: pyogrio makes an error without words of all of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyogrio.errors
import pytest
import shapely

from geoseg.errors import ConfigError
from geoseg.polygons.arrow_stream import write_batches

SCHEMA = pa.schema([pa.field("geometry", pa.binary())])


def batch() -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(shapely.to_wkb(np.array([shapely.box(0, 0, 1, 1)])), pa.binary())], schema=SCHEMA)


def write(batches: Iterable[pa.RecordBatch], path: Path) -> None:
    options = {"driver": "GPKG", "geometry_name": "geometry", "geometry_type": "Polygon", "crs": "EPSG:32720"}
    write_batches(path, SCHEMA, batches, **options)


@pytest.mark.parametrize("error", [ConfigError("feature 7 is no polygon"), KeyboardInterrupt(), SystemExit(143)])
def test_errors_arrive_as_they_were(error: BaseException, tmp_path: Path) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield batch()
        raise error

    with pytest.raises(type(error)) as raised:
        write(batches(), tmp_path / "file.gpkg")
    assert raised.value is error


def test_errors_of_the_file_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(pyogrio.errors.DataSourceError):
        write([batch()], tmp_path / "no folder" / "file.gpkg")
