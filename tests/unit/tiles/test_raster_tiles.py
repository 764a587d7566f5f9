"""Tiles of rasters have the pixels that lie there."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
from PIL import Image
from support import TRANSFORM, UTM, WriteRaster, patchy

from geoseg.errors import GeoreferenceError
from geoseg.tiles.raster_tiles import RasterTiles
from geoseg.tiles.tile_pictures import palette_of, png_of_codes
from geoseg.tiles.web_mercator import TILE_PX, Tile, tiles_within

SHAPE = 700, 900


def expected(codes: np.ndarray, tile: Tile, step: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """The code under the middle of each pixel of a tile and how far it lies from the edge of its own pixel, by pyproj alone."""
    left, _, _, top = tile.box
    middle = (np.arange(TILE_PX) + 0.5) * tile.side / TILE_PX
    x, y = np.meshgrid(left + middle, top - middle)
    east, north = pyproj.Transformer.from_crs("EPSG:3857", UTM, always_xy=True).transform(x, y)
    col, row = ~(TRANSFORM * rasterio.Affine.scale(step)) * (east, north)
    inside = (row >= 0) & (row < codes.shape[0]) & (col >= 0) & (col < codes.shape[1])
    out = np.full(x.shape, 255, np.uint8)
    out[inside] = codes[row[inside].astype(int), col[inside].astype(int)]
    # GDAL goes from tile to raster by a transformer that is right to an eighth of a pixel.
    sure = np.minimum(np.abs(row - np.round(row)), np.abs(col - np.round(col))) > 0.15
    return out, sure


@pytest.fixture
def codes() -> np.ndarray:
    return patchy(*SHAPE, 5)


@pytest.mark.parametrize("nodata", [255, None])
def test_a_tile_has_the_codes_that_lie_there(write_raster: WriteRaster, codes: np.ndarray, nodata: int | None) -> None:
    tiles = RasterTiles(str(write_raster(codes, nodata=nodata)))
    seen = 0
    for tile in tiles_within(tiles.place.box, tiles.place.max_zoom):
        found = tiles.read(tile)
        assert found is not None
        truth, sure = expected(codes, tile)
        got = np.where(found[1], found[0][0], 255)
        assert (got == truth)[sure].all()
        seen += int(found[1].sum())
    assert seen > 0.9 * codes.size * (10 / tiles.place.pixel) ** 2
    assert tiles.read(Tile(tiles.place.max_zoom, 0, 0)) is None


def test_above_the_overview_that_fits_is_read(write_raster: WriteRaster, codes: np.ndarray) -> None:
    path = write_raster(codes, nodata=255)
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4])
    with rasterio.open(path, overview_level=1) as dataset:
        small = dataset.read(1)
    tiles = RasterTiles(str(path))
    (tile, *_) = tiles_within(tiles.place.box, tiles.place.max_zoom - 2)
    found = tiles.read(tile)
    assert found is not None
    truth, sure = expected(small, tile, 4)
    assert (np.where(found[1], found[0][0], 255) == truth)[sure].all()


@pytest.mark.parametrize("nodata", [255, None])
def test_above_a_small_raster_without_overviews_is_drawn_from_every_fourth_pixel(
    write_raster: WriteRaster, nodata: int | None
) -> None:
    codes = patchy(*SHAPE, 5, size=20.0)
    codes[:100] = 255
    tiles = RasterTiles(str(write_raster(codes, nodata=nodata)))
    for zoom in range(tiles.place.max_zoom - 4, tiles.place.max_zoom - 1):
        for tile in tiles_within(tiles.place.box, zoom):
            found = tiles.read(tile)
            assert found is not None
            truth, _ = expected(codes, tile)
            got = np.where(found[1], found[0][0], 255)
            assert (got != truth).sum() <= 0.1 * (truth < 255).sum() + 4
            assert ((found[1] & (found[0][0] < 255)).sum()) == pytest.approx((truth < 255).sum(), rel=0.05, abs=8)


def test_a_raster_without_overviews_is_not_read_whole_for_a_tile(tmp_path: Path) -> None:
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "crs": UTM, "transform": TRANSFORM, "tiled": True}
    with rasterio.open(tmp_path / "large.tif", "w", width=40_000, height=300, sparse_ok=True, **profile):
        pass
    place = RasterTiles(str(tmp_path / "large.tif")).place
    assert place.max_zoom - place.min_zoom == 4


def test_a_raster_without_a_place_is_refused(write_raster: WriteRaster, codes: np.ndarray) -> None:
    with pytest.raises(GeoreferenceError, match="no place on Earth"):
        RasterTiles(str(write_raster(codes, crs=None)))


def test_one_byte_of_a_picture_hides_a_class(codes: np.ndarray) -> None:
    data = png_of_codes(codes, palette_of([(code, (40 * code, 9, 200)) for code in range(5)]))
    at, chunks = 8, {}
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        chunks[name] = data[at + 8 : at + 8 + size]
        at += size + 12
    assert (len(chunks[b"PLTE"]), len(chunks[b"tRNS"])) == (768, 256)
    rgba = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
    assert (rgba[..., 0] == 40 * codes).all()
    assert (rgba[..., 3] == 255).all()
