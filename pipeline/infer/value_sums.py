"""Sums over the codes of values of chunks, exact whatever their number: what the figures of a whole map follow from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from geoseg.codes import ANALYSED
from geoseg.inference.chunks import ChunkLayers
from geoseg.inference.value_chunks import from_bytes
from geoseg.models.card_values import Quantity

__all__ = ["summed", "value_figures", "value_sums"]


def value_sums(layers: ChunkLayers) -> dict[str, int]:
    """Number of the pixels of a chunk that have a value, least and largest code, sums of codes and of squares, clipped ones.

    Empty where no pixel has a value.
    """
    if layers.values is None or layers.clipped is None:
        return {}
    known = layers.classes == ANALYSED
    codes = from_bytes(layers.values, layers.classes)[known].astype(np.int64)
    if not codes.size:
        return {}
    clipped = layers.clipped[known]
    return {
        "pixels": int(codes.size),
        "least": int(codes.min()),
        "most": int(codes.max()),
        "sum": int(codes.sum()),
        "squares": int((codes * codes).sum()),
        "below": int((clipped < 0).sum()),
        "above": int((clipped > 0).sum()),
    }


def summed(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sums of several chunks as those of all; empty where no pixel has a value."""
    total: dict[str, int] = {}
    for part in parts:
        for key, value in part.items():
            if key in ("least", "most"):
                total[key] = {"least": min, "most": max}[key](total.get(key, value), value)
            else:
                total[key] = total.get(key, 0) + value
    return total


def value_figures(quantity: Quantity, total: Mapping[str, int]) -> dict[str, float]:
    """Least, largest and mean value and their standard deviation, in the quantity's unit; empty where no pixel has a value."""
    if not total:
        return {}
    count, mean = total["pixels"], total["sum"] / total["pixels"]
    # Integers of any size: the difference of two large sums stays exact.
    spread = (count * total["squares"] - total["sum"] ** 2) ** 0.5 / count
    return {
        "least": total["least"] * quantity.scale + quantity.offset,
        "most": total["most"] * quantity.scale + quantity.offset,
        "mean": mean * quantity.scale + quantity.offset,
        "deviation": spread * quantity.scale,
    }
