"""Amounts as a page tells them."""

from __future__ import annotations

__all__ = ["area_text", "percent", "seconds_text", "share_of"]


def area_text(square_metres: float | None) -> str:
    """An area in hectares, in square metres below one hectare; a dash where it is not known."""
    if square_metres is None:
        return "-"
    return f"{square_metres / 1e4:,.1f} ha" if square_metres >= 1e4 or square_metres == 0 else f"{square_metres:,.0f} m²"


def percent(share: float | None) -> str:
    """A share from 0 to 1 in percent, so that what is not all does not read as all; a dash where it is not known."""
    if share is None:
        return "-"
    if 0 < share < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if 0.9995 <= share < 1 else f"{100 * share:.1f} %" if share != 1 else "100 %"


def share_of(part: float, whole: float) -> float | None:
    """A part of a whole; None of nothing."""
    return part / whole if whole > 0 else None


def seconds_text(seconds: float) -> str:
    """A duration."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
