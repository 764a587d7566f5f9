"""Where pixels lie, and how large they are there: against affine, geodesics of another library, and across 180 degrees."""

from __future__ import annotations

import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from geographiclib.geodesic import Geodesic
from rasterio.transform import Affine

from geoseg.formats.stac import footprint
from geoseg.georeference import Georeference
from geoseg.polygons.block_grid import BlockGrid
from geoseg.polygons.labelling import LabelledBlock
from geoseg.windows import Window

SHEARED = Affine(9.0, -3.5, 500_000.0, 2.25, -11.0, 9_000_000.0)
UTM21, UTM60, WGS84 = (pyproj.CRS(f"EPSG:{code}").to_wkt() for code in (32721, 32660, 4326))
PLACES = {
    "sheared": (SHEARED, UTM21),
    "south up": (Affine(10.0, 0.0, 500_000.0, 0.0, 10.0, 9_000_000.0), UTM21),
    "degrees": (Affine(0.01, 0.0, 12.0, 0.0, -0.02, 48.0), WGS84),
    "degrees across 180": (Affine(0.01, 0.0, 179.997, 0.0, -0.02, -17.0), WGS84),
    "degrees beyond 180": (Affine(0.01, 0.0, 183.0, 0.0, -0.02, 17.0), WGS84),
    "UTM across 180": (Affine(300.0, 0.0, 761_000.0, 0.0, -200.0, 4_000_000.0), UTM60),
}


def placed(name: str) -> tuple[Georeference, Affine]:
    transform, crs = PLACES[name]
    return Georeference(tuple(transform)[:6], crs), transform


@pytest.mark.parametrize("name", PLACES)
def test_corners_are_those_of_the_affine_transform(name: str) -> None:
    georeference, transform = placed(name)
    rows, cols = np.array([0.0, 7, 3, 100]), np.array([0.0, 2, 50, 31])
    expected = [transform @ (col, row) for row, col in zip(rows, cols, strict=True)]
    np.testing.assert_allclose(georeference.xy(rows, cols), expected, rtol=1e-14)
    np.testing.assert_allclose(
        georeference.corners(40, 70), [transform @ corner for corner in ((0, 0), (0, 40), (70, 40), (70, 0))], rtol=1e-14
    )
    assert georeference.determinant == pytest.approx(transform.determinant)
    assert georeference.mirrored == (transform.determinant > 0)


@pytest.mark.parametrize("name", PLACES)
def test_steps_and_areas_are_those_of_geodesics(name: str) -> None:
    georeference, transform = placed(name)
    height, width = 40, 60
    metric = georeference.metric(Window.of((height, width)), spacing=20)
    assert metric is not None
    to_degrees = pyproj.Transformer.from_crs(georeference.crs, WGS84, always_xy=True)

    def at(row: float, col: float) -> tuple[float, float]:
        lon, lat = to_degrees.transform(*(transform @ (col, row)))
        return lat, lon

    for i, row in enumerate((0, 20, 40)):
        for j, col in enumerate((0, 20, 40)):
            east, north = metric.jacobian[0, :, i, j], metric.jacobian[1, :, i, j]
            for axis, (dr, dc) in enumerate(((0.5, 0.0), (0.0, 0.5))):
                line = Geodesic.WGS84.Inverse(*at(row - dr, col - dc), *at(row + dr, col + dc))
                bearing = np.degrees(np.arctan2(east[axis], north[axis]))
                assert np.hypot(east[axis], north[axis]) == pytest.approx(line["s12"], rel=2e-6)
                middle = (line["azi1"] + line["azi2"]) / 2
                assert (bearing - middle + 180) % 360 - 180 == pytest.approx(0, abs=0.01)
            outline = Geodesic.WGS84.Polygon()
            for dr, dc in ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)):
                outline.AddPoint(*at(row + dr, col + dc))
            assert metric.area[i, j] == pytest.approx(abs(outline.Compute()[2]), rel=2e-5)


@pytest.mark.parametrize("name", PLACES)
def test_footprints_hold_the_scene_and_no_more(name: str) -> None:
    georeference, transform = placed(name)
    height, width = 40, 60
    outline = footprint(georeference, (height, width))
    assert outline is not None
    assert outline.is_valid
    assert outline.bounds[0] >= -180
    assert outline.bounds[2] <= 180
    # On the ground it is as large as the scene, in one piece or in two.
    geod = pyproj.Geod(ellps="WGS84")
    area = sum(abs(geod.geometry_area_perimeter(part)[0]) for part in shapely.get_parts(outline))
    metric = georeference.metric(Window.of((height, width)), spacing=10)
    assert metric is not None
    assert area == pytest.approx(metric.area.mean() * height * width, rel=2e-3)
    assert len(shapely.get_parts(outline)) == (2 if "across" in name else 1)
    to_degrees = pyproj.Transformer.from_crs(georeference.crs, WGS84, always_xy=True)
    lon, lat = to_degrees.transform(*(transform @ (width / 3, height / 2)))
    assert shapely.intersects_xy(outline, (lon + 180) % 360 - 180, lat)


def test_a_local_grid_is_flat_and_pixels_without_a_crs_have_no_size() -> None:
    site = rasterio.crs.CRS.from_wkt('LOCAL_CS["site",UNIT["foot",0.3048]]').to_wkt()
    metric = Georeference((2.0, 0, 0, 0, -3.0, 0), site).metric(Window.of((10, 10)))
    assert metric is not None
    np.testing.assert_allclose(metric.area, 6 * 0.3048**2)
    assert Georeference((1.0, 0, 0, 0, 1.0, 0), None).metric(Window.of((10, 10))) is None


def test_swapped_degrees_are_noticed() -> None:
    assert Georeference((0.01, 0, 12, 0, -0.01, 48), WGS84).outside_area_of_use(100, 100) is None
    assert "swapped" in (Georeference((0.01, 0, 12, 0, -0.01, 112), WGS84).outside_area_of_use(100, 100) or "")
    assert "swapped" in (Georeference((10.0, 0, 9e6, 0, -10.0, 5e5), UTM21).outside_area_of_use(100, 100) or "")


@pytest.mark.parametrize(("pixel", "shape"), [(1.0, (90, 40)), (0.1, (700, 300)), (0.01, (600, 600))])
def test_areas_of_coarse_pixels_are_those_of_the_ellipsoid(pixel: float, shape: tuple[int, int]) -> None:
    """What is measured on a region of whole rows, against the area of its zone."""
    place = Georeference((pixel, 0, 5, 0, -pixel, 80), WGS84)
    classes = (np.arange(shape[0]) % 4 // 2).astype(np.uint8)[:, None].repeat(shape[1], axis=1)
    block = LabelledBlock.of(BlockGrid(*shape), 0, classes)
    measured = block.measure(place)[0]
    # A zone is its parallels, which are no geodesics: many short sides.
    lon = np.linspace(0, shape[1] * pixel, 100)
    for label in range(1, len(block.values), len(block.values) // 4):
        outline = Geodesic.WGS84.Polygon()
        top, bottom = 2 * label - 2, min(2 * label, shape[0])
        for row, across in ((top, lon), (bottom, lon[::-1])):
            for x in across:
                outline.AddPoint(80 - row * pixel, x)
        assert measured.area_m2[label] == pytest.approx(abs(outline.Compute()[2]), rel=6e-5), label
