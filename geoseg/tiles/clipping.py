"""Rings cut to a square, all at once (Sutherland and Hodgman, 1974): along its sides, cut rings may run back on themselves."""

from __future__ import annotations

import numpy as np

from geoseg.arrays import F64, I64

__all__ = ["clip_rings", "following", "offsets_of", "taken"]


def offsets_of(counts: I64) -> I64:
    """(N + 1,) where runs of so many items begin, and where the last ends."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])


def taken(offsets: I64, runs: I64) -> I64:
    """Indices of the items of some runs, one run after the other.

    Args:
        offsets: (N + 1,) where runs begin.
        runs: (M,) which runs.
    """
    counts = offsets[runs + 1] - offsets[runs]
    begin = offsets_of(counts)
    return np.asarray(np.arange(begin[-1]) + np.repeat(offsets[runs] - begin[:-1], counts))


def following(rings: I64) -> I64:
    """Index of the point that follows each in its ring; that of the last is the first.

    Args:
        rings: (R + 1,) where each ring begins; none is empty.
    """
    after = np.arange(1, rings[-1] + 1)
    after[rings[1:] - 1] = rings[:-1]
    return np.asarray(after)


def clip_rings(xy: F64, rings: I64, low: float, high: float) -> tuple[F64, I64]:
    """Cut rings to ``low <= x, y <= high``.

    Args:
        xy: (N, 2) points; the first of a ring is not repeated.
        rings: (R + 1,) where each ring begins.
        low: The least x and y.
        high: The greatest.

    Returns:
        Points, and where each of the R rings begins; a ring may be empty.
    """
    for axis in (0, 1):
        for limit, sign in ((low, 1.0), (high, -1.0)):
            xy, rings = _half(xy, rings, axis, limit, sign)
    return xy, rings


def _half(xy: F64, rings: I64, axis: int, limit: float, sign: float) -> tuple[F64, I64]:
    """Cut rings by one line: a point inside stays, and each edge that crosses the line gives one on it."""
    if not len(xy):
        return xy, rings
    full = np.flatnonzero(np.diff(rings))
    after = following(np.append(rings[full], rings[-1]))
    depth = sign * (xy[:, axis] - limit)
    inside = depth >= 0
    crosses = inside != inside[after]
    count = inside.astype(np.int64) + crosses
    place = offsets_of(count)
    out = np.empty((place[-1], 2))
    out[place[:-1][inside]] = xy[inside]
    near, far = np.flatnonzero(crosses), after[crosses]
    part = depth[near] / (depth[near] - depth[far])
    cut = xy[near] + part[:, None] * (xy[far] - xy[near])
    cut[:, axis] = limit
    out[place[1:][crosses] - 1] = cut
    return out, place[rings]
