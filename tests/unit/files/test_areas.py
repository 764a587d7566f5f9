"""Areas by class against the exact area of zones of the ellipsoid."""

from __future__ import annotations

import math

import numpy as np
import pyproj
import pytest

from geoseg.georeference import Georeference
from geoseg.windows import Window
from pipeline.files.areas import measure_codes, pixel_areas

WGS84 = pyproj.CRS("EPSG:4326").to_wkt()
MERCATOR = pyproj.CRS("EPSG:3857").to_wkt()
MAJOR, MINOR = 6_378_137.0, 6_356_752.314245179


def zone(low: float, high: float, degrees: float) -> float:
    """Square metres between two parallels, so many degrees wide (Snyder 1987, equation 3-12)."""
    e = math.sqrt(1 - (MINOR / MAJOR) ** 2)

    def q(lat: float) -> float:
        s = e * math.sin(math.radians(lat))
        return (1 - e * e) * (s / e / (1 - s * s) + math.atanh(s) / e)

    return MAJOR**2 * math.radians(degrees) / 2 * (q(high) - q(low))


@pytest.mark.parametrize(
    ("shape", "pixel", "top"),
    [((180, 360), 1.0, 90.0), ((100, 100), 0.25, 60.0), ((300, 70), 0.05, 60.0), ((300, 300), 1e-4, -70)],
)
def test_areas_in_degrees_are_those_of_the_ellipsoid(shape: tuple[int, int], pixel: float, top: float) -> None:
    place = Georeference((pixel, 0, -60, 0, -pixel, top), WGS84)
    classes = np.zeros(shape, np.uint8)
    half, width = shape[0] // 2, shape[1] * pixel
    classes[:half] = 7
    pixels, area = measure_codes(classes, Window.of(shape), place)
    middle, bottom = top - half * pixel, top - shape[0] * pixel
    assert pixels == {"0": classes.size - half * shape[1], "7": half * shape[1]}
    assert area["7"] == pytest.approx(zone(middle, top, width), rel=2e-5)
    assert area["0"] == pytest.approx(zone(bottom, middle, width), rel=2e-5)


def test_coarse_pixels_of_a_projection_that_stretches() -> None:
    # Five kilometres of Mercator are 2.2 km at 64 degrees north.
    place = Georeference((5000.0, 0, 0, 0, -5000.0, 1e7), MERCATOR)
    area = measure_codes(np.zeros((900, 40), np.uint8), Window.of((900, 40)), place)[1]["0"]
    to_degrees = pyproj.Transformer.from_crs(MERCATOR, WGS84, always_xy=True)
    east, top = to_degrees.transform(40 * 5000.0, 1e7)
    assert area == pytest.approx(zone(to_degrees.transform(0, 1e7 - 900 * 5000.0)[1], top, east), rel=1e-5)


@pytest.mark.parametrize(
    "place", [Georeference((0.01, 0, 5, 0, -0.01, 60), WGS84), Georeference((900.0, 0, 0, 0, -900.0, 9e6), MERCATOR)]
)
def test_no_pixel_has_another_size_in_another_window(place: Georeference) -> None:
    whole = pixel_areas(place, Window.of((700, 600)))
    for window in Window.of((700, 600)).parts(170):
        assert (pixel_areas(place, window) == whole[window.slices]).all()
    classes = np.random.default_rng(0).integers(0, 3, (700, 600)).astype(np.uint8)
    area = measure_codes(classes, Window.of((700, 600)), place)[1]
    assert [area[str(k)] for k in range(3)] == pytest.approx([whole[classes == k].sum() for k in range(3)])


def test_without_a_crs_pixels_are_counted() -> None:
    place = Georeference((1, 0, 0, 0, 1, 0), None)
    assert measure_codes(np.zeros((300, 3), np.uint8), Window.of((300, 3)), place) == ({"0": 900}, {})
    assert (pixel_areas(place, Window.at((5, 5), (2, 2))) == 1).all()
