"""Map sheets: lengths, north, the same bytes, one page."""

from __future__ import annotations

import itertools
import math
import re
import sys
import time

import numpy as np
import pyarrow as pa
import pyproj
import pytest
import shapely
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.ft2font import FT2Font

from geoseg.errors import ConfigError, GeoreferenceError
from geoseg.formats.sheet.band import BAND_MM, band
from geoseg.formats.sheet.content import LegendEntry, Outline, Picture, Sheet
from geoseg.formats.sheet.crs_grid import draw_crs_grid
from geoseg.formats.sheet.fonts import families
from geoseg.formats.sheet.frame import MapFrame, degrees_text, graticule_values, length_text, round_denominator, round_length
from geoseg.formats.sheet.map import FRAME_MM, PAGE_MM
from geoseg.formats.sheet.page_text import Page
from geoseg.formats.sheet.panel import panel
from geoseg.formats.sheet.shapes import page_shapes
from geoseg.formats.sheet.write import scale_bar, write_sheet
from geoseg.georeference import Georeference

UTM = pyproj.CRS.from_epsg(32720).to_wkt()
LONLAT = pyproj.CRS.from_epsg(4326).to_wkt()
MERCATOR = pyproj.CRS.from_epsg(3857).to_wkt()


def turned(degrees: float, size: float, x: float, y: float, crs: str) -> Georeference:
    """A raster whose columns run ``degrees`` counter-clockwise of the x axis."""
    cos, sin = size * math.cos(math.radians(degrees)), size * math.sin(math.radians(degrees))
    return Georeference((cos, sin, x, sin, -cos, y), crs)


PLACES = {
    "utm": Georeference((10.0, 0, 430_000, 0, -10.0, 8_930_000), UTM),
    "utm turned": turned(40, 2.0, 430_000, 8_930_000, UTM),
    "south up": Georeference((10.0, 0, 430_000, 0, 10.0, 8_910_000), UTM),
    "degrees": Georeference((1e-4, 0, 25.0, 0, -1e-4, 60.0), LONLAT),
    "degrees turned": turned(-25, 1e-4, 25.0, 60.0, LONLAT),
    "mercator": Georeference((10.0, 0, 2_000_000, 0, -10.0, 9_000_000), MERCATOR),
    "antimeridian": Georeference((1e-4, 0, 179.97, 0, -1e-4, -17.0), LONLAT),
}
BOX = (0.0, 0.0, 600.0, 900.0)


@pytest.mark.parametrize("name", PLACES)
def test_the_scale_bar_is_as_long_on_the_ground(name):
    frame = MapFrame.fit(PLACES[name], BOX, FRAME_MM[2:])
    length, size_mm = scale_bar(frame)
    assert length in {d * 10**p for d in (1.0, 2.0, 5.0) for p in range(-2, 7)}
    assert 55 / 2.51 <= size_mm <= 55
    half = size_mm * frame.metres_per_mm / 2
    geod = pyproj.Geod(ellps="WGS84")
    for end in ((half, 0.0), (0.0, half)):
        (lon, lat), (lon_2, lat_2) = frame.lonlat(np.array([[-end[0], -end[1]], end]))
        assert geod.inv(lon, lat, lon_2, lat_2)[2] == pytest.approx(length, rel=2e-4)


@pytest.mark.parametrize("name", PLACES)
def test_north_is_north(name):
    frame = MapFrame.fit(PLACES[name], BOX, FRAME_MM[2:])
    angle = math.radians(frame.north)
    up = 100.0 * np.array([math.sin(angle), math.cos(angle)])
    (lon, lat), (lon_2, lat_2) = frame.lonlat(np.array([[0.0, 0.0], up]))
    bearing = pyproj.Geod(ellps="WGS84").inv(lon, lat, lon_2, lat_2)[0]
    assert abs(bearing) < 0.05
    east = pyproj.Geod(ellps="WGS84").inv(lon, lat, *frame.lonlat(np.array([[up[1], -up[0]]]))[0])[0]
    assert east == pytest.approx(90, abs=0.05), "no map is mirrored"


def test_the_arrow_turns_with_the_raster():
    straight = MapFrame.fit(PLACES["utm"], BOX, FRAME_MM[2:]).north
    assert MapFrame.fit(PLACES["utm turned"], BOX, FRAME_MM[2:]).north == pytest.approx(straight + 40, abs=0.05)


@pytest.mark.parametrize("name", PLACES)
def test_places_on_the_page_are_those_in_the_crs(name):
    frame = MapFrame.fit(PLACES[name], BOX, FRAME_MM[2:])
    page = np.array([[0.0, 0.0], [1000.0, -500.0], [-20.0, 77.0]])
    np.testing.assert_allclose(frame.from_crs(frame.to_crs(page)), page, atol=1e-4)
    wide, high = frame.half
    corners = frame.from_crs(PLACES[name].xy(np.array([0.0, 0, 600, 600]), np.array([0.0, 900, 0, 900])))
    assert (np.abs(corners) <= (wide, high)).all(), "all of the box is shown"


def test_numbers_read_well():
    assert [round_length(v) for v in (0.9, 1, 1.9, 2, 4.99, 5, 999, 1000)] == [0.5, 1, 1, 2, 2, 5, 500, 1000]
    assert [length_text(v) for v in (0.5, 20, 2000, 5e5)] == ["50 cm", "20 m", "2 km", "500 km"]
    assert degrees_text(-63.5, 0) == "63°30' W"
    assert degrees_text(181.0, 0) == "179° W"
    assert degrees_text(12 + 1 / 3600, 1) == "12°00'01\" N"
    assert degrees_text(0, 1) == "0°"
    values = graticule_values(-63.61, -63.47)
    assert len(values) >= 3
    np.testing.assert_allclose(values * 60, np.round(values * 60), atol=1e-9)


@pytest.mark.parametrize("name", [name for name, place in PLACES.items() if place.crs is not None])
def test_the_scale_is_round_and_the_box_fits(name):
    frame = MapFrame.fit(PLACES[name], BOX, FRAME_MM[2:])
    assert frame.denominator is not None
    digits = float(f"{frame.denominator:.12e}".split("e")[0])
    assert digits in {1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.5, 8.0}
    top, left, bottom, right = BOX
    page = frame.from_pixels(np.array([top, top, bottom, bottom]), np.array([left, right, left, right]))
    reach = np.abs(page).max(axis=0) / frame.half
    assert (reach <= 1 - 2 * 0.02 + 1e-9).all()
    # A third more at most, from 3 to 4: it could not be much larger.
    assert reach.max() > 0.96 * 0.74


def test_denominators_are_the_next_round_ones():
    pairs = {4_999: 5_000, 5_000: 5_000, 5_001: 6_000, 8_100: 10_000, 1.1: 1.25, 10_000: 10_000, 999_999.9: 1_000_000}
    assert {least: round_denominator(least) for least in pairs} == pairs


def test_the_grid_of_a_projected_crs_is_told_where_it_lies(tmp_path):
    """Ticks above and to the right have round coordinates, at the places where the CRS has them; degrees have no second grid."""
    place = PLACES["utm"]
    frame = MapFrame.fit(place, BOX, FRAME_MM[2:])
    figure = Figure(figsize=(PAGE_MM[0] / 25.4, PAGE_MM[1] / 25.4))
    page, axes = Page(figure, PAGE_MM), figure.add_axes((0, 0, 1, 1))
    assert draw_crs_grid(axes, page, frame, FRAME_MM[:2])
    left, bottom, width, height = FRAME_MM
    found = [(text.get_text(), text.get_position()) for text in page.axes.texts]
    above = {float(text.replace(" ", "")): x for text, (x, y) in found if y > bottom + height}
    beside = {float(text.replace(" ", "")): y for text, (x, y) in found if x > left + width}
    assert len(above) >= 3
    assert len(beside) >= 2
    for value, x in above.items():
        page_x = (x - left - width / 2) * frame.metres_per_mm
        assert frame.to_crs(np.array([[page_x, frame.half[1]]]))[0, 0] == pytest.approx(value, abs=frame.metres_per_mm * 0.1)
    for value, y in beside.items():
        page_y = (y - bottom - height / 2) * frame.metres_per_mm
        assert frame.to_crs(np.array([[frame.half[0], page_y]]))[0, 1] == pytest.approx(value, abs=frame.metres_per_mm * 0.1)
    degrees = MapFrame.fit(PLACES["antimeridian"], BOX, FRAME_MM[2:])
    assert draw_crs_grid(axes, page, degrees, FRAME_MM[:2]) == pyproj.CRS(PLACES["antimeridian"].crs).is_projected


@pytest.mark.parametrize("words", [1, 20, 400])
@pytest.mark.parametrize("count", [0, 1, 4, 30])
def test_the_band_under_the_map_holds_what_has_room_and_counts_the_rest(words, count):
    quality = tuple(f"Warning {i}: {'pixels ' * words}" for i in range(count))
    figure = Figure(figsize=(PAGE_MM[0] / 25.4, PAGE_MM[1] / 25.4))
    page = Page(figure, PAGE_MM)
    band(page, Sheet(title="x", produced="2024-05-31", quality=quality, sources=("After: post.tif",)))
    FigureCanvasAgg(figure).draw()
    mm = 25.4 / figure.dpi
    found = [(text.get_text(), text.get_window_extent()) for text in page.axes.texts]
    left, bottom, width, height = BAND_MM
    for text, box in found:
        assert left - 0.5 <= box.x0 * mm < box.x1 * mm <= left + width + 0.5, text
        assert bottom - 1 <= box.y0 * mm < box.y1 * mm <= bottom + height, text
    said = " ".join(text for text, _ in found)
    assert ("Warning 0" in said) == (count > 0)
    shown = sum(f"Warning {i}:" in said for i in range(count))
    rest = re.findall(r"and (\d+) more: see README.txt", said)
    assert shown + (int(rest[0]) if rest else 0) == count


def features(place: Georeference, count: int = 300) -> list[pa.RecordBatch]:
    rng = np.random.default_rng(3)
    xy = place.xy(rng.random(count) * 600, rng.random(count) * 900)
    size = abs(place.determinant) ** 0.5
    shapes = shapely.buffer(shapely.points(xy), rng.choice([0.3, 12.0], count) * size)
    codes = pa.array(rng.integers(1, 4, count).astype(np.int16))
    return [pa.RecordBatch.from_pydict({"code": codes, "geometry": pa.array(shapely.to_wkb(shapes).tolist(), pa.binary())})]


def test_what_is_small_or_too_much_becomes_dots():
    place = PLACES["utm"]
    frame = MapFrame.fit(place, BOX, FRAME_MM[2:])
    shapes, seen, dots = page_shapes(frame, features(place))
    assert seen == 300
    assert 100 < dots < 200
    assert {code for code, found in shapes.items() if found.rings} == {1, 2, 3}
    _, _, all_dots = page_shapes(frame, features(place), max_vertices=0)
    assert all_dots == 300
    many = [batch for _ in range(20) for batch in features(place)]
    repeated, _, _ = page_shapes(frame, many, max_vertices=0)
    once, _, _ = page_shapes(frame, features(place), max_vertices=0)
    assert {c: s.dots for c, s in repeated.items()} == {c: s.dots for c, s in once.items()}, "dots are bounded by the page"


SHEET = Sheet(
    title="Loss of $forest$ in a place with a very long name",
    subtitle="2013 to 2023",
    code="EMSR999",
    legend=tuple(
        LegendEntry(i, name, color, "12 ha")
        for i, (name, color) in enumerate([("a", "#112233"), ("b", "#aa2222"), ("c", "#22aa22")], 1)
    ),
    table=(("Class", "ha", "share"), ("a", "12", "3 %")),
    sources=("x.tif, 2013-01-01",),
    produced="2024-05-31",
    producer="test",
    disclaimer="Not checked on the ground. " * 60,
    licence="CC BY 4.0",
)


@pytest.mark.parametrize("name", ["utm turned", "antimeridian"])
def test_a_sheet_is_one_page_and_the_same_bytes_again(name, tmp_path):
    place = PLACES[name]
    a, b, c, d, e, f = place.transform
    picture = Picture(np.full((60, 90, 3), 90, np.uint8), Georeference((10 * a, 10 * b, c, 10 * d, 10 * e, f), place.crs))
    outline = [Outline("Area of interest", [shapely.Polygon(place.corners(600, 900))])]
    found = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        paths = [folder / "map.pdf", folder / "map.png"]
        report = write_sheet(paths, SHEET, place, BOX, batches=features(place), picture=picture, outlines=outline)
        found.append([path.read_bytes() for path in paths])
        time.sleep(1.1)
    assert found[0] == found[1]
    pdf, png = found[0]
    assert len(set(re.findall(rb"(\d+) 0 obj\s*<<\s*/Type\s*/Page\b(?!s)", pdf))) == 1
    assert b"D:20240531000000" in pdf
    assert b"DejaVuSans" in pdf, "fonts are embedded"
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert report.features == 300
    assert report.bar_m == scale_bar(MapFrame.fit(place, BOX, FRAME_MM[2:]))[0]


def boxes_of(sheet: Sheet, outlines: list[Outline], dots: int) -> dict[str, tuple[float, float, float, float]]:
    """Left, bottom, right and top in millimetres of all texts of the panel."""
    figure = Figure(figsize=(PAGE_MM[0] / 25.4, PAGE_MM[1] / 25.4))
    page = Page(figure, PAGE_MM)
    panel(page, sheet, MapFrame.fit(PLACES["utm"], BOX, FRAME_MM[2:]), outlines, features=5, dots=dots)
    FigureCanvasAgg(figure).draw()
    mm = 25.4 / figure.dpi
    found = [(text.get_text(), text.get_window_extent()) for text in page.axes.texts if text.get_text()]
    return {f"{i} {text}": (box.x0 * mm, box.y0 * mm, box.x1 * mm, box.y1 * mm) for i, (text, box) in enumerate(found)}


@pytest.mark.parametrize("classes", [0, 1, 5, 40])
@pytest.mark.parametrize("rows", [0, 6, 60])
@pytest.mark.parametrize("words", [1, 40])
def test_nothing_in_the_panel_overlaps_or_is_cut(classes, rows, words):
    table = (("In the area of interest", "number", "share"), *((f"class {i} {'x' * words}", "1,000", "3 %") for i in range(rows)))
    sheet = Sheet(
        title="Flood " * words,
        subtitle="2013 to 2023",
        code="EMSR999",
        produced="2024-05-31",
        producer="An agency " * words,
        legend=tuple(LegendEntry(i, f"class {i} {'y' * words}", "#112233", "12,345 ha") for i in range(classes)),
        table=table if rows else (),
        sources=("image " * words,) * 5,
        disclaimer="Not checked on the ground. " * words,
        licence="CC BY 4.0",
    )
    outlines = [Outline("Not analysed " * words, [], hatched=True, amount="34"), Outline("Area of interest", [])]
    found = boxes_of(sheet, outlines, dots=3)
    for text, (left, bottom, right, top) in found.items():
        assert 216 <= left < right <= 290 + 0.5, text
        assert 11 <= bottom < top <= 199, text
    shrink = 0.25
    for (text, a), (other, b) in itertools.combinations(found.items(), 2):
        apart = a[2] - shrink <= b[0] or b[2] - shrink <= a[0] or a[3] - shrink <= b[1] or b[3] - shrink <= a[1]
        assert apart, (text, other)


def test_the_panel_holds_all_classes_of_damage():
    names = ["no damage", "minor damage", "major damage", "destroyed"]
    sheet = Sheet(
        title="Tornado in Joplin, Missouri",
        subtitle="Damage to buildings, 2010-06-01 to 2011-06-09",
        code="EMSR999",
        legend=tuple(LegendEntry(i, name, "#112233", "12") for i, name in enumerate(names)),
        produced="2024-05-31",
        table=(("In the area of interest", "number", "share"), *((name, "12", "3 %") for name in [*names, "not analysed"])),
        sources=("Before: pre.tif", "After: post.tif", "Model: damage", "Background: post.tif"),
        disclaimer="Not checked. " * 20,
        licence="CC",
    )
    found = boxes_of(sheet, [Outline("Not analysed", [], hatched=True, amount="34"), Outline("Area of interest", [])], dots=0)
    said = [text.split(" ", 1)[1] for text in found]
    assert all(said.count(name) == 2 for name in names), "in the legend and in the table"
    assert "34" in said
    assert not [text for text in said if " more " in text]


def test_letters_that_the_font_lacks_are_taken_from_another_or_named(caplog):
    assert families(["Türkiye, Αθήνα, Україна, زلزال"]) == ["DejaVu Sans"]
    assert not caplog.records
    own = set(FT2Font(fontManager.findfont("DejaVu Sans")).get_charmap())
    (other,) = {
        font.fname for font in fontManager.ttflist if font.name == "STIXNonUnicode" and font.fname.endswith("STIXNonUni.ttf")
    }
    strange = chr(min(set(FT2Font(other).get_charmap()) - own))
    found = families([f"a{strange}"])
    assert len(found) == 2
    assert found[0] == "DejaVu Sans"
    assert not caplog.records
    # A code that Unicode leaves for no letter at all.
    assert families(["a\U000e0fff"]) == ["DejaVu Sans"]
    assert "no installed font has: 1" in caplog.text


def test_a_raster_without_crs_has_a_sheet_without_scale(tmp_path):
    place = Georeference((1.0, 0, 0, 0, -1.0, 0), None)
    report = write_sheet([tmp_path / "map.png"], SHEET, place, BOX, batches=features(place))
    assert (report.denominator, report.bar_m, report.north) == (None, None, None)


def test_what_can_not_be_drawn_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"\.pdf or a \.png"):
        write_sheet([tmp_path / "map.svg"], SHEET, PLACES["utm"], BOX)
    with pytest.raises(GeoreferenceError, match="empty"):
        write_sheet([tmp_path / "map.png"], SHEET, PLACES["utm"], (5.0, 5.0, 5.0, 9.0))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"geoseg\[sheets\]"):
        write_sheet([tmp_path / "map.png"], SHEET, PLACES["utm"], BOX)
