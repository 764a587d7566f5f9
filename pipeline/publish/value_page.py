"""What ``report.html`` says of a map of values: figures, a histogram, the legend of the ramp."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from geoseg.codes import MAX_VALUE
from geoseg.formats.page.elements import Entry, Histogram, Part, Section, Swatch, Table, Words
from geoseg.formats.styles import NOT_ANALYSED_COLOR
from geoseg.scenes.gdal import gdal_env, open_written
from pipeline.publish.run_facts import ValueFacts
from pipeline.publish.sureness import lattice
from pipeline.publish.value_pictures import ramp_of

__all__ = ["value_lead", "value_legend", "value_sections"]

BARS = 20


def value_lead(facts: ValueFacts) -> list[Entry]:
    """The figures at the top."""
    figures = (("Mean", facts.mean), ("Least", facts.least), ("Largest", facts.most))
    return [Entry(f"{name} {facts.name}", _with_unit(facts, value)) for name, value in figures]


def value_legend(facts: ValueFacts, raster: Path) -> tuple[Swatch, ...]:
    """Some colours of the ramp with what they stand for."""
    named = ramp_of(facts.quantity, raster).legend
    return (*(Swatch(color, text) for color, text in named), Swatch(NOT_ANALYSED_COLOR, "not analysed"))


def value_sections(facts: ValueFacts, raster: Path) -> tuple[Section, ...]:
    """Figures of all pixels, and how often values are there.

    Args:
        facts: Of ``run.json``.
        raster: ``values.tif``.
    """
    rows = [
        ["Least", _with_unit(facts, facts.least)],
        ["Mean", _with_unit(facts, facts.mean)],
        ["Largest", _with_unit(facts, facts.most)],
        ["Standard deviation", _with_unit(facts, facts.deviation)],
        ["Pixels with a value", f"{facts.pixels:,}"],
        ["Step between two codes", f"{facts.scale:g}{facts.quantity.suffix}"],
    ]
    text = (
        "A pixel of values.tif holds a code: its value is the code times the scale plus the offset of the file, which a GIS "
        "applies by itself. Code 65535 is no data; 65534 is not analysed, and lies one step above the largest value."
    )
    parts: list[Part] = [Table.of("All pixels that have a value", ("Figure", "#Value"), [[*row] for row in rows])]
    if facts.pixels and facts.least is not None and facts.most is not None:
        parts.append(_histogram(facts, raster, facts.least, facts.most))
    return (Section("Values", (*parts, Words(text))),)


def _histogram(facts: ValueFacts, raster: Path, least: float, most: float) -> Histogram:
    low, high = (round((value - facts.offset) / facts.scale) for value in (least, most))
    edges = np.linspace(low, high + 1, min(BARS, high - low + 1) + 1)
    counts = np.zeros(len(edges) - 1, np.int64)
    with gdal_env(), open_written(raster) as dataset:
        windows, whole = lattice(dataset.height, dataset.width)
        for window in windows:
            codes = dataset.read(1, window=window.for_rasterio())
            counts += np.histogram(codes[codes <= MAX_VALUE], edges)[0]
    total = max(1, int(counts.sum()))
    labels = [f"{edge * facts.scale + facts.offset:.3g}" for edge in edges[:-1].tolist()]
    of = "all pixels" if whole else "a lattice of blocks of 512 pixels a side"
    bars = tuple(zip(labels, (counts / total).tolist(), strict=True))
    title = f"Histogram of {facts.name}"
    return Histogram(title, f"Share of pixels by {facts.name}, of {of}.", facts.unit, bars)


def _with_unit(facts: ValueFacts, value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}{facts.quantity.suffix}"
