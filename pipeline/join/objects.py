"""The objects of a scene: joined over seams, kept on disk by place, painted into rasters, traced to polygons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import Bools
from geoseg.codes import MAX_CLASS
from geoseg.grid import Grid, ceil_div
from geoseg.instances.cutting import cut_hidden, cut_to_area
from geoseg.instances.joining import join_objects
from geoseg.instances.masks import Masks
from geoseg.instances.objects import Objects
from geoseg.polygons.rings import offsets_of, ranges
from geoseg.vectors.area_of_interest import AreaOfInterest
from geoseg.windows import Window

__all__ = ["OBJECT_FILES", "ObjectStore", "join_scene", "keep_objects"]

BLOCK = 1024
"""Objects are ordered by the block of their first pixel, then by this pixel: what is near in space is near on disk."""
RUNS, TABLE = OBJECT_FILES = ("runs.npy", "objects.npz")
BATCH = 65536
P10, P50, P90 = range(3)


class ObjectStore:
    """The objects of a scene on disk, in an order that depends on nothing but them; may be read by several threads.

    Their numbers run from 1 in this order. Memory is that of the table; masks stay on disk.
    """

    def __init__(self, folder: Path, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._blocks = ceil_div(shape[0], BLOCK), ceil_div(shape[1], BLOCK)
        with np.load(folder / TABLE, allow_pickle=False) as table:
            self.code: NDArray[np.uint8] = table["code"]
            self.score: NDArray[np.float32] = table["score"]
            self.confidence: NDArray[np.uint8] = table["confidence"]
            self._boxes: NDArray[np.int32] = table["boxes"]
            self._offsets: NDArray[np.int64] = table["offsets"]
            self._block: NDArray[np.int64] = table["block"]
        self._runs: NDArray[np.int32] = np.load(folder / RUNS, mmap_mode="r", allow_pickle=False)
        # How many blocks an object may reach beyond that of its first pixel: down, and to both sides.
        rows, cols = np.divmod(self._block, max(1, self._blocks[1]))
        down = (self._boxes[:, 1] - 1) // BLOCK - rows
        left, right = cols - self._boxes[:, 2] // BLOCK, (self._boxes[:, 3] - 1) // BLOCK - cols
        self._reach = tuple(int(v.max(initial=0)) for v in (down, left, right))

    def __len__(self) -> int:
        """Number of entries."""
        return len(self.code)

    def masks(self, which: NDArray[np.int64]) -> Masks:
        """The masks of some objects, by index from 0."""
        lengths = np.diff(self._offsets)[which]
        return Masks(np.asarray(self._runs[ranges(self._offsets[:-1][which], lengths)]), offsets_of(lengths))

    def in_window(self, window: Window) -> NDArray[np.int64]:
        """Indices of the objects whose boxes overlap a window."""
        down, left, right = self._reach
        rows, cols = window.cells((BLOCK, BLOCK))
        first_col, last_col = max(0, cols.start - right), min(self._blocks[1] - 1, cols.stop - 1 + left)
        found = [np.empty(0, np.int64)]
        for row in range(max(0, rows.start - down), rows.stop):
            begin, end = np.searchsorted(self._block, [row * self._blocks[1] + first_col, row * self._blocks[1] + last_col + 1])
            found.append(np.arange(begin, end))
        near = np.concatenate(found)
        boxes = self._boxes[near]
        overlaps = (boxes[:, 0] < window.row_stop) & (boxes[:, 1] > window.row_off)
        overlaps &= (boxes[:, 2] < window.col_stop) & (boxes[:, 3] > window.col_off)
        return near[overlaps]

    def near(self, which: NDArray[np.int64], reach: int) -> NDArray[np.int64]:
        """Indices of the objects whose boxes come within some pixels of those of some objects, these among them."""
        from shapely import STRtree, box

        top, bottom, left, right = self._boxes[which].astype(np.float64).T
        around = Window.between(
            max(0, int(top.min()) - reach), int(bottom.max()) + reach, max(0, int(left.min()) - reach), int(right.max()) + reach
        )
        found = self.in_window(around)
        tree = STRtree(box(left - reach, top - reach, right + reach, bottom + reach))
        top, bottom, left, right = self._boxes[found].astype(np.float64).T
        return np.asarray(found[np.unique(tree.query(box(left, top, right, bottom))[0])])

    def paint(self, image: NDArray[np.uint8], window: Window) -> NDArray[np.uint8]:
        """Class codes of a window, with the classes of objects over those between them; codes above classes stay."""
        which = self.in_window(window)
        labels = np.zeros(window.shape, np.int32)
        self.masks(which).paint(labels, np.arange(1, len(which) + 1, dtype=np.int32), window.row_off, window.col_off)
        codes = np.concatenate([[0], self.code[which]]).astype(np.uint8)
        return np.where((labels > 0) & (image <= MAX_CLASS), codes[labels], image)

    def numbers(self, window: Window) -> NDArray[np.uint32]:
        """Numbers of the objects of a window, 0 for none."""
        which = self.in_window(window)
        labels = np.zeros(window.shape, np.int32)
        self.masks(which).paint(labels, (which + 1).astype(np.int32), window.row_off, window.col_off)
        return labels.view(np.uint32)

    def groups(self) -> Iterator[NDArray[np.int64]]:
        """Indices of all objects in order, in groups that lie together."""
        starts = np.flatnonzero(np.diff(self._block, prepend=-1))
        yield from np.split(np.arange(len(self)), starts[1:]) if len(self) else ()


def join_scene(
    grid: Grid,
    load: Callable[[], Iterable[Objects]],
    folder: Path,
    area: AreaOfInterest | None = None,
    hidden: Callable[[Window], Bools] | None = None,
) -> ObjectStore:
    """Join the objects of a scene's tiles and put them on disk.

    Args:
        grid: The scene's tiles.
        load: Gives what the tiles of each chunk saw; called twice.
        folder: Where to; made if missing.
        area: At whose border objects are cut, once they are joined.
        hidden: Gives (h, w) of a window, True where the joined objects are cut.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spool = folder / "spool.bin"
    sets, count = [], 0
    with spool.open("wb") as file:
        for whole in join_objects(grid, load):
            inside = cut_to_area(whole, area)
            objects = inside if hidden is None else cut_hidden(inside, hidden, grid.scene)
            if not len(objects):
                continue
            file.write(np.ascontiguousarray(objects.masks.runs).tobytes())
            lengths = np.diff(objects.masks.offsets)
            sets.append(_Facts.of(objects, grid.width, count + objects.masks.offsets[:-1], lengths))
            count += len(objects.masks.runs)
    facts = _Facts.concatenate(sets)
    order, block = _placed(facts.anchor, grid.width)
    lengths = facts.lengths[order]
    _write_runs(spool, folder / RUNS, count, facts.starts[order], lengths)
    spool.unlink()
    np.savez(
        folder / TABLE,
        code=facts.code[order],
        score=facts.score[order],
        confidence=facts.confidence[order],
        boxes=facts.boxes[order],
        offsets=offsets_of(lengths),
        block=block[order],
    )
    return ObjectStore(folder, (grid.height, grid.width))


def keep_objects(
    folder: Path,
    masks: Masks,
    code: NDArray[np.uint8],
    score: NDArray[np.float32],
    confidence: NDArray[np.uint8],
    shape: tuple[int, int],
) -> tuple[ObjectStore, NDArray[np.int64]]:
    """Put objects of which all is known on disk, in the order of a store.

    Args:
        folder: Where to; made if missing.
        masks: (N) their pixels, each 4-connected and apart from the others.
        code: (N,) class codes.
        score: (N,) 0 to 1.
        confidence: (N, 3) quantiles in percent.
        shape: Rows and columns of the scene.

    Returns:
        The store, and the position (N,) among those given of each of its objects.
    """
    folder.mkdir(parents=True, exist_ok=True)
    order, block = _placed(masks.first_pixels(shape[1]), shape[1])
    placed = masks.take(order)
    np.save(folder / RUNS, placed.runs)
    np.savez(
        folder / TABLE,
        code=code[order],
        score=score[order],
        confidence=confidence[order],
        boxes=placed.boxes,
        offsets=placed.offsets,
        block=block[order],
    )
    return ObjectStore(folder, shape), order


def _placed(anchor: NDArray[np.int64], width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The order of objects by their first pixels (N,) in a scene of this width, and the block (N,) of each."""
    row, col = np.divmod(anchor, width)
    block = row // BLOCK * ceil_div(width, BLOCK) + col // BLOCK
    return np.lexsort((anchor, block)), block


@dataclass(frozen=True, slots=True, eq=False)
class _Facts:
    """Attributes of objects, without their masks."""

    code: NDArray[np.uint8]
    score: NDArray[np.float32]
    confidence: NDArray[np.uint8]
    boxes: NDArray[np.int32]
    anchor: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, objects: Objects, width: int, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> _Facts:
        masks = objects.masks
        return cls(objects.code, objects.score, objects.confidence, masks.boxes, masks.first_pixels(width), starts, lengths)

    @classmethod
    def concatenate(cls, sets: list[_Facts]) -> _Facts:
        none = cls.of(Objects.empty(), 1, np.empty(0, np.int64), np.empty(0, np.int64))
        return cls(*(np.concatenate([getattr(facts, name) for facts in (none, *sets)]) for name in cls.__slots__))


def _write_runs(spool: Path, path: Path, count: int, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
    """Copy runs in another order, some at a time."""
    if not count:
        np.save(path, np.empty((0, 3), np.int32))
        return
    source = np.memmap(spool, np.int32, "r", shape=(count, 3))
    target = np.lib.format.open_memmap(path, "w+", np.int32, (count, 3))
    at = 0
    for first in range(0, len(starts), BATCH):
        part = source[ranges(starts[first : first + BATCH], lengths[first : first + BATCH])]
        target[at : at + len(part)] = part
        at += len(part)
    target.flush()
