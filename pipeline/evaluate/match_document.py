"""Figures of a match as one document: of all objects, by size, and near seams against far from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NotRequired, TypedDict

import numpy as np

from geoseg.evaluation.instances import Matches, Overlaps, PrecisionTally, match
from pipeline.evaluate.sides import OUTSIDE_SHARE, Bools, Side

__all__ = ["MatchDocument", "Matched", "measured"]

Figures = dict[str, float | None]
"""Counts and rates by name; None where a rate is not defined."""


class MatchDocument(TypedDict):
    """All figures, as ``match --out`` writes them."""

    iou: float
    figures: Figures
    sizes: list[Figures]
    """Figures of strata, with ``from_m2`` and ``to_m2``."""
    left_out: dict[str, int]
    seams: NotRequired[dict[str, Figures]]
    """Figures ``near`` and ``far`` from seams, where those are known."""


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """Figures, and the objects that match."""

    document: MatchDocument
    """The figures."""
    pairs: list[tuple[int, int, float]]
    """Ids of objects that match, and their intersection over union."""


def measured(found: Side, truth: Side, every: Overlaps, iou: float, sizes: Sequence[float], *, near: bool) -> Matched:
    """Match objects and count them.

    Args:
        found: The objects of a map.
        truth: Those that they are held against.
        every: Their overlaps.
        iou: Least intersection over union of a match.
        sizes: Areas in square metres that divide the objects into strata.
        near: Whether seams are known.
    """
    hidden = np.bincount(every.first, every.inside * ~truth.known[every.second], len(found.known))
    counts = found.known & (hidden <= OUTSIDE_SHARE)
    overlaps = every.only(counts, truth.known)
    score = found.score[counts]
    matches = match(overlaps, score, iou=iou)
    tally = PrecisionTally()
    tally.add(overlaps, score)
    split = np.bincount(overlaps.second[overlaps.inside > 0.5], minlength=len(overlaps.truth)) > 1
    merged = np.bincount(overlaps.first[overlaps.covered > 0.5], minlength=len(overlaps.found)) > 1
    document: MatchDocument = {
        "iou": iou,
        "figures": _numbers(matches)
        | {name: _number(value) for name, value in tally.figures.items()}
        | {"split": int(split.sum()), "merged": int(merged.sum())},
        "sizes": [_of_size(matches, overlaps, low, high) for low, high in pairwise([0.0, *sorted(sizes), math.inf])],
        "left_out": {
            "found": int((~counts).sum()),
            "truth": int((~truth.known).sum()),
            "not_polygons": found.index.left_out + truth.index.left_out,
        },
    }
    if near:
        a, b = found.near[counts], truth.near[truth.known]
        document["seams"] = {
            name: _numbers(_stratum(matches, a == at, b == at))
            | {"split": int(split[b == at].sum()), "merged": int(merged[a == at].sum())}
            for name, at in (("near", True), ("far", False))
        }
    own, others = np.flatnonzero(counts), np.flatnonzero(truth.known)
    left, right = found.ids, truth.ids
    pairs = [
        (left[own[a]], right[others[b]], float(share))
        for a, b, share in zip(matches.found, matches.truth, matches.iou, strict=True)
    ]
    return Matched(document, pairs)


def _of_size(matches: Matches, overlaps: Overlaps, low: float, high: float) -> Figures:
    strata = [(area >= low) & (area < high) for area in (overlaps.found, overlaps.truth)]
    return {"from_m2": low, "to_m2": None if math.isinf(high) else high} | _numbers(_stratum(matches, *strata))


def _stratum(matches: Matches, found: Bools, truth: Bools) -> Matches:
    """The matches of some objects of the truth; what matches none of them counts where it is one of ``found`` and free."""
    keep = truth[matches.truth]
    free = found.copy()
    free[matches.found] = False
    return Matches(matches.found[keep], matches.truth[keep], matches.iou[keep], int(keep.sum() + free.sum()), int(truth.sum()))


def _numbers(matches: Matches) -> Figures:
    counts = {"matched": len(matches.found), "found": matches.found_count, "truth": matches.truth_count}
    return {name: _number(value) for name, value in matches.figures.items()} | counts


def _number(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None
