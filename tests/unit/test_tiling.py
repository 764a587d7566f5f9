"""Windows and tiles by hand: what a tile sees, and which tiles a chunk computes."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg.errors import ConfigError
from geoseg.grid import Grid
from geoseg.windows import Window


def painted(window: Window, shape: tuple[int, int] = (30, 40)) -> np.ndarray:
    """The pixels of a window in a raster whose origin is 10 pixels further up and left, as rows and columns may be below 0."""
    mask = np.zeros(shape, np.bool_)
    mask[window.row_off + 10 : window.row_stop + 10, window.col_off + 10 : window.col_stop + 10] = True
    return mask


def test_windows_are_sets_of_pixels() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        a, b = (Window.at(tuple(rng.integers(-3, 9, 2).tolist()), tuple(rng.integers(1, 8, 2).tolist())) for _ in range(2))
        both = painted(a) & painted(b)
        common = a & b
        assert (common is None) == (not both.any())
        assert common is None or (painted(common) == both).all()
        assert (b in a) == (both == painted(b)).all()
        if common is not None:
            inside = np.zeros(a.shape, np.bool_)
            inside[common.slices_in(a)] = True
            rows, cols = slice(a.row_off + 10, a.row_stop + 10), slice(a.col_off + 10, a.col_stop + 10)
            np.testing.assert_array_equal(inside, both[rows, cols])
        total = np.zeros((30, 40), np.int64)
        for part in a.parts(3):
            assert max(part.shape) <= 3
            total += painted(part)
        np.testing.assert_array_equal(total, painted(a))
        grown = a.grown(2)
        assert (grown.row_off, grown.row_stop, grown.col_off, grown.col_stop) == (
            a.row_off - 2,
            a.row_stop + 2,
            a.col_off - 2,
            a.col_stop + 2,
        )
    with pytest.raises(ValueError, match="at least one row"):
        Window.between(3, 3, 0, 1)


@pytest.mark.parametrize("blend", [False, True])
@pytest.mark.parametrize(
    ("height", "width", "tile", "halo", "stride", "chunk"),
    [
        (100, 130, 32, 8, 4, 32),
        (100, 130, 32, 6, 4, 40),
        (64, 7, 64, 12, 8, 1000),
        (41, 97, 40, 9, 5, 20),
        (33, 33, 24, 0, 8, 24),
    ],
)
def test_tiles_see_their_core_and_halo_and_chunks_what_their_tiles_see(
    height: int, width: int, tile: int, halo: int, stride: int, chunk: int, blend: bool
) -> None:
    grid = Grid(height, width, tile=tile, halo=halo, stride=stride, chunk=chunk, blend=blend)
    margin = next(m for m in range(halo, halo + stride) if m % stride == 0)
    extent = [next(e for e in range(side, side + stride) if e % stride == 0) for side in (height, width)]
    assert list(grid.extent) == extent
    tiles = list(grid.tiles())
    for one in tiles:
        core, window = one.core, one.window
        assert (core.row_off, core.col_off) == (one.row * (tile - 2 * margin), one.col * (tile - 2 * margin))
        assert (window.row_off, window.col_off) == (max(0, core.row_off - margin), max(0, core.col_off - margin))
        full = (one.row + 1) * (tile - 2 * margin) + margin, (one.col + 1) * (tile - 2 * margin) + margin
        assert (window.row_stop, window.col_stop) == (min(full[0], extent[0]), min(full[1], extent[1]))
        assert all(side % stride == 0 for side in window.shape)
        assert core in window
        assert (core.row_stop, core.col_stop) == (min(full[0] - margin, height), min(full[1] - margin, width))
    for part in grid.chunks():
        own = [one for one in tiles if (one.window if blend else one.core) & part.core]
        assert [(one.row, one.col) for one in part.tiles] == [(one.row, one.col) for one in own]
        seen = np.zeros((height, width), np.bool_)
        for one in own:
            window = one.window & grid.scene
            assert window is not None
            seen[window.slices] = True
        assert seen[part.window.slices].all()
        assert seen.sum() == part.window.pixels
        assert part.core in part.window


def test_impossible_grids_are_refused_with_what_would_do() -> None:
    with pytest.raises(ConfigError, match="not a multiple of the network's stride 32; use 96"):
        Grid(100, 100, tile=100, halo=0, stride=32)
    with pytest.raises(ConfigError, match="use at least 160"):
        Grid(100, 100, tile=128, halo=64, stride=32)
    with pytest.raises(ConfigError, match="more than two tiles would blend"):
        Grid(100, 100, tile=128, halo=40, stride=8, blend=True)
