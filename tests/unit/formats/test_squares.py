"""A raster whose squares were compressed apart has the bytes of one that was written in one piece."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from pathlib import Path

import numpy as np
import pyproj
import pytest

from geoseg.formats.array_stream import read_arrays, write_arrays
from geoseg.formats.cog import Cog, write_cogs
from geoseg.formats.pyramid import SUPERBLOCK, Layer
from geoseg.formats.squares import Square, encode_square, pack_squares, unpack_squares
from geoseg.georeference import Georeference
from geoseg.windows import Window

UTM = Georeference((10.0, 0.0, 500_000.0, 0.0, -10.0, 9_000_000.0), pyproj.CRS("EPSG:32721").to_wkt())
LAYERS = (
    Layer(overview="mode", colormap={0: (1, 2, 3), 1: (4, 5, 6)}, tags={"a": "b"}, description="classes"),
    Layer(overview="mean", bands=("one", "two", "three"), band_tags={"units": "percent"}),
    Layer(overview="nearest", dtype="uint32", nodata=0),
    Layer(overview="average", dtype="float32", nodata=-1),
)


def images(layer: Layer, shape: tuple[int, int]) -> list[np.ndarray]:
    """Patches of codes, an empty square among them, a band each."""
    rng = np.random.default_rng(7)
    found = []
    for _ in layer.bands or ("",):
        codes = rng.integers(0, 5, (shape[0] // 24 + 1, shape[1] // 24 + 1)).astype(layer.dtype)
        image = np.repeat(np.repeat(codes, 24, axis=0), 24, axis=1)[: shape[0], : shape[1]].copy()
        image[: shape[0] // 2, : shape[1] // 3] = layer.nodata
        found.append(image)
    return found


@pytest.mark.parametrize("shape", [(300, 200), (512, 513), (1500, 1100), (4200, 4609)])
@pytest.mark.parametrize("apart", ["all", "some"])
def test_tiles_that_were_compressed_apart_are_those_of_the_whole(tmp_path: Path, shape: tuple[int, int], apart: str) -> None:
    whole = Window.of(shape)
    squares = [Window.cell((row, col), (SUPERBLOCK, SUPERBLOCK)) & whole for row in (0, 1) for col in (0, 1)]
    windows = [window for window in squares if window is not None][::-1]
    given = [images(layer, shape) for layer in LAYERS]

    def cogs(folder: Path) -> list[Cog]:
        folder.mkdir()
        return [
            Cog(folder / f"{i}.tif", layer, [lambda w, image=image: image[w.slices] for image in given[i]])
            for i, layer in enumerate(LAYERS)
        ]

    def encode(asked: Iterable[Window], levels: int) -> Generator[tuple[Window, Sequence[Square] | None]]:
        for number, window in enumerate(asked):
            found = [encode_square(layer, [image[window.slices] for image in given[i]], levels) for i, layer in enumerate(LAYERS)]
            yield window, unpack_squares(pack_squares(found)) if apart == "all" or number % 2 else None

    one, other = cogs(tmp_path / "one"), cogs(tmp_path / "other")
    write_cogs(one, tmp_path / "levels", shape, UTM, windows)
    write_cogs(other, tmp_path / "levels", shape, UTM, windows, encode=encode)
    for a, b in zip(one, other, strict=True):
        assert a.path.read_bytes() == b.path.read_bytes()
    assert not list((tmp_path / "levels").iterdir())


def test_arrays_keep_their_types_and_shapes() -> None:
    given = [np.empty((0, 2)), np.arange(6, dtype=np.int32).reshape(2, 3).T, np.array(5, np.uint8), np.zeros(1, np.bool_)]
    found = list(read_arrays(write_arrays(given)))
    assert [(a.dtype, a.shape) for a in found] == [(a.dtype, a.shape) for a in given]
    assert all(np.array_equal(a, b) for a, b in zip(found, given, strict=True))
