"""Colours of values: in order, apart from what has no value, and a style that QGIS can read."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from geoseg.formats.ramps import Ramp, colored_values, value_qml


def ramp(codes: np.ndarray) -> Ramp:
    return Ramp.of(codes, (0.01, -2.0), "canopy height, m", " m")


def test_ends_are_percentiles_of_what_has_a_value() -> None:
    codes = np.concatenate([np.arange(10_001), [65534] * 5000, [65535] * 5000]).astype(np.uint16)[None]
    found = ramp(codes)
    assert (found.low, found.high) == pytest.approx((200 * 0.01 - 2, 9800 * 0.01 - 2))
    assert found.values == sorted(found.values)
    assert [text for _, text in found.legend] == [f"{value:g} m" for value in found.values]


@pytest.mark.parametrize("codes", [[[7, 7]], [[65535, 65534]]])
def test_maps_of_one_value_or_none_have_a_ramp(codes: list[list[int]]) -> None:
    found = ramp(np.array(codes, np.uint16))
    assert found.low < found.high
    assert colored_values(np.array(codes, np.uint16), found).shape == (1, 2, 3)


def test_light_rises_and_what_has_no_value_is_grey_or_white() -> None:
    codes = np.arange(0, 60_000, 100, dtype=np.uint16)[None]
    pixels = colored_values(codes, ramp(codes))[0].astype(float)
    light = pixels @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(light) > -1).all()
    assert light[-1] - light[0] > 150
    special = colored_values(np.array([[65534, 65535]], np.uint16), ramp(codes))
    assert special.tolist() == [[[130, 130, 130], [255, 255, 255]]]


def test_style() -> None:
    codes = np.arange(0, 60_000, 100, dtype=np.uint16)[None]
    found = ramp(codes)
    root = ET.fromstring(value_qml(found))
    items = [float(item.attrib["value"]) for item in root.iter("item")]
    assert items == sorted(items)
    assert (items[0], items[-1]) == pytest.approx((found.low, found.high))
    (hidden,) = root.iter("pixelListEntry")
    # Of all codes the one of what was not analysed, by its physical value.
    inside = [c for c in (65533, 65534, 65535) if float(hidden.attrib["min"]) <= c * 0.01 - 2 <= float(hidden.attrib["max"])]
    assert inside == [65534]
