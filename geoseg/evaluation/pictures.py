"""Plots of an evaluation, as SVG or PNG in text, so that a report is one file."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import rasterio
import rasterio.errors

from geoseg.arrays import U8
from geoseg.evaluation.reliability import COLORS
from geoseg.formats.text import clean
from geoseg.scenes.files.muting import muted

__all__ = ["confusion_svg", "curves_svg", "png_uri", "reliability_svg"]


def _canvas(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _svg(figure: Any) -> str:
    import matplotlib as mpl

    out = io.StringIO()
    # Without a date and with names that are no random numbers, the same figures give the same text.
    with mpl.rc_context({"svg.hashsalt": "geoseg", "svg.fonttype": "none"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def _label(name: str) -> str:
    """A name as matplotlib draws it to the letter; dollar signs would begin a formula."""
    return clean(name).replace("$", r"\$")


def confusion_svg(counts: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """The confusion matrix, rows in shares of the truth."""
    names = [_label(name) for name in names]
    values = np.asarray(counts, np.float64)
    share = values / np.maximum(values.sum(axis=1, keepdims=True), 1)
    side = max(3.2, 0.8 * len(names) + 1.6)
    figure, axes = _canvas(side + 0.6, side)
    axes.pcolormesh(np.arange(len(names) + 1) - 0.5, np.arange(len(names) + 1) - 0.5, share, cmap="Greens", vmin=0, vmax=1)
    axes.set(aspect="equal")
    axes.invert_yaxis()
    axes.set(xlabel="map", ylabel="truth")
    axes.set_xticks(range(len(names)), names, rotation=45 if len(names) > 3 else 0, ha="right" if len(names) > 3 else "center")
    axes.set_yticks(range(len(names)), names)
    for row in range(len(names)):
        for col in range(len(names)):
            color = "white" if share[row, col] > 0.6 else "black"
            axes.text(col, row, f"{100 * share[row, col]:.1f} %", ha="center", va="center", color=color, fontsize=9)
    return _svg(figure)


def curves_svg(curves: Mapping[str, Mapping[str, Sequence[float]]], areas: Mapping[str, float | None]) -> str:
    """Precision against recall of each class."""
    figure, axes = _canvas(4.6, 4)
    for number, (name, curve) in enumerate(curves.items()):
        if not curve["recall"]:
            continue
        area = areas[name]
        label = _label(name) if area is None else f"{_label(name)}: AP {area:.3f}"
        axes.plot(curve["recall"], curve["precision"], color=COLORS[number % len(COLORS)], label=label)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc="lower left", frameon=False)
    return _svg(figure)


def reliability_svg(diagram: Mapping[str, Sequence[float]], ece: float) -> str:
    """Draw the share of right pixels over the confidence of the map."""
    figure, axes = _canvas(4.6, 4)
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", label="calibrated")
    axes.plot(diagram["probability"], diagram["frequency"], color=COLORS[0], marker="o", markersize=4, label=f"ECE {ece:.4f}")
    axes.set(xlabel="probability of the chosen class", ylabel="share of pixels that are of it", xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="upper left", frameon=False)
    return _svg(figure)


def png_uri(image: U8) -> str:
    """(h, w, 3) as a data URI."""
    height, width = image.shape[:2]
    with rasterio.MemoryFile() as memory:
        # A picture has no place on Earth, and needs none.
        with (
            muted(rasterio.errors.NotGeoreferencedWarning),
            memory.open(driver="PNG", height=height, width=width, count=3, dtype="uint8") as dataset,
        ):
            dataset.write(image.transpose(2, 0, 1))
        data = bytes(memory.getbuffer())
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")
