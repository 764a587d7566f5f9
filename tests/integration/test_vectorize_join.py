"""Polygons of several rasters: cut into pieces and joined, a raster gives the same bytes as in one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window
from support import TRANSFORM, UTM, call_cli, patchy

import geoseg
import pipeline.vectorize.joined_rasters as joined

SHAPE = 700, 900
PARTS = [(0, 0, 300, 400), (0, 400, 300, 500), (300, 0, 400, 650), (300, 650, 400, 250)]
OPTIONS = [(), ("--min-area", "0.5ha"), ("--simplify", "1.5", "--smooth", "1"), ("--max-vertices", "200")]
Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes (h, w) where it lies on the lattice of all."""

    def write(name: str, data: np.ndarray, row: int = 0, col: int = 0, tags: Any = None, **facts: Any) -> Path:
        place = facts.pop("transform", TRANSFORM) @ rasterio.Affine.translation(col, row)
        given = {"driver": "GTiff", "count": 1, "dtype": data.dtype, "crs": UTM, "nodata": 255} | facts
        path = tmp_path / f"{name}.tif"
        with rasterio.open(path, "w", height=data.shape[0], width=data.shape[1], transform=place, **given) as file:
            file.write(data, 1)
            file.update_tags(**(tags or {}))
        return path

    return write


def pieces_of(save: Save, data: np.ndarray, name: str = "piece", grow: int = 0, **facts: Any) -> list[Path]:
    paths = []
    for number, (row, col, height, width) in enumerate(PARTS):
        top, left = max(0, row - grow), max(0, col - grow)
        paths.append(save(f"{name}{number}", data[top : row + height + grow, left : col + width + grow], top, left, **facts))
    return paths


def vectors(*args: object) -> None:
    done = call_cli(["vectorize", *map(str, args)])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("grow", [0, 37])
@pytest.mark.parametrize("options", OPTIONS)
def test_pieces_give_the_polygons_of_the_whole(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], grow: int
) -> None:
    monkeypatch.setattr(joined, "OPEN", 1)
    data = patchy(*SHAPE, 4, seed=1, size=9)
    data[100:350, 380:420], data[500:, 640:] = 255, 254
    sure = patchy(*SHAPE, 100, seed=2)
    tags = {"geoseg_scene": "one"}
    whole, confidence = save("whole", data, tags=tags), save("confidence", sure)
    pieces, sures = pieces_of(save, data, grow=grow, tags=tags), pieces_of(save, sure, "sure", grow)
    vectors(whole, "--confidence", confidence, "-o", tmp_path / "whole.geojson", *options)
    given = [part for path in reversed(sures) for part in ("--confidence", path)]
    vectors("--join", *reversed(pieces), *given, "-o", tmp_path / "joined.geojson", *options)
    assert (tmp_path / "joined.geojson").read_bytes() == (tmp_path / "whole.geojson").read_bytes()
    assert json.loads((tmp_path / "whole.geojson").read_text())["features"]


def test_real_labels_cut_into_pieces(shared: Path, tmp_path: Path) -> None:
    """PRODES, of another program, in a CRS without a code: values of all pieces are classes, 254 and 255 among them."""
    source = shared / "data" / "prodes_labels" / "PRODES_up2018.tif"
    pieces = []
    with rasterio.open(source) as dataset:
        data = dataset.read(1, window=Window(1200, 3600, 1500, 1200))
        profile = dataset.profile | {"driver": "GTiff", "tiled": False}
        place = dataset.transform @ rasterio.Affine.translation(1200, 3600)
    for key in ("blockxsize", "blockysize"):
        profile.pop(key, None)
    data[200:210, 100:900], data[700:, :3] = 254, 255
    for name, rows, cols in (
        ("whole", (0, 1200), (0, 1500)),
        ("a", (0, 500), (0, 1500)),
        ("b", (500, 1200), (0, 800)),
        ("c", (500, 1200), (800, 1500)),
    ):
        there = place @ rasterio.Affine.translation(cols[0], rows[0])
        facts = profile | {"height": rows[1] - rows[0], "width": cols[1] - cols[0], "transform": there, "nodata": None}
        with rasterio.open(tmp_path / f"{name}.tif", "w", **facts) as file:
            file.write(data[slice(*rows), slice(*cols)], 1)
        pieces.append(tmp_path / f"{name}.tif")
    whole = geoseg.vectorize(pieces[0], out=tmp_path / "whole.gpkg")
    one = geoseg.vectorize(pieces[1:], out=tmp_path / "one.gpkg")
    ours, theirs = (some.polygons().drop(columns="scene") for some in (one, whole))
    assert one.count == whole.count > 10
    assert ours.equals(theirs)
    assert {254, 255} <= {*ours["code"]}


def test_where_pieces_overlap_the_first_that_has_a_class_says_it(save: Save, tmp_path: Path) -> None:
    one, two = np.full((40, 60), 1, np.uint8), np.full((40, 60), 2, np.uint8)
    one[:10], one[10:20], two[:5] = 255, 254, 255
    tags = {"geoseg_scene": "x"}
    a, b = save("a", one, tags=tags), save("b", two, 0, 20, tags=tags)
    raster, _ = joined.open_joined([str(b), str(a)], joined.OpenOptions())
    found = raster.classes(joined.Window.of(raster.shape))
    wanted = np.full((40, 80), 255, np.uint8)
    wanted[:, :60] = one
    left = wanted[:, 20:]
    left[(left > 253) & (two < 255)] = 2
    assert raster.shape == (40, 80)
    assert (found == wanted).all()


def test_what_can_not_be_joined_is_one_sentence(save: Save, tmp_path: Path) -> None:
    data = patchy(40, 50, 3)
    a = save("a", data)
    off = save("off", data, 0, 50.3)
    coarse = save("coarse", data, transform=TRANSFORM @ rasterio.Affine.scale(2))
    other = save("other", data, 0, 50, crs="EPSG:32721")
    named, renamed = (save(name, data, 0, 50 * k, tags={"geoseg_scene": "x"}) for k, name in enumerate(("n1", "n2")))
    for path in (named, renamed):
        with rasterio.open(path, "r+") as file:
            file.update_tags(1, class_1="forest" if path == named else "water")
    out = tmp_path / "out.geojson"
    for args, said in (
        (("--join", a, off), "its pixels are not those of"),
        (("--join", a, coarse), "its pixels are not those of"),
        (("--join", a, other), "rasters are joined in one CRS"),
        (("--join", named, renamed), "--names 1=NAME"),
        (("--join", a, named, "--confidence", a), "1 rasters for 2 class rasters"),
        ((a, named), "with --join"),
    ):
        done = call_cli(["vectorize", *map(str, args), "-o", str(out)])
        assert (done.returncode > 0, said in done.stderr) == (True, True), done.stderr
        assert not out.exists()
    vectors("--join", named, renamed, "--names", "1=forest", "-o", out)
