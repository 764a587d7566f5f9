"""How sure a map is: its confidence, summed up over blocks of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg.codes import MAX_CONFIDENCE
from geoseg.formats.page.amounts import percent
from geoseg.formats.page.elements import Histogram, Section, Words
from geoseg.grid import ceil_div
from geoseg.scenes.gdal import gdal_env, open_written
from geoseg.windows import Window

__all__ = ["Sureness", "lattice", "measure_sureness", "sureness_section"]

BLOCK = 512
MOST_BLOCKS = 64
"""Blocks that are read: all of a map of 4096 x 4096 pixels, of larger ones a lattice of them."""
STEP = 5
"""Percent to a bar of the histogram."""


@dataclass(frozen=True, slots=True)
class Sureness:
    """Confidence of the pixels that were analysed."""

    bars: tuple[tuple[str, float], ...]
    """By confidence: its lower end in percent, and the share of pixels."""
    mean: float
    """Percent, of all pixels."""
    by_class: Mapping[int, float]
    """Mean by class code, in percent."""
    whole: bool
    """Whether all of the map was read, not a lattice of blocks."""


def measure_sureness(folder: Path) -> Sureness | None:
    """Sum up ``confidence.tif`` of a folder; None where there is none, or nothing was analysed."""
    if not (folder / "confidence.tif").is_file():
        return None
    counts = np.zeros((256, MAX_CONFIDENCE + 1), np.int64)
    with gdal_env(), open_written(folder / "classes.tif") as classes, open_written(folder / "confidence.tif") as confidence:
        windows, whole = lattice(classes.height, classes.width)
        for window in windows:
            area = window.for_rasterio()
            code, sure = classes.read(1, window=area), confidence.read(1, window=area)
            known = sure <= MAX_CONFIDENCE
            np.add.at(counts, (code[known], sure[known]), 1)
    return _summed_up(counts, whole=whole)


def lattice(height: int, width: int) -> tuple[list[Window], bool]:
    """Windows of blocks, spread evenly, and whether they are all."""
    rows, cols = ceil_div(height, BLOCK), ceil_div(width, BLOCK)
    side = max(1, int(MOST_BLOCKS**0.5))
    # A map that is long and narrow has more blocks along than across.
    most_rows = min(rows, max(side, MOST_BLOCKS // cols))
    most_cols = min(cols, max(1, MOST_BLOCKS // most_rows))
    whole = Window.of((height, width))
    windows = []
    for row in np.linspace(0, rows - 1, most_rows).round().astype(int).tolist():
        for col in np.linspace(0, cols - 1, most_cols).round().astype(int).tolist():
            window = Window.between(row * BLOCK, (row + 1) * BLOCK, col * BLOCK, (col + 1) * BLOCK) & whole
            assert window is not None, "a block lies in the map"
            windows.append(window)
    return windows, most_rows == rows and most_cols == cols


def _summed_up(counts: NDArray[np.int64], *, whole: bool) -> Sureness | None:
    total = counts.sum()
    if not total:
        return None
    values, by_value = np.arange(MAX_CONFIDENCE + 1), counts.sum(axis=0)
    # 100 percent stands with those just below it.
    steps = np.bincount(np.minimum(values // STEP, MAX_CONFIDENCE // STEP - 1), by_value)
    return Sureness(
        bars=tuple((str(STEP * i), float(n / total)) for i, n in enumerate(steps)),
        mean=float(by_value @ values / total),
        by_class={code: float(row @ values / row.sum()) for code, row in enumerate(counts) if row.any()},
        whole=whole,
    )


def sureness_section(sureness: Sureness | None, meaning: str) -> Section:
    """What a page says of how sure a map is; None of one that was told to write no confidence.

    Args:
        sureness: The confidence, summed up.
        meaning: A sentence on what it is.
    """
    if sureness is None:
        return Section("How sure", (Words("There is no confidence raster: the run was told to write none."),))
    low = sum(share for label, share in sureness.bars if int(label) < 60)
    of = "all pixels" if sureness.whole else "a lattice of blocks of 512 pixels a side"
    said = f"Mean confidence is {sureness.mean:.1f} %; {percent(low)} of the analysed pixels have less than 60 %. {meaning}"
    caption = f"Share of analysed pixels by confidence, of {of}."
    return Section("How sure", (Words(said), Histogram("Histogram of confidence", caption, "confidence, %", sureness.bars)))
