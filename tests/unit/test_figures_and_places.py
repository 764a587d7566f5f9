"""Digits that follow the pixels, areas of any CRS, and lists in options."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from pyproj.crs import DerivedGeographicCRS
from pyproj.crs.coordinate_operation import PoleRotationNetCDFCFConversion
from rasterio.transform import from_origin

from geoseg.digits import count_text, degree_decimals, figures
from geoseg.errors import ConfigError, GeoreferenceError
from geoseg.georeference import Georeference
from geoseg.scenes.scene import OpenOptions
from geoseg.windows import Window
from pipeline.cli.lists import Assignments, split_list, split_pair
from pipeline.cli.options import config_from, names_of
from pipeline.files.areas import pixel_areas
from pipeline.files.class_rasters import open_class_raster
from tests.support import call_cli

# Digits.

PLACES = {
    "UTM": ("EPSG:32633", (500_000.0, 5_400_000.0), 1.0),
    "UTM, turned": ("EPSG:32633", (500_000.0, 5_400_000.0), 1.0),
    "Web Mercator at 69 degrees": ("EPSG:3857", (1_700_000.0, 10_900_000.0), 1 / math.cos(math.radians(69.4))),
    "degrees": ("EPSG:4326", (-63.123456789, -9.87654321), 1 / 111_320),
    "US feet": ("EPSG:2263", (980_000.0, 200_000.0), 1 / 0.3048006096),
}
SIZES = (1.0, 0.1, 0.05, 0.02, 0.01, 0.005, 0.001)


@pytest.mark.parametrize("place", PLACES)
def test_rings_of_any_pixels_are_valid_distinct_and_as_exact_as_the_pixels(place: str, tmp_path: Path) -> None:
    crs, (x, y), unit = PLACES[place]
    rng = np.random.default_rng(3)
    codes = (rng.random((24, 24)) < 0.35).astype(np.uint8)
    for size in SIZES:
        transform = from_origin(x, y, size * unit, size * unit)
        if "turned" in place:
            transform = transform @ rasterio.Affine.rotation(31)
        with rasterio.open(
            tmp_path / "m.tif", "w", driver="GTiff", height=24, width=24, count=1, dtype="uint8", crs=crs, transform=transform
        ) as file:
            file.write(codes, 1)
        outs = [arg for ending in ("geojson", "gpkg") for arg in ("--out", tmp_path / f"m.{ending}")]
        done = call_cli(["vectorize", tmp_path / "m.tif", *outs, "--classes", "1", "--overwrite"])
        assert done.returncode == 0, done.stderr
        lonlat, exact = geopandas.read_file(tmp_path / "m.geojson"), geopandas.read_file(tmp_path / "m.gpkg", layer="polygons")
        assert lonlat.is_valid.all()
        # The other way round, as an independent library does it.
        back = lonlat.to_crs(crs)
        pixel = size * unit
        assert np.array_equal(lonlat["id"], exact["id"])
        assert (shapely.hausdorff_distance(back.geometry, exact.geometry) < 0.06 * pixel).all()
        assert (shapely.area(back.geometry) > 0.75 * pixel**2).all()
        # Around the middle, where a map that keeps areas is exact to the last digit of its coordinates.
        assert exact["area_m2"].to_numpy() == pytest.approx(
            exact.to_crs(equal_area(crs, (x, y))).area.to_numpy(), rel=1e-5 if size > 0.001 else 5e-5
        )
        assert (exact["perimeter_m"] > 3.5 * size).all()


def equal_area(crs: str, xy: tuple[float, float]) -> str:
    base = pyproj.CRS(crs).geodetic_crs
    assert base is not None
    lon, lat = pyproj.Transformer.from_crs(crs, base, always_xy=True).transform(*xy)
    return f"+proj=laea +lat_0={lat:.9f} +lon_0={lon:.9f} +datum={'NAD83' if base.name == 'NAD83' else 'WGS84'}"


def test_large_numbers_keep_their_decimals_and_small_ones_their_digits() -> None:
    given = [123_456.789, 25.123456, 0.000123456789, 0.0, -0.0123456789, math.nan, math.inf]
    assert np.array_equal(
        figures(given, 2), [123_456.79, 25.1235, 0.000123457, 0.0, -0.0123457, math.nan, math.inf], equal_nan=True
    )
    assert [degree_decimals(size) for size in (None, 10, 0.25, 0.1, 0.01, 0.001, 0.0)] == [7, 7, 7, 8, 9, 10, 7]


# Areas.

AFFINE = (
    'DERIVINGCONVERSION["Affine",METHOD["Affine parametric transformation",ID["EPSG",9624]],'
    'PARAMETER["A0",-400000,LENGTHUNIT["metre",1],ID["EPSG",8623]],PARAMETER["A1",1.004,SCALEUNIT["coefficient",1],ID["EPSG",8624]],'
    'PARAMETER["A2",0,SCALEUNIT["coefficient",1],ID["EPSG",8625]],PARAMETER["B0",-5000000,LENGTHUNIT["metre",1],ID["EPSG",8639]],'
    'PARAMETER["B1",0,SCALEUNIT["coefficient",1],ID["EPSG",8640]],PARAMETER["B2",1.004,SCALEUNIT["coefficient",1],ID["EPSG",8641]]]'
)
ROTATED = DerivedGeographicCRS(pyproj.CRS("EPSG:4326"), PoleRotationNetCDFCFConversion(39.25, -162, 0))
TOWGS84 = "+ellps=bessel +towgs84=600,100,400,0,0,0,0"


def derived_projected() -> pyproj.CRS:
    document = pyproj.CRS("EPSG:32633").to_wkt()
    conversion = document.index(",CS[Cartesian")
    base = "BASEPROJCRS[" + document[len("PROJCRS[") : conversion] + "]"
    axes = 'CS[Cartesian,2],AXIS["(E)",east,ORDER[1],LENGTHUNIT["metre",1]],AXIS["(N)",north,ORDER[2],LENGTHUNIT["metre",1]]'
    return pyproj.CRS(f'DERIVEDPROJCRS["site",{base},{AFFINE},{axes}]')


def metres(x: float, y: float) -> tuple[float, ...]:
    return (10.0, 0.0, x, 0.0, -10.0, y)


def degrees(x: float, y: float, size: float = 5e-4) -> tuple[float, ...]:
    return (size, 0.0, x, 0.0, -size, y)


SYSTEMS: dict[str, tuple[pyproj.CRS, tuple[float, ...]]] = {
    "rotated pole": (ROTATED, degrees(5, 20)),
    "rotated pole, large pixels": (ROTATED, degrees(5, 20, 0.05)),
    "rotated pole by PROJ": (
        pyproj.CRS(
            "+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=39.25 +lon_0=18 +to_meter=0.0174532925199433 +ellps=WGS84 "
            "+type=crs"
        ),
        degrees(1, 2),
    ),
    "derived projected": (derived_projected(), metres(100_000, 400_000)),
    "bound projected": (pyproj.CRS(f"+proj=utm +zone=33 {TOWGS84} +type=crs"), metres(500_000, 5_400_000)),
    "bound geographic": (pyproj.CRS(f"+proj=longlat {TOWGS84} +type=crs"), degrees(10, 50)),
    "bound with heights": (pyproj.CRS(f"+proj=utm +zone=33 {TOWGS84} +vunits=m +type=crs"), metres(500_000, 5_400_000)),
    "compound projected": (pyproj.CRS("EPSG:32633+5773"), metres(500_000, 5_400_000)),
    "compound geographic": (pyproj.CRS("EPSG:4326+5773"), degrees(10, 50)),
    "geographic with heights": (pyproj.CRS("EPSG:4979"), degrees(10, 50)),
    "projected from grads, Paris": (pyproj.CRS("EPSG:27572"), metres(600_000, 2_400_000)),
    "grads, Paris": (pyproj.CRS("EPSG:4807"), degrees(1, 52)),
    "the Moon": (pyproj.CRS("+proj=longlat +a=1737400 +b=1737400 +no_defs +type=crs"), degrees(1, 52)),
    "US feet": (pyproj.CRS("EPSG:2263"), metres(980_000, 200_000)),
}


def base_of(crs: pyproj.CRS) -> pyproj.CRS:
    while True:
        inner = crs.sub_crs_list[0] if crs.sub_crs_list else crs.source_crs if crs.is_bound or crs.is_derived else None
        if inner is None:
            return crs
        crs = inner


@pytest.mark.parametrize("name", SYSTEMS)
def test_areas_are_geodesic_on_the_base_of_a_crs(name: str) -> None:
    crs, transform = SYSTEMS[name]
    height, width, count = 200, 300, 500
    t = np.linspace(0, 1, count, endpoint=False)
    cols = np.concatenate([t * width, np.full(count, width), (1 - t) * width, np.zeros(count)])
    rows = np.concatenate([np.zeros(count), t * height, np.full(count, height), (1 - t) * height])
    a, b, c, d, e, f = transform
    base = base_of(crs)
    assert base.is_geographic
    assert base.ellipsoid is not None
    lon, lat = pyproj.Transformer.from_crs(crs, base, always_xy=True).transform(a * cols + b * rows + c, d * cols + e * rows + f)
    unit = math.degrees(base.axis_info[0].unit_conversion_factor)
    geod = pyproj.Geod(a=base.ellipsoid.semi_major_metre, b=base.ellipsoid.semi_minor_metre)
    wanted = abs(geod.polygon_area_perimeter(np.array(lon) * unit, np.array(lat) * unit)[0])
    place = Georeference(tuple(transform), crs.to_wkt())  # type: ignore[arg-type]
    assert pixel_areas(place, Window.of((height, width))).sum() == pytest.approx(wanted, rel=5e-6)
    metric = place.metric(Window.of((height, width)))
    assert metric is not None
    assert float(metric.area.mean()) * height * width == pytest.approx(wanted, rel=5e-3)


ENGINEERING = 'ENGCRS["site",EDATUM["d"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["foot",0.3048]]'


def raster(path: Path, crs: str, code: int = 1) -> Path:
    with rasterio.open(
        path, "w", driver="GTiff", height=8, width=8, count=1, dtype="uint8", crs=crs, transform=from_origin(500, 900, 10, 10)
    ) as file:
        file.write(np.full((8, 8), code, np.uint8), 1)
    return path


def test_geocentric_metres_are_no_map(tmp_path: Path) -> None:
    with pytest.raises(
        GeoreferenceError, match=r"its CRS WGS 84 \(Geocentric CRS\) counts metres X, Y, Z from the middle of the Earth"
    ):
        open_class_raster(str(raster(tmp_path / "m.tif", "EPSG:4978")), OpenOptions())
    done = call_cli(["vectorize", raster(tmp_path / "m.tif", "EPSG:4978"), "--out", tmp_path / "m.gpkg"])
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "m.gpkg").exists()
    bare = tmp_path / "bare.tif"
    with rasterio.open(
        bare, "w", driver="GTiff", height=8, width=8, count=1, dtype="uint8", transform=from_origin(500, 900, 10, 10)
    ) as file:
        file.write(np.ones((8, 8), np.uint8), 1)
    for assumed, what in (("EPSG:4978", "Geocentric"), ("EPSG:5773", "heights alone")):
        with pytest.raises(GeoreferenceError, match=what):
            open_class_raster(str(bare), OpenOptions(assume_crs=assumed))


def test_a_map_of_its_own_is_flat_in_its_unit(tmp_path: Path) -> None:
    found, _ = open_class_raster(str(raster(tmp_path / "m.tif", ENGINEERING)), OpenOptions())
    assert pixel_areas(found.georeference, Window.of((8, 8))).sum() == pytest.approx(6400 * 0.3048**2)
    done = call_cli(["vectorize", tmp_path / "m.tif", "--out", tmp_path / "m.geojson"])
    assert done.returncode == 1
    assert "GeoJSON needs longitudes and latitudes" in done.stderr


# Lists.


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("a,b", ["a", "b"]),
        (" a , b ,", ["a", "b"]),
        ('"a,b",c', ["a,b", "c"]),
        ('c, "a, b"', ["c", "a, b"]),
        ('"say ""hi""",x', ['say "hi"', "x"]),
        ('5",6"', ['5"', '6"']),
        ('"a=b"', ["a=b"]),
        ("", []),
        ('""', []),
        ("C:\\maps\\a.tif,b", ["C:\\maps\\a.tif", "b"]),
        ("O'Brien,x", ["O'Brien", "x"]),
    ],
)
def test_quotes_keep_commas_in_entries(text: str, entries: list[str]) -> None:
    assert split_list(text) == entries


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("a=b", ("a", "b"), ("a", "b")),
        ("a=b=c", ("a", "b=c"), ("a=b", "c")),
        ('"a=b"=c', ("a=b", "c"), ("a=b", "c")),
        ('a="b=c"', ("a", "b=c"), ("a", "b=c")),
        ('"x ""y"""=z', ('x "y"', "z"), ('x "y"', "z")),
        ("a", None, None),
    ],
)
def test_quotes_keep_equals_signs_in_sides(text: str, first: Any, last: Any) -> None:
    assert split_pair(text, "--x") == first
    assert split_pair(text, "--x", last=True) == last
    option = Assignments("--x", "A=B", "a=b")
    listed = f'{text}, ,"p,q"=1'
    if first is None:
        with pytest.raises(ConfigError, match=r"^--x: 'a' is not A=B; write for example a=b$"):
            option.parsed(listed, str, str)
    else:
        assert option.parsed(listed, str, str) == dict([first, ("p,q", "1")])
        with pytest.raises(ConfigError, match="is not A=B"):
            option.parsed(listed, str, int)


def test_an_open_quote_is_told() -> None:
    for text in ('"a,b', 'a,"b', '"a""'):
        with pytest.raises(ConfigError, match="--classes: a quote is not closed"):
            split_list(text, "--classes")


def test_list_options_take_quotes_and_their_help_says_so(tmp_path: Path) -> None:
    assert names_of('0="sand, gravel",1="a=b"') == {0: "sand, gravel", 1: "a=b"}
    assert config_from({"vector__classes": '"sand, gravel",water'}).vector.classes == ("sand, gravel", "water")
    codes = raster(tmp_path / "m.tif", "EPSG:32633")
    out = tmp_path / "m.gpkg"
    done = call_cli(["vectorize", codes, "--out", out, "--names", '0=other,1="sand, gravel"', "--classes", '"sand, gravel"'])
    assert done.returncode == 0, done.stderr
    assert geopandas.read_file(out, layer="polygons")["class"].tolist() == ["sand, gravel"]
    for command in ("segment", "vectorize", "match", "evaluate", "screen", "sample", "chips", "deliver", "area"):
        text = " ".join(call_cli([command, "--help"]).stdout.split())
        assert "Put an entry that holds a comma in quotes" in text or "Put a side that holds an equals sign in quotes" in text


def test_counts_are_told_in_millions_where_that_says_something() -> None:
    assert [count_text(count) for count in (0, 117, 49_999, 50_000, 3_453_426)] == ["0", "117", "49,999", "0.1 M", "3.5 M"]
