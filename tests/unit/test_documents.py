"""Documents from strangers: each is taken, or refused in one sentence; nothing recurses, hangs or overflows."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import WriteRaster, call_cli

from geoseg.documents import MAX_DEPTH, read_json, read_toml
from geoseg.errors import ConfigError, ModelError
from geoseg.models.model_folder import Model, load_model

JSON = {
    "not a number": (b'{"a": {"b": [1, NaN]}}', "a.b.1: nan is not a finite number"),
    "infinite": (b'{"a": -Infinity}', "a: -inf is not a finite number"),
    "infinite by its exponent": (b'{"a": 1e999}', "a: inf is not a finite number"),
    "lists too deep for Python": (b"[" * 200_000, "nested too deep"),
    "lists deeper than the limit": (b"[" * (MAX_DEPTH + 2) + b"]" * (MAX_DEPTH + 2), "nested too deep"),
    "objects too deep": (b'{"a":' * 5000 + b"1" + b"}" * 5000, "nested too deep"),
    "an integer that Python does not convert": (b'{"a": 1' + b"0" * 5000 + b"}", "an integer of thousands of digits"),
    "an integer of 333 bits": (b'{"a": 1' + b"0" * 100 + b"}", "a: an integer of 333 bits"),
    "a key twice": (b'{"a": 1, "b": 2, "a": 3}', "the key a is there twice"),
    "Latin-1": ('{"a": "é"}'.encode("latin-1"), "not UTF-8 text: .* at byte 7"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "not UTF-8 text"),
    "half a character": (b'{"a": ["\\ud800"]}', "a.0: text with half a character"),
    "half a character in a key": (b'{"a": {"\\ud800": 1}}', "a key of a: text with half a character"),
    "nothing": (b"", "not JSON"),
    "cut off": (b'{"a": ', "not JSON"),
    "zeros": (b"\0" * 64, "not JSON"),
    "a page": (b"<!DOCTYPE html><html>", "not JSON"),
}
TOML = {
    "not a number": (b"a = nan", "a: nan is not a finite number"),
    "infinite": (b"[a]\nb = [1.0, -inf]", r"a\.b\.1: -inf is not a finite number"),
    "lists too deep": (b"a = " + b"[" * 100_000, "nested too deep"),
    "tables too deep": (b"a = " + b"{a = " * 50_000, "nested too deep"),
    "a key of too many parts": (b"a." * 200_000 + b"b = 1", "nested too deep"),
    "a table of too many parts": (b"[" + b"a." * 10_000 + b"b]\nx = 1", "nested too deep"),
    "an integer that Python does not convert": (b"a = 1" + b"0" * 5000, "an integer of thousands of digits"),
    "an integer of 77 bits": (b"a = 99999999999999999999999", "a: an integer of 77 bits"),
    "a key twice": (b"a = 1\na = 2", "line 2: not TOML: a key is there twice; keep one"),
    "a table twice": (b"[a]\nb = 1\n[a]", "line 3: not TOML: a table is there twice"),
    "YAML": (b"# a recipe\n\nname: forest\nbands:\n  - red\n", "line 3: not TOML but YAML; write a key as key = value"),
    "YAML of several documents": (b"---\na: 1\n", "line 1: not TOML but YAML"),
    "JSON": (b'{\n  "a": 1\n}\n', "line 1: not TOML but JSON; write a key as key = value and an object as .table."),
    "a page": (b"<!DOCTYPE html><html>", "line 1: not TOML but XML"),
    "one line of YAML": (b"a = 1\nb: 2\n", "line 2: not TOML: a key has no value; write key = value"),
    "a word": (b"a = 1\nb = forest\n", "line 2: not TOML: no value; text stands in quotes"),
    "a large truth": (b"a = True", "line 1: not TOML: no value; .*true and false are small"),
    "a path of Windows": (b'a = "C:\\Users\\x"', "line 1: not TOML: a backslash in text; put the text into single quotes"),
    "an open text": (b'a = "x\nb = 1', "line 1: not TOML: a quote is not closed"),
    "an open list": (b"a = [1, 2\n", "line 1: not TOML: a bracket or a quote is not closed"),
    "two on a line": (b"a = 1, b = 2", "line 1: not TOML: something follows a value"),
    "no statement": (b"a = 1\n= 2", "line 2: not TOML: no statement"),
    "no day": (b"a = 2020-02-31", "line 1: not TOML: invalid date or datetime"),
    "Latin-1": (b'a = "\xe9"', "not UTF-8 text"),
    "UTF-16": ("a = 1".encode("utf-16"), "not UTF-8 text"),
    "too long": (b"#" * (1 << 20) + b"\na = 1", "has at most 1,048,576"),
}


@pytest.mark.parametrize("kind", JSON)
def test_json_that_is_refused(kind: str, tmp_path: Path) -> None:
    content, sentence = JSON[kind]
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ModelError, match=f"^{tmp_path}/a.json: .*{sentence}") as caught:
        read_json(tmp_path / "a.json", ModelError)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("kind", TOML)
def test_toml_that_is_refused(kind: str, tmp_path: Path) -> None:
    content, sentence = TOML[kind]
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=f"^{tmp_path}/a.toml: .*{sentence}"):
        read_toml(tmp_path / "a.toml", ConfigError)
    # The same sentence ends the command, before anything is opened.
    done = call_cli(["segment", tmp_path, "-m", "amazon-forest", "-o", tmp_path / "out", "--config", tmp_path / "a.toml"])
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "out").exists()


def test_documents_that_are_taken(tmp_path: Path) -> None:
    document = {"é": [1.5, -(2**63), 2**63 - 1, None, True, "😀"], "deep": json.loads("[" * 60 + "]" * 60)}
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(document).encode())
    assert read_json(tmp_path / "a.json") == document
    (tmp_path / "a.toml").write_bytes(b'\xef\xbb\xbf[a.b]\nx = [0.25, "..........................."]')
    assert read_toml(tmp_path / "a.toml") == {"a": {"b": {"x": [0.25, "." * 27]}}}


def test_what_is_no_file_or_has_no_end_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(5 << 30)
    with pytest.raises(ModelError, match="5,368,709,120 bytes; such a document has at most"):
        read_json(tmp_path / "huge.json", ModelError)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(ModelError, match="not a file"):
            read_json(path, ModelError)


def _with(model: Model, folder: Path, change: Any) -> Path:
    shutil.copytree(model.path, folder)
    document = json.loads((folder / "card.json").read_text())
    text = change(document["geoseg"])
    (folder / "card.json").write_text(json.dumps(document) if text is None else text)
    return folder


LIES = {
    "a mean that is no number": (lambda own: own["scaling"][0].update(mean=float("nan")), "geoseg.scaling.0.mean: nan"),
    "an infinite deviation": (lambda own: own["scaling"][0].update(stddev=float("inf")), "geoseg.scaling.0.stddev: inf"),
    "an infinite pixel": (lambda own: own.update(gsd_m=float("inf")), "geoseg.gsd_m: inf"),
    "a pixel of a nanometre": (lambda own: own.update(gsd_m=1e-9), "gsd_m: "),
    "a field of a million kilometres": (
        lambda own: own.update(receptive_field={"left": 10**9, "right": 1, "top": 1, "bottom": 1}),
        "receptive_field.left: ",
    ),
    "a stride of 2**30": (lambda own: own.update(stride=1 << 30), "stride: "),
    "no memory at all": (lambda own: own.update(bytes_per_pixel=1e-300), "bytes_per_pixel: "),
    "all memory there is": (lambda own: own.update(bytes_per_pixel=1e300), "bytes_per_pixel: "),
    "a range that falls": (lambda own: own.update(value_range=[255, 0]), "value_range: 255 to 0"),
    "a calibration that is no number": (
        lambda own: own.update(calibration={"gain": [float("nan"), 1], "offset": [0, 0]}),
        "geoseg.calibration.gain.0: nan",
    ),
    "an integer of 5000 digits": (
        lambda own: json.dumps(own).replace('"stride": 1', '"stride": 1' + "0" * 5000),
        "thousands of digits",
    ),
    "brackets": (lambda _: "[" * 200_000, "nested too deep"),
    "a list": (lambda _: "[]", "not a model card"),
    "a number": (lambda _: "7", "not a model card"),
    "a text in place of the card": (lambda _: '{"geoseg": "card"}', "valid dictionary"),
}


@pytest.mark.parametrize("kind", LIES)
def test_cards_that_lie_are_refused_before_inference(kind: str, identity_model: Model, tmp_path: Path) -> None:
    change, sentence = LIES[kind]
    folder = _with(identity_model, tmp_path / "model", change)
    with pytest.raises(ModelError, match=sentence) as caught:
        load_model(str(folder))
    assert "\n" not in str(caught.value)
    done = call_cli(["segment", tmp_path / "no.tif", "-m", folder, "-o", tmp_path / "out"])
    assert (done.returncode, done.stderr.count("\n"), "Traceback" in done.stderr) == (2, 1, False)


@pytest.mark.parametrize(
    "option", [["--simplify", "nan"], ["--simplify", "inf"], ["--tile", "9" * 30], ["--tile", "9" * 5000], ["--chunk", "1e400"]]
)
def test_options_that_are_no_numbers_of_this_world(option: list[str], tmp_path: Path) -> None:
    done = call_cli(["segment", tmp_path, "-m", "amazon-forest", "-o", tmp_path / "out", *option])
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("ending", ["fgb", "gpkg", "parquet", "geojson"])
def test_zones_with_a_coordinate_that_is_no_number_are_refused_when_they_are_loaded(
    bad: float, ending: str, tmp_path: Path
) -> None:
    import geopandas
    import shapely

    from pipeline.summarize.zones import check_zones

    good = shapely.box(0, 0, 1, 1)
    ring = shapely.get_coordinates(shapely.box(2, 2, 3, 3))
    ring[2, 0] = bad
    path = tmp_path / f"zones.{ending}"
    frame = geopandas.GeoDataFrame(geometry=[good, shapely.Polygon(ring)], crs="EPSG:4326")
    if ending == "parquet":
        frame.to_parquet(path)
    elif ending == "geojson":
        text = frame.set_geometry(geopandas.GeoSeries([good, shapely.box(2, 2, 3, 3)], crs="EPSG:4326")).to_json()
        path.write_text(text.replace("3.0", json.dumps(bad), 1))
    else:
        frame.to_file(path, driver={"fgb": "FlatGeobuf", "gpkg": "GPKG"}[ending], SPATIAL_INDEX="NO")
    with pytest.raises(
        ConfigError, match=r"feature \d has a coordinate that is no finite number|can't be read|holds no polygons"
    ):
        check_zones(str(path))


def test_reports_of_strangers_do_not_end_a_run(write_raster: WriteRaster, identity_model: Model, tmp_path: Path) -> None:
    path = write_raster(np.ones((70, 80), np.uint8), "a.tif")
    (tmp_path / "out" / "a").mkdir(parents=True)
    (tmp_path / "out" / "a" / "run.json").write_text("[" * 200_000)
    done = call_cli(["segment", path, "-m", identity_model.path, "-o", tmp_path / "out", "--formats", "none", "-q"])
    assert done.returncode in (0, 1)
    assert "Traceback" not in done.stderr


def test_a_value_where_a_table_belongs(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("grid = 7\n")
    for more in ([], ["--tile", "512"]):
        done = call_cli(
            ["segment", tmp_path, "-m", "amazon-forest", "-o", tmp_path / "out", "--config", tmp_path / "a.toml", *more]
        )
        assert (done.returncode, done.stderr.count("\n"), "grid" in done.stderr) == (2, 1, True)
