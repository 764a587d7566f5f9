"""Plots of pages: what is drawn stands where its value is, and names of strangers are no markup."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from geoseg.formats.page.plots import Line, Span, curve_plot, interval_plot

SVG = "{http://www.w3.org/2000/svg}"


def test_intervals_stand_on_one_scale() -> None:
    spans = [Span("a", 50.0, 25.0, 100.0, 75.0), Span("<b>&", 0.0, 0.0, 0.0), Span("long " * 20, 10.0, -25.0, 20.0)]
    plot = interval_plot("title", "caption", spans, "ha")
    root = ET.fromstring(plot.svg)
    dots = [float(one.attrib["cx"]) for one in root.iter(f"{SVG}circle")]
    lines = [one.attrib["d"][1:].replace("H", " ").split() for one in root.iter(f"{SVG}path") if one.get("stroke") == "#0b5a8a"]
    ends = [(float(start), float(stop)) for start, _, stop in lines]
    # 75 ha of the axis from -25 to 100 are between the low end of the first and its high one.
    unit = (ends[0][1] - ends[0][0]) / 75
    assert dots[0] - ends[0][0] == pytest.approx(25 * unit, abs=0.2)
    assert dots[1] - dots[0] == pytest.approx(-50 * unit, abs=0.2)
    assert ends[2][0] - dots[1] == pytest.approx(-25 * unit, abs=0.2)
    (tick,) = (one.attrib["d"] for one in root.iter(f"{SVG}path") if one.get("stroke") == "#b35806")
    assert float(tick[1:].split()[0]) - dots[0] == pytest.approx(25 * unit, abs=0.2)
    assert "<b>&" in [one.text for one in root.iter(f"{SVG}text")]


def test_curves_go_from_zero_up_to_their_largest_value() -> None:
    plot = curve_plot("loss", "", [Line("training", ((10, 4.0), (20, 2.0), (30, 0.0))), Line("one", ((20, 1.0),))], "steps")
    root = ET.fromstring(plot.svg)
    first, second = (one.attrib["points"].split() for one in root.iter(f"{SVG}polyline"))
    (x0, y0), (x1, y1), (x2, y2) = (tuple(map(float, point.split(","))) for point in first)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y1 - y0 == pytest.approx(y2 - y1, abs=0.2)
    assert y0 < y1 < y2
    x, y = map(float, second[0].split(","))
    assert (x, y2 - y) == pytest.approx((x1, (y2 - y0) / 4), abs=0.2)
