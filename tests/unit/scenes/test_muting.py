"""Filters of warnings are those that the user has set, whatever threads do in between."""

from __future__ import annotations

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from support import LIMIT_S

from geoseg.scenes.files.muting import muted
from geoseg.scenes.gdal import gdal_env, open_raster


def test_threads_that_leave_in_the_order_they_came_leave_nothing_behind() -> None:
    """The first to enter leaves first: what ``warnings.catch_warnings`` restores then is what the second had found."""
    before = [*warnings.filters]
    steps = [threading.Event() for _ in range(3)]

    def first() -> None:
        with gdal_env():
            steps[0].set()
            assert steps[1].wait(LIMIT_S)
        steps[2].set()

    def second() -> None:
        assert steps[0].wait(LIMIT_S)
        with gdal_env():
            steps[1].set()
            assert steps[2].wait(LIMIT_S)
            warnings.warn("of this one still", NotGeoreferencedWarning, stacklevel=1)

    with ThreadPoolExecutor(2) as pool:
        for one in [pool.submit(first), pool.submit(second)]:
            one.result()
    assert [*warnings.filters] == before


def test_many_threads_open_images_without_a_place_and_none_warns(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with (
        muted(NotGeoreferencedWarning),
        rasterio.open(path, "w", driver="GTiff", width=8, height=8, count=1, dtype="uint8") as out,
    ):
        out.write(np.zeros((1, 8, 8), np.uint8))
    before = [*warnings.filters]

    def read(_: int) -> None:
        for _ in range(20):
            with gdal_env(), open_raster(path) as dataset:
                assert dataset.crs is None

    with ThreadPoolExecutor(8) as pool:
        [*pool.map(read, range(8))]
    assert [*warnings.filters] == before


def test_only_what_is_meant_is_muted_and_what_the_user_sets_meanwhile_stays() -> None:
    with warnings.catch_warnings(record=True) as told, muted(UserWarning, message="the filename"):
        warnings.warn("The filename extension is odd", UserWarning, stacklevel=1)
        warnings.warn("another", UserWarning, stacklevel=1)
    assert [str(one.message) for one in told] == ["another"]
    with muted(UserWarning):
        warnings.simplefilter("error", DeprecationWarning)
    with pytest.raises(DeprecationWarning):
        warnings.warn("old", DeprecationWarning, stacklevel=1)
