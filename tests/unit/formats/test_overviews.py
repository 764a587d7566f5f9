"""Overviews by brute force, and the hints of the COG layout byte by byte."""

from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio

from geoseg.formats._pyramid import halve_mean, halve_mode
from geoseg.formats.cog import Cog, write_cog, write_cogs
from geoseg.formats.pyramid import Layer
from geoseg.georeference import Georeference
from geoseg.tiff import read_structure
from geoseg.windows import Window

UTM = Georeference((10.0, 0.0, 500_000.0, 0.0, -10.0, 9_000_000.0), pyproj.CRS("EPSG:32721").to_wkt())


def fours(image: np.ndarray) -> list[list[list[int]]]:
    """The values of each two by two pixels in the order of reading; fewer at odd rims."""
    height, width = image.shape
    return [[image[r : r + 2, c : c + 2].ravel().tolist() for c in range(0, width, 2)] for r in range(0, height, 2)]


def most_frequent(values: list[int]) -> int:
    data = [v for v in values if v != 255]
    counts = Counter(data)
    return max(data, key=lambda v: (counts[v], -data.index(v))) if data else 255


@pytest.mark.parametrize("shape", [(40, 50), (41, 51), (1, 7), (8, 1)])
@pytest.mark.parametrize("values", [(0, 1), (0, 1, 2), (0, 1, 2, 3, 254, 255), (5, 255)])
def test_the_most_frequent_code_stays(shape: tuple[int, int], values: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).choice(np.array(values, np.uint8), shape)
    expected = [[most_frequent(four) for four in row] for row in fours(image)]
    np.testing.assert_array_equal(halve_mode(image, 255), expected)


def mean_of(values: list[int]) -> int:
    data = [v for v in values if v <= 100]
    if data:
        return int(np.floor(np.mean(data) + 0.5))
    return next((v for v in values if v != 255), 255)


@pytest.mark.parametrize("shape", [(40, 50), (41, 51), (1, 7)])
def test_confidence_is_the_rounded_mean_of_what_is_there(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(1).choice(np.array([0, 1, 50, 99, 100, 254, 255], np.uint8), shape)
    np.testing.assert_array_equal(halve_mean(image, 100, 255), [[mean_of(four) for four in row] for row in fours(image)])


CASES = {
    "mode": (most_frequent, "uint8", 255),
    "mean": (mean_of, "uint8", 255),
    "nearest": (lambda four: four[0], "uint32", 0),
    "average": (lambda four: np.mean([v for v in four if v != -1]) if any(v != -1 for v in four) else -1, "float32", -1),
}


@pytest.mark.parametrize("kind", CASES)
def test_every_level_is_made_of_the_one_before(tmp_path: Path, kind: str) -> None:
    rule, dtype, nodata = CASES[kind]
    rng = np.random.default_rng(2)
    small = rng.choice(np.array([0, 1, 2, 60, 100] if kind == "mean" else [0, 1, 2, 3]), (1301, 1150)).astype(dtype)
    small[200:500, 300:900] = nodata
    path = tmp_path / "a.tif"
    layer = Layer(overview=kind, dtype=dtype, nodata=nodata)
    write_cog(path, tmp_path / "levels", small.shape, UTM, layer, lambda w: small[w.slices], [Window.of(small.shape)])
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(1), small)
        assert dataset.nodata == nodata
        assert dataset.overviews(1) == [2, 4]
    before = small
    for level in range(2):
        with rasterio.open(path, overview_level=level) as overview:
            found = overview.read(1)
        # A part of it by hand.
        part = before[:120, :130]
        np.testing.assert_allclose(found[:60, :65], [[rule(four) for four in row] for row in fours(part)], rtol=1e-6)
        edge = before[-3 if len(before) % 2 else -2 :, :60]
        np.testing.assert_allclose(
            found[-2 if len(before) % 2 else -1 :, :30], [[rule(f) for f in row] for row in fours(edge)], rtol=1e-6
        )
        before = found


def test_tiles_have_their_length_before_and_their_end_repeated_behind(tmp_path: Path) -> None:
    codes = np.random.default_rng(3).integers(0, 5, (1100, 1300)).astype(np.uint8)
    codes[:512, 512:1024] = 255
    path = tmp_path / "a.tif"
    write_cog(
        path, tmp_path / "levels", codes.shape, UTM, Layer(overview="mode"), lambda w: codes[w.slices], [Window.of((1100, 1300))]
    )
    data = path.read_bytes()
    assert data[8:].startswith(b"GDAL_STRUCTURAL_METADATA_SIZE=")
    structure = read_structure(path)
    assert len(structure.ifds) == 3
    assert structure.ifds[0].shape == (1100, 1300)
    ends = []
    for ifd in structure.ifds:
        last = 0
        for offset, count in zip(ifd.offsets.tolist(), ifd.byte_counts.tolist(), strict=True):
            if not count:
                continue
            assert struct.unpack("<I", data[offset - 4 : offset]) == (count,)
            assert data[offset + count : offset + count + 4] == data[offset + count - 4 : offset + count]
            assert offset > last
            last = offset
        ends.append(last)
    # The smallest overview comes first, the full image last.
    assert ends[2] < ends[1] < ends[0]
    assert (structure.main.byte_counts == 0).sum() == 1


def test_squares_may_come_in_any_order(tmp_path: Path) -> None:
    """Of several rasters side by side, too: the bytes are those of each one alone, its squares in the order of reading."""
    rng = np.random.default_rng(4)
    codes = np.repeat(np.repeat(rng.integers(0, 4, (132, 130)).astype(np.uint8), 32, axis=0), 32, axis=1)[:4200, :4150]
    squares = [Window.between(r, min(r + 4096, 4200), c, min(c + 4096, 4150)) for r in (0, 4096) for c in (0, 4096)]
    places = [tmp_path / name for name in ("mode.tif", "mean.tif")]
    layers = [Layer(overview="mode"), Layer(overview="mean")]
    for path, layer in zip(places, layers, strict=True):
        write_cog(path, tmp_path / "levels", codes.shape, UTM, layer, lambda w: codes[w.slices], squares[:3])
    alone = [path.read_bytes() for path in places]
    asked: list[Window] = []

    def read(window: Window) -> np.ndarray:
        asked.append(window)
        return codes[window.slices]

    cogs = [Cog(path, layer, [read]) for path, layer in zip(places, layers, strict=True)]
    write_cogs(cogs, tmp_path / "levels", codes.shape, UTM, iter([squares[2], squares[0], squares[1]]))
    assert [path.read_bytes() for path in places] == alone
    assert asked == [squares[i] for i in (2, 2, 0, 0, 1, 1)]
    assert not list((tmp_path / "levels").iterdir())
