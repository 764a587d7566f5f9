"""Texts of strangers in XML, HTML and tables; CRSs and numbers as users write them."""

from __future__ import annotations

import csv
import io
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pyproj
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from support import WriteRaster, call_cli

from geoseg.crs import check_crs, opens_files
from geoseg.errors import ConfigError, GeoreferenceError
from geoseg.evaluation.pictures import confusion_svg
from geoseg.formats.shades import shades_raster_qml
from geoseg.formats.styles import ClassStyle, category_names, raster_qml, vector_qml
from geoseg.formats.text import csv_line, html_text, write_table
from geoseg.models.card_values import ModelClass
from geoseg.scenes.opening import open_scene
from geoseg.scenes.scene import OpenOptions
from pipeline.config.sections import Config
from pipeline.config.units import parse_area, parse_bytes, parse_distance, parse_seconds
from pipeline.publish.report import SceneReport
from pipeline.segment.bars import bars
from pipeline.segment.progress import PlainProgress
from pipeline.train.recipe_data import ClassRecipe

WILD = (
    '"/><script>alert(1)</script>',
    "<b>&amp;",
    "nul\0\x01\x0b\x1f",
    "\x7f\x85",
    "\ufffe\uffff",
    "half\ud800",
    "]]>",
    "<!ENTITY x SYSTEM 'file:///etc/passwd'>",
    "line\nbreak",
    "\u202eright",
    "$\\frac{",
    "'\"",
    "&#0;",
    "%n{{7*7}}",
)


@pytest.mark.parametrize("name", WILD)
def test_names_of_classes_are_text_in_xml(name: str) -> None:
    styles = [ClassStyle(0, name, "#112233")]
    expected = "".join(letter if letter.isprintable() else " " for letter in name)
    for document, read in (
        (raster_qml(styles), lambda root: root.find(".//paletteEntry").get("label")),
        (vector_qml(styles), lambda root: root.find(".//category").get("label")),
        (category_names(styles), lambda root: root.find(".//Category").text),
        (shades_raster_qml(1.0, name), lambda root: root.find(".//item").get("label").removeprefix("0 ")),
        (confusion_svg([[1, 0], [0, 1]], [name, "b"]), lambda _: expected),
    ):
        text = document.encode().decode()
        assert read(ET.fromstring(text)) == expected, document
        assert "<script" not in text
        assert "<!ENTITY" not in text


@pytest.mark.parametrize("name", WILD)
def test_names_are_text_in_html(name: str) -> None:
    tags: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert [name for name, _ in attrs] == ["title"]
            tags.append(tag)

    Reader().feed(f'<p title="{html_text(name)}">{html_text(name)}</p>')
    assert tags == ["p"]
    html_text(name).encode()


FORMULAS = (
    "=cmd|'/C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    '"=1',
    "'=1",
    "\uff1d1",
    "=1;2",
    '=HYPERLINK("http://x")',
)


@pytest.mark.parametrize("text", FORMULAS)
def test_cells_are_no_formulas(text: str) -> None:
    (row,) = csv.reader(io.StringIO(csv_line([text, 1])))
    assert row[0].startswith("'")
    assert row[1] == "1"
    assert "\n" not in csv_line([text])[:-1]


def test_numbers_and_plain_texts_stay(tmp_path: Path) -> None:
    cells = [
        1,
        -1,
        2.5,
        -1e-9,
        float("nan"),
        "-0.25",
        "+3",
        "1e-5",
        "plain",
        "a,b",
        'the "one"',
        "a;b",
        "",
        None,
        True,
        "-",
        "not-analysed",
    ]
    write_table(tmp_path / "t.csv", ["n"] * len(cells), [cells])
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        _, row = csv.reader(file)
    assert row == [
        "1",
        "-1",
        "2.5",
        "-1e-09",
        "nan",
        "-0.25",
        "+3",
        "1e-5",
        "plain",
        "a,b",
        'the "one"',
        "a;b",
        "",
        "",
        "True",
        "'-",
        "not-analysed",
    ]


@given(st.lists(st.text(max_size=30) | st.integers() | st.floats(allow_nan=False), min_size=1, max_size=4))
def test_any_row_is_one_row(cells: list[object]) -> None:
    rows = list(csv.reader(io.StringIO(csv_line(cells).encode("utf-8").decode(), newline="")))
    assert len(rows) == 1
    assert len(rows[0]) == len(cells)
    for cell, text in zip(cells, rows[0], strict=True):
        assert text == str(cell) if not isinstance(cell, str) else text[:1] not in ("=", "@", "\t", "\r")


@pytest.mark.parametrize("name", ["a\nb", "nul\0", "\x1b[31m", "\u202ex", "\ud800"])
def test_cards_and_recipes_refuse_names_that_steer(name: str) -> None:
    for kind, facts in ((ModelClass, {"value": 0}), (ClassRecipe, {})):
        with pytest.raises(ValidationError, match=r"control characters|valid string"):
            kind(name=name, color="#112233", **facts)
    assert ModelClass(value=0, name='<b> & "é" 東京', color="#112233", description="two\nlines").name == '<b> & "é" 東京'


UTM = pyproj.CRS(32721)
GOOD_CRS = (
    "EPSG:32721",
    "epsg:4326",
    " ESRI:102033 ",
    "OGC:CRS84",
    "EPSG:32721+5773",
    "IAU_2015:30100",
    "urn:ogc:def:crs:EPSG::32721",
    "+proj=utm +zone=21 +south",
    "+proj=merc +a=6378137 +b=6378137 +nadgrids=@null +no_defs",
    "+proj=laea +lat_0=-10.5 +lon_0=-55 +towgs84=1,2,3",
    UTM.to_wkt(),
    UTM.to_wkt("WKT1_GDAL"),
    UTM.to_wkt("WKT1_ESRI"),
    UTM.to_json(),
)
BAD_CRS = (
    "http://127.0.0.1:9/x.prj",
    "https://spatialreference.org/ref/epsg/4326/",
    "file.prj",
    "/etc/passwd",
    "ESRI::/etc/passwd",
    "file:///etc/x",
    "/vsicurl/http://127.0.0.1:9/x",
    "http://www.opengis.net/def/crs/EPSG/0/4326",
    "+init=epsg:4326",
    "+proj=utm +zone=21 +nadgrids=@/etc/passwd",
    "+proj=utm +nadgrids=ntf.gsb",
    "+proj=longlat +geoidgrids=/x",
    "+proj=pipeline +step +proj=vgridshift +grids=/etc/passwd",
    "+proj=defmodel +model=/etc/x",
    "+proj=tinshift +file=/etc/x",
    "proj=utm init=x",
    "",
    "   ",
    "WGS 84",
    "[",
    "{",
    "{}",
    "32721",
    "EPSG:",
    ":4326",
    "EPSG:4326\0",
    "../EPSG:4326",
    'PROJCS["x",EXTENSION["PROJ4","+proj=merc +nadgrids=/etc/x"]]',
    'BOUNDCRS[SOURCECRS[],PARAMETERFILE["Latitude and longitude difference file","/etc/x"]]',
    'BOUNDCRS[SOURCECRS[],EXTENSION["PROJ4_GRIDS","a.gsb"]]',
    '{"type":"BoundCRS","transformation":{"parameters":[{"value":"\\u002fetc/x"}]}}',
    "+proj=" + "x" * 70_000,
    "{" * 10_000,
)


@pytest.mark.parametrize("text", GOOD_CRS)
def test_crs_by_themselves(text: str) -> None:
    assert pyproj.CRS.from_user_input(check_crs(text)) is not None
    assert opens_files(text) is None
    assert Config.parse({"scene": {"target_crs": text}}).scene.target_crs == text.strip()


@pytest.mark.parametrize("text", BAD_CRS)
def test_crs_open_nothing(text: str) -> None:
    with pytest.raises(ValueError, match="write a code such as"):
        check_crs(text)
    for key in ("target_crs", "assume_crs"):
        with pytest.raises(ConfigError, match=key):
            Config.parse({"scene": {key: text}})


@pytest.mark.parametrize("name", ["/etc/x.gsb", "@/etc/x.gsb", "..\\x", "http://h/x", "../x.gsb"])
def test_grids_of_files_by_their_path_are_not_opened(name: str) -> None:
    assert opens_files(f'BOUNDCRS[SOURCECRS[],EXTENSION["PROJ4_GRIDS","{name}"]]')
    assert opens_files('BOUNDCRS[SOURCECRS[],EXTENSION["PROJ4_GRIDS","ntf_r93.gsb"]]') is None


@pytest.mark.parametrize(
    "text",
    [
        "nan,inf",
        "inf,nan",
        "0,inf",
        "-inf,1",
        "nan,nan",
        "0,nan",
        "1,1",
        "2,1",
        "1e400,2e400",
        "0,1,2",
        "0",
        ",",
        "a,b",
        "0,1e999",
    ],
)
def test_what_is_no_rescale(text: str) -> None:
    with pytest.raises(ConfigError, match="rescale"):
        Config.parse({"scene": {"rescale": text}})


FLOATS = [
    (section, key)
    for section, part in Config()
    for key, field in type(part).model_fields.items()
    if "float" in str(field.annotation) and "tuple" not in str(field.annotation)
]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", float("nan"), float("inf"), "1e999"])
@pytest.mark.parametrize(("section", "key"), FLOATS)
def test_settings_are_finite(section: str, key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key):
        Config.parse({section: {key: value}})


def test_amounts_are_finite() -> None:
    assert len(FLOATS) >= 5
    huge = "9" * 400
    for parse, unit in ((parse_area, "ha"), (parse_distance, "m"), (parse_bytes, "GB"), (parse_seconds, "d")):
        with pytest.raises(ValueError, match="too large"):
            parse(huge + unit)
    with pytest.raises(ConfigError, match=r"stac\.bbox"):
        Config.parse({"stac": {"bbox": [0, 0, float("nan"), 1]}})


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    "command",
    [
        ("damage", "--cell"),
        ("screen", "--at-least"),
        ("calibrate", "--holdout"),
        ("match", "--iou"),
        ("sample", "--target-se"),
        ("sample", "--buffer"),
        ("chips", "--labelled"),
        ("train-damage", "--undamaged"),
    ],
)
def test_options_are_finite(command: tuple[str, str], value: str) -> None:
    done = call_cli([command[0], f"{command[1]}={value}"])
    assert done.returncode == 2
    assert "is not a finite number" in done.stderr or "is not in the range" in done.stderr


def test_progress_prints_names_to_the_letter(capsys: pytest.CaptureFixture[str]) -> None:
    for progress in (bars(), PlainProgress()):
        progress.scene(SceneReport(scene="a[/]b [red]x", status="failed", reason="c[/d] https://u:SECRET@h/x?SECRET \x1b[31m"))
        progress.close()
        said = capsys.readouterr().err.replace("\n", "")
        assert "a[/]b [red]x" in said
        assert "c[/d] https://h/x \\x1b[31m" in said


def test_a_raster_whose_crs_names_a_file_is_refused(write_raster: WriteRaster) -> None:
    path = write_raster(np.ones((70, 80), np.uint8), "a.tif", crs=None)
    bound = (
        'BOUNDCRS[SOURCECRS[GEOGCRS["x",DATUM["x",ELLIPSOID["x",6378137,298.257]],CS[ellipsoidal,2],AXIS["lat",north],AXIS["lon",east],'
        'ANGLEUNIT["degree",0.0174532925199433]]],TARGETCRS[GEOGCRS["WGS 84",DATUM["World Geodetic System 1984",ELLIPSOID["WGS '
        '84",6378137,'
        '298.257223563]],CS[ellipsoidal,2],AXIS["lat",north],AXIS["lon",east],ANGLEUNIT["degree",0.0174532925199433]]],'
        'ABRIDGEDTRANSFORMATION["x",METHOD["NTv2",ID["EPSG",9615]],PARAMETERFILE["Latitude and longitude difference '
        'file","/etc/hostname"]]]'
    )
    Path(f"{path}.aux.xml").write_text(f"<PAMDataset><SRS>{html_text(bound)}</SRS></PAMDataset>")
    with pytest.raises(GeoreferenceError, match="names the file /etc/hostname"):
        open_scene([str(path)], "a", OpenOptions())
