"""Objects of overlapping tiles to objects of the scene: each once and whole.

A tile sees its core and a halo. What it sees is its own business as long as nobody else claims it: an object whose mask lies
in the tile's core, and that no mask of another tile overlaps, is *settled* without further work. The others are *open*:
objects that cross the border of a core, and those that they overlap. Parts of objects that are cut by the windows of their
tiles are joined where they agree in the area that both tiles see; then, of several views of one object, the best stays.
All rules speak of masks, tiles and their places, so that the result is the same for any chunks and any order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import F32, I32, I64, U8, Bools
from geoseg.grid import Grid, Tile
from geoseg.instances.masks import Masks
from geoseg.instances.objects import QUANTILES, Objects
from geoseg.windows import Window

__all__ = ["AGREE", "COVERED", "join_objects", "joined", "objects_of_tile"]

AGREE = 0.5
"""Intersection over union, in the area that two tiles see, from which on two cut masks are parts of one object."""
COVERED = 0.5
"""Share of an object that better views cover from which on it is one of them."""


def objects_of_tile(grid: Grid, tile: Tile, labels: I32, code: U8, score: F32, confidence: U8) -> Objects:
    """The objects that a tile has a say in, of all that it sees: those with a pixel in its core.

    Args:
        grid: The scene's tiles.
        tile: The tile.
        labels: (h, w) int32, of ``tile.window`` within the scene: objects from 1 on, 0 for none. Of an object in several
            parts the largest stays.
        code: (N,) class code of each object.
        score: (N,) how sure the detector is of each, 0 to 1.
        confidence: (N, 3) quantiles of the confidence of its pixels, in percent.
    """
    seen = _seen(grid, tile)
    if labels.shape != seen.shape:
        raise ValueError(f"labels of {labels.shape} for a tile that sees {seen.shape}")
    masks = Masks.of_labels(labels, len(code), seen.row_off, seen.col_off).largest_parts()
    every = np.arange(len(masks))
    inside = masks.pixels_within(every, _spread(_corners(tile.core), len(masks)))
    keep = np.flatnonzero(inside)
    masks, boxes = masks.take(keep), masks.boxes[keep]
    top, bottom, left, right = _corners(seen)
    is_cut = (boxes[:, 0] == top) & (top > 0) | (boxes[:, 1] == bottom) & (bottom < grid.height)
    is_cut |= (boxes[:, 2] == left) & (left > 0) | (boxes[:, 3] == right) & (right < grid.width)
    number = np.full(len(keep), tile.row * grid.cols.tiles + tile.col, np.int64)
    return Objects(masks, code[keep], score[keep], confidence[keep], number, is_cut)


def join_objects(grid: Grid, load: Callable[[], Iterable[Objects]]) -> Iterator[Objects]:
    """The objects of a scene, from those of its tiles.

    Work and memory beyond one set follow the objects that cross borders of tile cores, and those that overlap them.

    Args:
        grid: The scene's tiles.
        load: Gives the objects of all tiles, in sets of any size and order; called twice.

    Yields:
        Settled objects set by set, then the joined ones. Their masks have no pixel in common.
    """
    crossing = Objects.concatenate([objects.take(np.flatnonzero(_crosses(grid, objects))) for objects in load()])
    tree = _Tree(crossing)
    opened = [crossing]
    for objects in load():
        inner = objects.take(np.flatnonzero(~_crosses(grid, objects)))
        claimed = tree.overlapped(inner)
        opened.append(inner.take(np.flatnonzero(claimed)))
        yield inner.take(np.flatnonzero(~claimed))
    yield joined(grid, Objects.concatenate(opened))


def joined(grid: Grid, objects: Objects) -> Objects:
    """Objects that overlap each other as tiles see them, made one where they are one, and apart where they are not."""
    # The order of what comes in must not matter.
    objects = objects.take(np.lexsort((objects.masks.first_pixels(grid.width), objects.tile)))
    single, made = _with_joined_parts(grid, objects)
    objects = Objects.concatenate([single, *made])
    # What is made of parts is no tile's view, and may overlap all of them.
    view = np.where(np.arange(len(objects)) < len(single), objects.tile, -1 - np.arange(len(objects)))
    rank = _ranks(grid, objects, view < 0)
    objects, view = objects.take(rank), view[rank]
    first, second = _overlapping(objects, view)
    common = objects.masks.common_pixels(first, second)
    stays, better = _best_views(objects.masks.pixels, first, second, common)
    runs = [_trimmed(objects.masks, i, better.get(i, ())) for i in np.flatnonzero(stays).tolist()] if better else None
    objects = objects.take(np.flatnonzero(stays))
    if runs is not None:
        objects = replace(objects, masks=Masks.of_runs(runs).largest_parts())
    return objects.take(np.argsort(objects.masks.first_pixels(grid.width), kind="stable"))


def _trimmed(masks: Masks, index: int, others: Sequence[int]) -> I32:
    """The runs of a mask without the pixels of some others."""
    runs = masks[index]
    for other in others:
        runs = Masks.difference(runs, masks[other])
    return runs


def _seen(grid: Grid, tile: Tile) -> Window:
    seen = tile.window & grid.scene
    assert seen is not None
    return seen


def _corners(window: Window) -> tuple[int, int, int, int]:
    return window.row_off, window.row_stop, window.col_off, window.col_stop


def _spread(corners: tuple[int, int, int, int], count: int) -> I32:
    return np.broadcast_to(np.array(corners, np.int32), (count, 4)).copy()


def _cores(grid: Grid, tile: I64) -> I32:
    """(N, 4) cores of tiles by number."""
    row, col = np.divmod(tile, grid.cols.tiles)
    step = grid.step
    ends = [row * step, np.minimum((row + 1) * step, grid.height), col * step, np.minimum((col + 1) * step, grid.width)]
    return np.stack(ends, axis=1).astype(np.int32)


def _windows(grid: Grid, tile: I64) -> I32:
    """(N, 4) what tiles see of the scene, by number."""
    row, col = np.divmod(tile, grid.cols.tiles)
    rows, cols = (np.array([axis.window(i) for i in range(axis.tiles)], np.int32) for axis in (grid.rows, grid.cols))
    ends = np.concatenate([rows[row], cols[col]], axis=1)
    return np.asarray(np.minimum(ends, np.array([grid.height, grid.height, grid.width, grid.width])), np.int32)


def _crosses(grid: Grid, objects: Objects) -> Bools:
    """Whether masks go beyond the cores of their tiles."""
    boxes, cores = objects.masks.boxes, _cores(grid, objects.tile)
    return np.asarray((boxes[:, ::2] < cores[:, ::2]).any(axis=1) | (boxes[:, 1::2] > cores[:, 1::2]).any(axis=1))


class _Tree:
    """Objects by place."""

    def __init__(self, objects: Objects) -> None:
        from shapely import STRtree

        self._objects = objects
        self._tree = STRtree(_boxes(objects))

    def overlapped(self, others: Objects) -> Bools:
        """Which of other objects have a pixel in common with one of these that another tile saw."""
        found = np.zeros(len(others), np.bool_)
        if not len(others) or not len(self._objects):
            return found
        theirs, own = self._tree.query(_boxes(others))
        differ = others.tile[theirs] != self._objects.tile[own]
        theirs, own = theirs[differ].astype(np.int64), own[differ].astype(np.int64)
        used, position = np.unique(own, return_inverse=True)
        masks = Masks.concatenate([others.masks, self._objects.masks.take(used)])
        found[theirs[masks.common_pixels(theirs, position + len(others)) > 0]] = True
        return found


def _boxes(objects: Objects) -> NDArray[np.object_]:
    from shapely import box

    # Boxes that only touch have no pixel in common.
    top, bottom, left, right = objects.masks.boxes.astype(np.float64).T
    return np.asarray(box(left + 0.25, top + 0.25, right - 0.25, bottom - 0.25))


def _overlapping(objects: Objects, view: I64) -> tuple[I64, I64]:
    """Pairs of objects of different views (N,) whose boxes overlap, first < second."""
    from shapely import STRtree

    if not len(objects):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    boxes = _boxes(objects)
    first, second = STRtree(boxes).query(boxes).astype(np.int64)
    keep = (first < second) & (view[first] != view[second])
    first, second = first[keep], second[keep]
    order = np.lexsort((second, first))
    return first[order], second[order]


def _with_joined_parts(grid: Grid, objects: Objects) -> tuple[Objects, list[Objects]]:
    """Make one object of cut ones that agree where both their tiles see; gives the others, and those that were made."""
    # Imported here: it takes a third of a second, and maps of classes do without.
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    cut = np.flatnonzero(objects.is_cut)
    parts = objects.take(cut)
    first, second = _overlapping(parts, parts.tile)
    same = parts.code[first] == parts.code[second]
    first, second = first[same], second[same]
    common = parts.masks.common_pixels(first, second)
    windows = _windows(grid, parts.tile)
    either = parts.masks.pixels_within(first, windows[second]) + parts.masks.pixels_within(second, windows[first]) - common
    agree = common >= np.maximum(AGREE * either, 1)
    graph = sparse.coo_array((np.ones(int(agree.sum()), np.int8), (first[agree], second[agree])), shape=(len(cut), len(cut)))
    _, component = connected_components(graph, directed=False)
    sizes = np.bincount(component)
    several = np.flatnonzero(sizes > 1)
    if not len(several):
        return objects, []
    by_component = np.argsort(component, kind="stable")
    begins = np.concatenate([[0], np.cumsum(sizes)])
    made = [_one(grid, parts.take(by_component[begins[c] : begins[c + 1]])) for c in several.tolist()]
    gone = cut[sizes[component] > 1]
    kept = np.setdiff1d(np.arange(len(objects)), gone)
    return objects.take(kept), made


def _one(grid: Grid, parts: Objects) -> Objects:
    """One object of parts that are cut; each pixel is decided by the part of the tile that owns it, where there is one."""
    cores = [Window.between(*core) for core in _cores(grid, parts.tile).tolist()]
    runs = []
    for index, own in enumerate(cores):
        mask = parts.masks[index]
        elsewhere = mask
        for core in cores:
            elsewhere = Masks.difference(elsewhere, _runs_of(core, mask))
        runs += [Masks.clip(mask, own), elsewhere]
    masks = Masks.of_runs([Masks.union(runs)]).largest_parts()
    # What is known of the parts counts by their pixels.
    weight = parts.masks.pixels.astype(np.float64)
    score = np.average(parts.score, weights=weight)
    confidence = np.average(parts.confidence, axis=0, weights=weight)
    inside = parts.masks.pixels_within(np.arange(len(parts)), _cores(grid, parts.tile))
    return Objects(
        masks,
        parts.code[:1],
        np.array([score], np.float32),
        np.rint(confidence).astype(np.uint8).reshape(1, len(QUANTILES)),
        parts.tile[[int(inside.argmax())]],
        np.zeros(1, np.bool_),
    )


def _runs_of(window: Window, mask: I32) -> I32:
    """The rows of a window that a mask has, as runs."""
    rows = np.unique(mask[:, 0])
    rows = rows[(rows >= window.row_off) & (rows < window.row_stop)]
    runs = np.empty((len(rows), 3), np.int32)
    runs[:, 0], runs[:, 1], runs[:, 2] = rows, window.col_off, window.col_stop
    return runs


def _ranks(grid: Grid, objects: Objects, made: Bools) -> I64:
    """The order of views from the best: whole ones first, by the share of their pixels that their tile owns.

    What is made of parts comes after the views that are whole by themselves: these were none of its parts, so that it can
    lack what they alone have seen.
    """
    every = np.arange(len(objects))
    pixels = objects.masks.pixels
    share = objects.masks.pixels_within(every, _cores(grid, objects.tile)) / np.maximum(pixels, 1)
    return np.lexsort((objects.tile, objects.masks.first_pixels(grid.width), -objects.score, -share, made, objects.is_cut))


def _best_views(pixels: I64, first: I64, second: I64, common: I64) -> tuple[Bools, dict[int, list[int]]]:
    """Which objects, in order from the best, stay; and of those that better ones overlap, which these are.

    Args:
        pixels: (N,) their sizes.
        first: (P,) of pairs, the better one.
        second: (P,) the other.
        common: (P,) pixels that they have in common.
    """
    stays = np.ones(len(pixels), np.bool_)
    there = np.flatnonzero(common)
    there = there[np.lexsort((first[there], second[there]))]
    first, second, common = first[there], second[there], common[there]
    worse, begins = np.unique(second, return_index=True)
    better: dict[int, list[int]] = {}
    ends = np.searchsorted(second, worse, side="right")
    for index, begin, end in zip(worse.tolist(), begins.tolist(), ends.tolist(), strict=True):
        staying = [k for k in range(begin, end) if stays[first[k]]]
        if sum(int(common[k]) for k in staying) >= COVERED * int(pixels[index]):
            stays[index] = False
        elif staying:
            better[index] = [int(first[k]) for k in staying]
    return stays, better
