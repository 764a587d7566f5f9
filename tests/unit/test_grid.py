"""The grid: cores partition the scene, tiles lie on one phase, chunks change nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from geoseg.grid import Grid
from geoseg.windows import Window

SIDES = st.integers(1, 700)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    stride = draw(st.sampled_from([1, 2, 8, 32]))
    tile = stride * draw(st.integers(16 // stride + 2, 12)) if stride > 1 else draw(st.integers(16, 200))
    blend = draw(st.booleans())
    halo = draw(st.integers(0, (tile - stride) // 2)) // stride * stride
    if blend and 4 * halo > tile:
        halo = tile // 4 // stride * stride
    phase = draw(st.none() | st.tuples(*(st.integers(0, 900 // stride).map(lambda n: n * stride),) * 2))
    chunk, one_shape = draw(st.integers(16, 900)), draw(st.booleans())
    return Grid(
        *(draw(SIDES), draw(SIDES)),
        tile=tile,
        halo=halo,
        stride=stride,
        chunk=chunk,
        blend=blend,
        one_shape=one_shape,
        phase=phase,
    )


@given(grids())
def test_chunk_cores_partition_the_scene(grid: Grid) -> None:
    seen = np.zeros((grid.height, grid.width), np.uint8)
    for index in range(grid.n_chunks):
        core = grid.chunk_core(index)
        assert core == grid.chunk_at(index).core
        seen[core.slices] += 1
    assert (seen == 1).all()


@given(grids())
def test_tile_cores_partition_the_scene(grid: Grid) -> None:
    seen = np.zeros((grid.height, grid.width), np.uint8)
    for tile in grid.tiles():
        seen[tile.core.slices] += 1
        common = tile.window & grid.scene
        assert common is not None
        assert (tile.core & common) == tile.core
    assert (seen == 1).all()


@given(grids(), st.integers(1, 900))
def test_tiles_do_not_depend_on_chunks(grid: Grid, chunk: int) -> None:
    other = replace(grid, chunk=chunk)
    assert list(grid.tiles()) == list(other.tiles())
    own = {tile.window for i in range(other.n_chunks) for tile in other.chunk_at(i).tiles}
    assert own == {tile.window for tile in grid.tiles()}


@given(grids())
def test_chunk_windows_hold_their_tiles(grid: Grid) -> None:
    for chunk in grid.chunks():
        for tile in chunk.tiles:
            inside = tile.window & grid.scene
            assert inside is not None
            assert (inside & chunk.window) == inside


@given(grids())
def test_moved_tiles_have_one_shape_and_see_what_the_others_see(grid: Grid) -> None:
    cut, moved = replace(grid, one_shape=False), replace(grid, one_shape=True)
    assert {tile.window.shape for tile in moved.tiles()} == {tuple(min(grid.tile, extent) for extent in grid.extent)}
    for one, other in zip(cut.tiles(), moved.tiles(), strict=True):
        assert one.core == other.core
        # On the network's phase, within the extended scene, and with all that the cut tile saw.
        assert other.window.row_off % grid.stride == other.window.col_off % grid.stride == 0
        assert min(other.window.row_off, other.window.col_off) >= 0
        assert other.window.row_stop <= grid.extent[0]
        assert other.window.col_stop <= grid.extent[1]
        assert one.window & other.window == one.window


@given(grids())
def test_scenes_that_are_smaller_than_a_tile_are_filled_up(grid: Grid) -> None:
    moved, filled = replace(grid, one_shape=True), replace(grid, one_shape=True, filled=True)
    assert {tile.window.shape for tile in filled.tiles()} == {(grid.tile, grid.tile)}
    assert [tile.core for tile in filled.tiles()] == [tile.core for tile in moved.tiles()]
    if min(grid.extent) >= grid.tile:
        assert list(filled.tiles()) == list(moved.tiles())


@given(grids(), st.integers(0, 40), st.integers(0, 40))
def test_tiles_of_scenes_on_one_lattice_are_those_of_the_lattice(grid: Grid, rows: int, cols: int) -> None:
    """Away from its borders, a scene has the tiles and chunks of a larger one around it."""
    top, left = (n * grid.stride for n in (rows, cols))
    inner = replace(grid, phase=(top, left))
    outer = replace(grid, height=grid.height + top, width=grid.width + left, phase=(0, 0))
    moved = {(t.core.row_off - top, t.core.row_stop - top, t.core.col_off - left, t.core.col_stop - left) for t in outer.tiles()}
    clipped = {(max(0, r), s, max(0, c), e) for r, s, c, e in moved if s > 0 and e > 0}
    assert {(t.core.row_off, t.core.row_stop, t.core.col_off, t.core.col_stop) for t in inner.tiles()} == clipped
    starts = [inner.chunk_core(i).row_off for i in range(inner.n_chunks)]
    assert all(start == 0 or (top + start) % inner.side == 0 for start in starts)


@given(grids(), st.data())
def test_chunks_that_a_window_touches(grid: Grid, data: st.DataObject) -> None:
    row, col = data.draw(st.integers(0, grid.height - 1)), data.draw(st.integers(0, grid.width - 1))
    window = Window.between(row, data.draw(st.integers(row + 1, grid.height)), col, data.draw(st.integers(col + 1, grid.width)))
    assert grid.chunks_touched(window) == [i for i in range(grid.n_chunks) if grid.chunk_core(i) & window is not None]
