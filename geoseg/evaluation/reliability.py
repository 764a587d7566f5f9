"""Reliability diagrams as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from geoseg.calibration.measures import Diagram

__all__ = ["draw_reliability"]

COLORS = ("#b35806", "#2166ac", "#1b7837", "#762a83")


def draw_reliability(diagrams: Mapping[str, Diagram], path: Path, *, title: str) -> None:
    """Draw reliability diagrams over each other, and below them how many pixels each bin has; a PNG.

    Args:
        diagrams: By label.
        path: The file.
        title: Stands above.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 6), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    upper.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", label="calibrated")
    for (label, diagram), color in zip(diagrams.items(), COLORS, strict=False):
        text = f"{label}: ECE {diagram.error:.4f}"
        upper.plot(diagram.probability, diagram.frequency, color=color, marker="o", markersize=4, label=text)
        share = diagram.count / max(1.0, float(diagram.count.sum()))
        lower.plot(diagram.probability, share, color=color, marker="o", markersize=3)
    upper.set(ylabel="share of pixels that are of the class", title=title, xlim=(0, 1), ylim=(0, 1))
    upper.legend(loc="upper left", frameon=False)
    lower.set(xlabel="probability of the chosen class", ylabel="share of pixels", yscale="log")
    # Without a date the same figures give the same bytes.
    figure.savefig(path, dpi=120, metadata={"Software": None})
