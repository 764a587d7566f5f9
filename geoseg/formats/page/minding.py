"""What to mind: warnings ranked by what they mean for a result, with repeated ones counted."""

from __future__ import annotations

import re
from collections.abc import Iterable

from geoseg.formats.page.elements import Minded

__all__ = ["ranked"]

GRAVE = re.compile(
    r"unlike|poor map|not analysed|could not be|can't be|no valid|no object was found|every pixel is|far from|twice|failed"
    r"|never written|don't agree|no place on Earth",
    re.IGNORECASE,
)
"""Words of warnings by which a result may be wrong, or lacks something."""
PARTICULARS = re.compile(r"\([^()]*\)|\S*/\S*|[-+]?\d[\d,.]*(?:e[+-]?\d+)?%?")
"""What differs where two scenes are warned of the same: what stands in brackets, paths, figures."""


def ranked(warnings: Iterable[str]) -> tuple[Minded, ...]:
    """Warnings that differ in figures, paths and brackets alone are one, told in the words of the first.

    The gravest come first, then what was said most often, then the order in which they were given.
    """
    first: dict[str, str] = {}
    counts: dict[str, int] = {}
    for text in warnings:
        key = PARTICULARS.sub("#", text)
        first.setdefault(key, text)
        counts[key] = counts.get(key, 0) + 1
    items = [Minded(text, counts[key], "bad" if GRAVE.search(text) else "warn") for key, text in first.items()]
    return tuple(sorted(items, key=lambda one: (one.tone != "bad", -one.count)))
