"""Pixels of an area of interest: those that GDAL burns, in any window; and what can't be an area is refused in a sentence."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import pyproj
import pytest
import rasterio.features
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.errors import ConfigError, GeoreferenceError, OutsideAreaError
from geoseg.georeference import Georeference
from geoseg.vectors.area_of_interest import AreaOfInterest, area_on
from geoseg.vectors.given_area import GivenArea, areas_by_value, check_area, file_of_area, read_area
from geoseg.windows import Window
from tests.support import TRANSFORM, UTM

SHAPE = (90, 130)
PLACE = Georeference(tuple(TRANSFORM)[:6], pyproj.CRS.from_user_input(UTM).to_wkt())
BOWTIE = shapely.Polygon([(431_000.3, 8_929_800.7), (430_100.1, 8_929_200.2), (430_100.9, 8_929_850.4), (431_050.6, 8_929_300.5)])


def burned(shapes: Any, transform: Any = TRANSFORM, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """The oracle: GDAL's burning of all features into one raster."""
    found = rasterio.features.rasterize([(one, 1) for one in shapes], out_shape=shape, transform=transform, dtype="uint8")
    return found.astype(np.bool_)


def area_of(shapes: Any, crs: Any = UTM, place: Georeference = PLACE, shape: tuple[int, int] = SHAPE) -> AreaOfInterest:
    given_area = GivenArea("area", np.array(shapes, object), None if crs is None else pyproj.CRS.from_user_input(crs))
    return area_on(given_area, place, shape, "scene.tif")


def star(seed: int, points: int, x: float, y: float, radius: float) -> shapely.Polygon:
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, points))
    reach = rng.uniform(0.2, 1, points) * radius
    return shapely.make_valid(shapely.Polygon(np.stack([x + reach * np.cos(angle), y + reach * np.sin(angle)], axis=1)))


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(3, 60), st.integers(1, 4), st.integers(9, 60))
def test_its_pixels_are_those_that_gdal_burns_in_any_window(seed: int, points: int, count: int, side: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = [star(seed + k, points, *rng.uniform((430_000, 8_929_100), (431_300, 8_930_000)), 600) for k in range(count)]
    shapes = [shapely.difference(one, star(seed + 9, 8, 430_650, 8_929_550, 200)) for one in shapes]
    wanted = burned([one for one in shapes if not one.is_empty])
    if not wanted.any():
        with pytest.raises(OutsideAreaError):
            area_of(shapes)
        return
    area = area_of(shapes)
    assert np.array_equal(area.mask(Window.of(SHAPE)), wanted)
    assert area.pixels == wanted.sum()
    rows, cols = np.flatnonzero(wanted.any(axis=1)), np.flatnonzero(wanted.any(axis=0))
    assert area.window == Window.between(int(rows[0]), int(rows[-1]) + 1, int(cols[0]), int(cols[-1]) + 1)
    for window in Window.of(SHAPE).parts(side):
        assert np.array_equal(area.mask(window), wanted[window.slices])
        assert area.touches(window) == wanted[window.slices].any()
    cells = {
        (r, c)
        for r in range(-(-90 // side))
        for c in range(-(-130 // (side + 3)))
        if wanted[r * side : (r + 1) * side, c * (side + 3) : (c + 1) * (side + 3)].any()
    }
    assert area.cells((side, side + 3)) == cells


def test_borders_through_centres_divide_the_pixels_among_neighbours() -> None:
    corners = [(430_005 + 300 * k, 430_305 + 300 * k) for k in range(4)]
    parts = [area_of([shapely.box(left, 8_929_205, right, 8_929_905)]).mask(Window.of(SHAPE)) for left, right in corners]
    whole = area_of([shapely.box(430_005, 8_929_205, 431_205, 8_929_905)]).mask(Window.of(SHAPE))
    assert np.array_equal(np.sum(parts, axis=0), whole.astype(int))


def test_a_polygon_that_crosses_itself_is_repaired() -> None:
    assert np.array_equal(area_of([BOWTIE]).mask(Window.of(SHAPE)), burned([shapely.make_valid(BOWTIE)]))


def test_edges_in_degrees_are_straight_there() -> None:
    """A box of ten degrees at 60 degrees north is far from one on the map; the oracle has a point every thousandth of a side."""
    place = Georeference((1000.0, 0.0, 200_000.0, 0.0, -1000.0, 7_200_000.0), pyproj.CRS.from_epsg(32633).to_wkt())
    area = area_on(read_area("10.1,57,19.9,63"), place, (900, 700), "scene.tif")
    move = pyproj.Transformer.from_crs("OGC:CRS84", "EPSG:32633", always_xy=True)
    dense = shapely.segmentize(shapely.box(10.1, 57, 19.9, 63), 0.001)
    moved = shapely.transform(dense, lambda xy: np.stack(move.transform(xy[:, 0], xy[:, 1]), axis=1))
    wanted = burned([moved], rasterio.Affine(*place.transform), (900, 700))
    assert (area.mask(Window.of((900, 700))) != wanted).sum() < 20
    straight = shapely.transform(shapely.box(10.1, 57, 19.9, 63), lambda xy: np.stack(move.transform(xy[:, 0], xy[:, 1]), axis=1))
    assert (burned([straight], rasterio.Affine(*place.transform), (900, 700)) != wanted).sum() > 1000


@pytest.mark.parametrize("crs", ["EPSG:32601", "EPSG:4326"])
def test_a_box_over_the_180th_meridian_lies_on_both_sides(crs: str) -> None:
    if crs == "EPSG:4326":
        place = Georeference((0.01, 0.0, 179.0, 0.0, -0.01, 66.0), pyproj.CRS.from_user_input(crs).to_wkt())
        shape = (200, 200)
    else:
        place = Georeference((1000.0, 0.0, 300_000.0, 0.0, -1000.0, 7_330_000.0), pyproj.CRS.from_user_input(crs).to_wkt())
        shape = (250, 200)
    found = area_on(read_area("179.5,65,-179.7,65.5"), place, shape, "scene.tif").mask(Window.of(shape))
    rows, cols = (part.ravel() + 0.5 for part in np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij"))
    lon, lat = place.lonlat(rows, cols).T
    near = np.minimum(np.abs(lat - 65), np.abs(lat - 65.5)) < 0.004
    wanted = ((lon % 360 > 179.5) & (lon % 360 < 180.3) & (lat > 65) & (lat < 65.5)).reshape(shape)
    assert wanted.sum() > 300
    assert (found == wanted).ravel()[~near & (np.abs(lon % 360 - 179.5) > 0.011) & (np.abs(lon % 360 - 180.3) > 0.011)].all()


def test_it_travels_to_workers_and_its_digest_is_of_its_geometry(tmp_path: Path) -> None:
    shapes = [star(1, 30, 430_600, 8_929_500, 500), star(2, 30, 430_900, 8_929_400, 300)]
    area = area_of(shapes)
    again = pickle.loads(pickle.dumps(area))
    assert again.digest == area.digest
    assert np.array_equal(again.mask(Window.of(SHAPE)), area.mask(Window.of(SHAPE)))
    assert area_of(shapes[::-1]).digest == area.digest
    assert area_of(shapes[:1]).digest != area.digest
    for name, driver in (("a.gpkg", "GPKG"), ("other.fgb", "FlatGeobuf")):
        pyogrio.raw.write(tmp_path / name, shapely.to_wkb(shapes), [], [], crs=UTM, driver=driver, geometry_type="Unknown")
        assert area_on(read_area(str(tmp_path / name)), PLACE, SHAPE, "scene.tif").digest == area.digest


def test_many_vertices_are_burned_as_gdal_does() -> None:
    angle = np.linspace(0, 2 * np.pi, 300_001)[:-1]
    reach = 4000 + 500 * np.sin(angle * 2000)
    coast = shapely.Polygon(np.stack([435_000 + reach * np.cos(angle), 8_925_000 + reach * np.sin(angle)], axis=1))
    area = area_of([coast], shape=(1000, 1000))
    mask = area.mask(Window.of((1000, 1000)))
    assert np.array_equal(mask, burned([coast], shape=(1000, 1000)))


BAD = {
    "-60,-10,-61,-9": "W is larger than E, which means a box over the 180th meridian",
    "10,-10,20,-11": "is to be below the fourth",
    "10,-10,10,-9": "no width",
    "10,nan,20,1": "no finite number",
    "430000,8929000,431000,8930000": "no longitudes and latitudes; write a box in another CRS as EPSG:32720:xmin",
    "EPSG:99999999:1,2,3,4": "its CRS can't be used",
    "EPSG:32720:5,2,3,4": "xmin,ymin,xmax,ymax",
    "POLYGON((1 2, 3 4": "no valid WKT",
    "POINT(1 2)": "is a Point; an area of interest is made of polygons",
    "POLYGON EMPTY": "no polygons",
    "POLYGON((0 0, 0 nan, 1 1, 0 0))": "no finite number",
    "POLYGON((430000 8929000, 430000 8930000, 431000 8930000, 430000 8929000))": "say its CRS: SRID=",
    "SRID=99999999;POLYGON((0 0, 0 1, 1 1, 0 0))": "its CRS can't be used",
    " ": "is empty",
}


@pytest.mark.parametrize("text", list(BAD))
def test_what_is_no_area_is_told_in_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*$") as told:
        check_area(text)
    assert BAD[text] in str(told.value)


def written(path: Path, shapes: list[Any], names: list[Any] | None = None, crs: str | None = UTM) -> str:
    columns = ([np.array(names, object)], ["name"]) if names is not None else ([], [])
    pyogrio.raw.write(
        path, shapely.to_wkb(np.array(shapes, object)), *columns, crs=crs, driver="GPKG", geometry_type="Unknown", layer="areas"
    )
    return str(path)


def test_files_that_hold_no_area_are_told_in_a_sentence(tmp_path: Path) -> None:
    box = shapely.box(430_100, 8_929_300, 430_900, 8_929_900)
    line = written(tmp_path / "line.gpkg", [box, shapely.LineString([(0, 0), (1, 1)])])
    with pytest.raises(ConfigError, match="feature 2 is a LineString; an area of interest is made of polygons"):
        read_area(line)
    with pytest.raises(ConfigError, match="holds no polygons"):
        read_area(written(tmp_path / "empty.gpkg", []))
    with pytest.raises(ConfigError, match="no such file"):
        read_area(str(tmp_path / "gone.gpkg"))
    bare = written(tmp_path / "bare.gpkg", [box], crs=None)
    with pytest.raises(ConfigError, match=r"no CRS.*assume_crs"):
        area_on(read_area(bare), PLACE, SHAPE, "scene.tif")
    assert area_on(read_area(bare, UTM), PLACE, SHAPE, "scene.tif").pixels == 80 * 60
    pixels = Georeference(PLACE.transform, None)
    assert area_on(read_area(bare), pixels, SHAPE, "scene.tif").pixels == 80 * 60
    with pytest.raises(GeoreferenceError, match="no place on Earth"):
        area_on(read_area("-63,-10,-62,-9"), pixels, SHAPE, "scene.tif")
    with pytest.raises(OutsideAreaError, match=r"area of interest 10,20,30,40 does not touch scene scene\.tif"):
        area_on(read_area("10,20,30,40"), PLACE, SHAPE, "scene.tif")
    with pytest.raises(OutsideAreaError, match="the centre of no pixel"):
        area_of([shapely.box(430_001, 8_929_301, 430_003, 8_929_303)])


def test_features_are_taken_by_a_column(tmp_path: Path) -> None:
    boxes = [shapely.box(430_000 + 100 * k, 8_929_300, 430_100 + 100 * k, 8_929_900) for k in range(3)]
    path = written(tmp_path / "areas.gpkg", boxes, ["north", "south", "east/west"])
    assert list(areas_by_value(path, "name")) == ["north", "south", "east/west"]
    south = area_on(read_area(path, None, "name", "south"), PLACE, SHAPE, "scene.tif")
    assert south.window == Window.between(10, 70, 10, 20)
    with pytest.raises(ConfigError, match="name = south stands at several features"):
        areas_by_value(written(tmp_path / "twice.gpkg", boxes, ["south", "south", "x"]), "name")
    with pytest.raises(ConfigError, match="feature 2 has no name"):
        areas_by_value(written(tmp_path / "none.gpkg", boxes, ["a", None, "b"]), "name")
    with pytest.raises(ConfigError, match="no column 'nom'; it has name"):
        areas_by_value(path, "nom")
    with pytest.raises(ConfigError, match="a box or WKT has no columns"):
        areas_by_value("1,2,3,4", "name")


def test_texts_stand_for_files_boxes_or_wkt() -> None:
    assert file_of_area("POLYGON (1).shp") == Path("POLYGON (1).shp")
    assert file_of_area("polygons/area.gpkg|layername=a") == Path("polygons/area.gpkg")
    assert file_of_area("-60,-10,-59,-9") is None
    assert file_of_area("EPSG:32720:1,2,3,4") is None
    assert file_of_area("srid=32720;Polygon((0 0, 0 1, 1 1, 0 0))") is None
    box = area_on(read_area("EPSG:32720:430100,8929300,430900,8929900"), PLACE, SHAPE, "s")
    wkt = "SRID=32720;POLYGON((430100 8929300, 430900 8929300, 430900 8929900, 430100 8929900, 430100 8929300))"
    assert area_on(read_area(wkt), PLACE, SHAPE, "s").digest == box.digest
