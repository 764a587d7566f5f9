"""Objects as tiles see them, and what is known of each."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import F32, I64, U8, Bools
from geoseg.instances.masks import Masks

__all__ = ["QUANTILES", "Objects"]

QUANTILES = (0.1, 0.5, 0.9)
"""Quantiles of the confidence of an object's pixels that are kept."""


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """Objects with their masks, one entry each."""

    masks: Masks
    """Their pixels in the scene."""
    code: U8
    """(N,) class code."""
    score: F32
    """(N,) how sure the detector is of the object, 0 to 1."""
    confidence: U8
    """(N, 3) quantiles of the confidence of its pixels, in percent; see ``QUANTILES``."""
    tile: I64
    """(N,) the tile that saw it (row * columns of tiles + column)."""
    is_cut: Bools
    """(N,) whether its mask ends at a border of the tile's window where the scene goes on."""

    def __len__(self) -> int:
        """Number of entries."""
        return len(self.masks)

    @classmethod
    def empty(cls) -> Objects:
        """No objects."""
        return cls(
            Masks.empty(),
            np.empty(0, np.uint8),
            np.empty(0, np.float32),
            np.empty((0, len(QUANTILES)), np.uint8),
            np.empty(0, np.int64),
            np.empty(0, np.bool_),
        )

    @classmethod
    def concatenate(cls, sets: Sequence[Objects]) -> Objects:
        """All objects of some sets, in order."""
        sets = [cls.empty(), *sets]
        others = [np.concatenate([getattr(objects, field.name) for objects in sets]) for field in fields(cls)[1:]]
        return cls(Masks.concatenate([objects.masks for objects in sets]), *others)

    def take(self, which: NDArray[np.integer]) -> Objects:
        """Some of the objects, in the order given."""
        return Objects(
            self.masks.take(np.asarray(which, np.int64)),
            self.code[which],
            self.score[which],
            self.confidence[which],
            self.tile[which],
            self.is_cut[which],
        )

    def to_bytes(self) -> bytes:
        """The objects as an NPZ archive."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)[1:]}
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, runs=self.masks.runs, offsets=self.masks.offsets, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Objects:
        """From what ``to_bytes`` gave."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return cls(Masks(arrays["runs"], arrays["offsets"]), *(arrays[field.name] for field in fields(cls)[1:]))
