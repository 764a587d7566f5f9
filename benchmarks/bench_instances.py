"""Join many objects over seams, and report time and memory.

    python benchmarks/bench_instances.py --objects 1000000

Rectangles of 12 to 30 pixels, a million of them on 40,000 x 40,000 pixels, as a perfect detector sees them in overlapping
tiles; those of each chunk of 5 x 5 tiles lie in a file. Timed is what the pipeline does with these files: read them, and
join what crosses seams. The result is compared with the rectangles: duplicates, splits and losses are to be 0.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg.grid import Grid
from geoseg.instances.joining import join_objects
from geoseg.instances.masks import Masks
from geoseg.instances.objects import Objects
from geoseg.polygons.rings import offsets_of, ranges

SPACING = 40
SMALLEST, LARGEST = 12, 30


def rectangles(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(N, 4) rows and columns of rectangles that do not overlap, one in each cell of a lattice."""
    side = int(np.ceil(np.sqrt(count)))
    cell = np.arange(count)
    size = rng.integers(SMALLEST, LARGEST + 1, (count, 2))
    place = np.stack([cell // side, cell % side], axis=1) * SPACING + (rng.random((count, 2)) * (SPACING - size)).astype(int)
    return np.stack([place[:, 0], place[:, 0] + size[:, 0], place[:, 1], place[:, 1] + size[:, 1]], axis=1)


def seen(grid: Grid, boxes: NDArray[np.int64], row: int, col: int) -> Objects:
    """What a perfect detector gives for one tile."""
    tile = grid.tile_at(row, col)
    window = tile.window & grid.scene
    assert window is not None
    low = np.array([window.row_off, window.row_off, window.col_off, window.col_off])
    high = np.array([window.row_stop, window.row_stop, window.col_stop, window.col_stop])
    core = tile.core
    inside = (boxes[:, 0] < core.row_stop) & (boxes[:, 1] > core.row_off)
    inside &= (boxes[:, 2] < core.col_stop) & (boxes[:, 3] > core.col_off)
    own = np.clip(boxes[inside], low, high)
    is_cut = (own != boxes[inside]).any(axis=1)
    heights = own[:, 1] - own[:, 0]
    rows = ranges(own[:, 0], heights)
    runs = np.stack([rows, np.repeat(own[:, 2], heights), np.repeat(own[:, 3], heights)], axis=1).astype(np.int32)
    count = len(own)
    return Objects(
        Masks(runs, offsets_of(heights)),
        np.ones(count, np.uint8),
        np.full(count, 0.9, np.float32),
        np.full((count, 3), 90, np.uint8),
        np.full(count, row * grid.cols.tiles + col, np.int64),
        is_cut,
    )


def write(grid: Grid, boxes: NDArray[np.int64], folder: Path) -> int:
    """A file of objects for each chunk; returns the number of views in them."""
    views = 0
    order = np.argsort(boxes[:, 0], kind="stable")
    boxes = boxes[order]
    for index in range(grid.n_chunks):
        chunk = grid.chunk_at(index)
        first, last = np.searchsorted(boxes[:, 0], [chunk.core.row_off - LARGEST - 1, chunk.core.row_stop])
        near = boxes[first:last]
        objects = Objects.concatenate([seen(grid, near, tile.row, tile.col) for tile in chunk.tiles])
        views += len(objects)
        (folder / f"{index}.npz").write_bytes(objects.to_bytes())
    return views


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--halo", type=int, default=64)
    args = parser.parse_args()
    boxes = rectangles(args.objects, np.random.default_rng(0))
    height, width = int(boxes[:, 1].max()) + 5, int(boxes[:, 3].max()) + 5
    grid = Grid(height, width, tile=1024, halo=args.halo, stride=32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        views = write(grid, boxes, folder)
        files = [folder / f"{index}.npz" for index in range(grid.n_chunks)]
        size = sum(file.stat().st_size for file in files)

        def load() -> Iterator[Objects]:
            return (Objects.from_bytes(file.read_bytes()) for file in files)

        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        found = [objects.masks.boxes for objects in join_objects(grid, load)]
        seconds = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = np.concatenate(found)
    wanted = boxes.astype(np.int32)
    same = np.array_equal(result[np.lexsort(result.T)], wanted[np.lexsort(wanted.T)])
    print(f"| objects | scene | views | on disk | join | memory beyond the list of objects | equal to the truth |\n{'|---' * 7}|")
    print(
        f"| {args.objects:,} | {height:,} x {width:,} | {views:,} | {size >> 20} MiB | {seconds:.1f} s | "
        f"{(after - before) >> 10} MiB | {'yes' if same else 'NO'} ({len(result):,}) |"
    )


if __name__ == "__main__":
    main()
