"""What to look at first: the polygons of a map in an order that serves the one who checks them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from geoseg.arrays import F64, I64
from geoseg.codes import MAX_CLASS
from geoseg.tiles.polygon_store import PolygonStore

__all__ = ["Figures", "Order", "figures_of", "first_rows", "order_of"]

PER_CLASS = 300
"""Polygons of each class that are listed, by each order."""
PERCENT = 100.0
Order = Literal["doubt", "area", "severity", "unsure"]
"""By area times what confidence lacks; by area; by class, the last of which is the worst, and confidence; the least sure."""


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """What polygons are filtered and ordered by."""

    codes: I64
    """(F,) classes."""
    areas: F64
    """(F,) square metres."""
    confidence: F64 | None
    """(F,) percent; NaN where there is none."""


def figures_of(store: PolygonStore) -> Figures:
    """The figures that the attributes hold; areas that are missing are measured."""
    codes = _numbers(store, "code")
    areas = _numbers(store, "area_m2")
    kinds = store.columns.get("class")
    if codes is None:
        codes = np.zeros(len(store)) if kinds is None or kinds.texts is None else kinds.numbers.astype(np.float64)
    return Figures(
        np.nan_to_num(codes, nan=-1).astype(np.int64),
        store.areas() if areas is None else np.nan_to_num(areas),
        _numbers(store, "confidence"),
    )


def _numbers(store: PolygonStore, name: str) -> F64 | None:
    column = store.columns.get(name)
    return None if column is None or column.texts is not None else np.asarray(column.numbers, np.float64)


def order_of(figures: Figures, order: Order) -> I64:
    """(F,) numbers of the polygons, those first that should be looked at first."""
    return np.argsort(-scores(figures, order), kind="stable")


def scores(figures: Figures, order: Order) -> F64:
    """(F,) how much each deserves a look: square metres, those of them that are expected to be wrong, or how bad it is."""
    if order == "severity":
        graded = np.where(figures.codes > MAX_CLASS, -1, figures.codes)
        return np.asarray(graded + (0 if figures.confidence is None else np.nan_to_num(figures.confidence) / (2 * PERCENT)))
    if order == "unsure":
        # What has no confidence was not analysed: people can't see there either.
        sure = np.full(len(figures.codes), np.nan) if figures.confidence is None else figures.confidence
        return np.asarray(PERCENT - np.nan_to_num(sure, nan=PERCENT + 1))
    if order == "area" or figures.confidence is None:
        return figures.areas
    doubt = 1 - np.nan_to_num(figures.confidence, nan=0.0) / PERCENT
    return np.asarray(figures.areas * doubt)


def first_rows(figures: Figures) -> I64:
    """Numbers of the polygons that are listed: of each class the first by each order."""
    kept: list[I64] = []
    orders: tuple[Order, ...] = ("doubt", "area", "severity")
    for order in orders:
        ranked = order_of(figures, order)
        kept += [ranked[figures.codes[ranked] == code][:PER_CLASS] for code in np.unique(figures.codes)]
    return np.unique(np.concatenate(kept)) if kept else np.zeros(0, np.int64)
