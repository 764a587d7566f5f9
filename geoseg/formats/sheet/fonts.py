"""Fonts of a map sheet: letters that its own font lacks are taken from another one that is installed."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

__all__ = ["FAMILY", "families"]

FAMILY = "DejaVu Sans"
"""Ships with matplotlib: Latin, Greek, Cyrillic, Arabic, Hebrew and more, but neither Indic nor East Asian letters."""
BOXES = "Last Resort"
"""A font that has a box for each letter."""
SHOWN = 8
LOG = logging.getLogger(__name__)


def families(texts: Iterable[str]) -> list[str]:
    """Families of fonts in which all letters of texts are, as far as they are installed.

    Says so in the log where some are in none: they are drawn as boxes.

    Args:
        texts: All that will be written.
    """
    from matplotlib.font_manager import FontProperties, fontManager

    lacking = {letter for text in texts for letter in text if not letter.isspace()}
    lacking -= _letters(fontManager.findfont(FontProperties(family=FAMILY)))
    found = [FAMILY]
    usable = sorted(
        {(font.name, font.fname) for font in fontManager.ttflist if font.style == "normal" and BOXES not in font.name}
    )
    known = [(name, _letters(path)) for name, path in usable] if lacking else []
    while lacking:
        # The one with most of what is left, then the next.
        name, has = max(known, key=lambda entry: len(lacking & entry[1]), default=("", set[str]()))
        if not lacking & has:
            letters = "".join(sorted(lacking)[:SHOWN])
            LOG.warning(
                "letters of the map sheet that no installed font has: %d, such as %s; they become boxes: install a font that "
                "has them, such as Noto Sans",
                len(lacking),
                letters,
            )
            break
        found.append(name)
        lacking -= has
    return found


def _letters(path: str) -> set[str]:
    from matplotlib.ft2font import FT2Font

    try:
        return {chr(code) for code in FT2Font(path).get_charmap()} if Path(path).is_file() else set()
    except (OSError, RuntimeError):
        return set()
