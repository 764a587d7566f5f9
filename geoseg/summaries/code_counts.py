"""Counts of codes, pixel by pixel."""

from __future__ import annotations

from geoseg.arrays import I64, U8
from geoseg.summaries import _counts

__all__ = ["count_codes"]


def count_codes(codes: U8) -> I64:
    """How often each code is there: (h, w) uint8, which may be a part of an array, to (256,)."""
    return _counts.count_codes(codes)
