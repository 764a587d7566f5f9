"""Changes between mosaics of dates: those of maps of the whole, in whatever pieces and runs the scenes of a date arrive."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from support import TRANSFORM, UTM, call_cli, patchy, save

import geoseg
from geoseg.models.model_folder import Model
from geoseg.scenes.names import folder_name

SHAPE = 300, 400
GIVEN: dict[str, Any] = {"acquired": ("2015-07-01", "2020-07-01"), "tile": 96, "halo": 0, "chunk": 256, "formats": ("gpkg",)}
PIECES = {
    "before": [((0, 170), (0, 230)), ((0, 170), (200, 400)), ((150, 300), (0, 400))],
    "after": [((20, 300), (0, 210)), ((0, 300), (190, 400))],
}


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """Forest where a pixel is greener than red: a pixel's class depends on it alone."""
    torch = pytest.importorskip("torch")
    network = torch.nn.Conv2d(3, 2, 1)
    with torch.no_grad():
        network.weight[:] = torch.tensor([[0.05, -0.05, 0.0], [-0.05, 0.05, 0.0]])[:, :, None, None]
        network.bias[:] = torch.tensor([0.01, 0.0])
    classes = [{"value": 0, "name": "other", "color": "#e8d8a0"}, {"value": 1, "name": "forest", "color": "#1a7837"}]
    return save(network, 3, 2, tmp_path / "greener", classes=classes)


@pytest.fixture
def scenes(tmp_path: Path) -> dict[str, list[Path]]:
    """By date the whole, and its pieces in a folder; of the second date a corner was not seen."""
    found = {}
    for number, (name, pieces) in enumerate(PIECES.items()):
        image = np.stack([patchy(*SHAPE, 200, seed=10 * number + band, size=4) for band in range(3)]) + np.uint8(20)
        if name == "after":
            image[:, :20, :190] = 0
        folder = tmp_path / name
        folder.mkdir()
        found[name] = [tmp_path / f"{name}.tif"]
        for at, (rows, cols) in enumerate([((0, 300), (0, 400)), *pieces]):
            path = found[name][0] if not at else folder / f"s{at}.tif"
            part = image[:, slice(*rows), slice(*cols)]
            place = TRANSFORM @ rasterio.Affine.translation(cols[0], rows[0])
            facts: dict[str, Any] = {"driver": "GTiff", "count": 3, "dtype": "uint8", "crs": UTM, "transform": place, "nodata": 0}
            with rasterio.open(path, "w", height=part.shape[1], width=part.shape[2], **facts) as file:
                file.write(part)
            if at:
                found[name].append(path)
    return found


def changed(folder: Path, name: str = "classes.tif") -> np.ndarray:
    with rasterio.open(folder / name) as dataset:
        return np.asarray(dataset.read(1))


def test_changes_of_pieces_are_those_of_the_whole(scenes: dict[str, list[Path]], model: Model, tmp_path: Path) -> None:
    rules = {"least_area": "0.3ha", "min_area": "0.2ha", "change_rate": 0.5}
    wholes = geoseg.segment([files[0] for files in scenes.values()], model=model.path, out=tmp_path / "wholes", halo=0, tile=96)
    ready = geoseg.deforestation(
        [one.folder / "classes.tif" for one in sorted(wholes, key=lambda one: one.name, reverse=True)],
        from_classes=True,
        out=tmp_path / "ready",
        acquired=GIVEN["acquired"],
        formats=("gpkg",),
        **rules,
    )
    folders = [tmp_path / name for name in PIECES]
    done = geoseg.deforestation(folders, model=model.path, mosaic=True, out=tmp_path / "out", **GIVEN, **rules)
    assert done.folder.name == "mosaic-2015-07-01_to_mosaic-2020-07-01"
    codes = changed(done.folder)
    np.testing.assert_array_equal(codes, changed(ready.folder))
    assert (codes[:20, :190] == 254).all()
    assert {2, 3} <= set(np.unique(codes))
    # Of two dates at that rate, what was mapped is as probable as both mosaics say, pixel by pixel.
    sure = changed(done.folder, "confidence.tif")
    np.testing.assert_array_equal(sure, changed(ready.folder, "confidence.tif"))
    first, last = (changed(tmp_path / "out" / f"mosaic-{date}", "confidence.tif") / 100 for date in GIVEN["acquired"])
    known = codes <= 253
    np.testing.assert_allclose(sure[known], (100 * first * last)[known], atol=0.501)
    assert np.ptp(sure[known]) > 30
    one, other = done.polygons(), ready.polygons()
    assert one.geometry.geom_equals(other.geometry).all()
    assert (one["since"] == "2015-07-01").all()
    said = call_cli(["verify", tmp_path / "out"])
    assert said.returncode == 0, said.stdout
    # A map of changes, for all that reads those.
    for command in (
        ["deliver", done.folder, "-o", tmp_path / "delivery", "--event", "Test"],
        ["sample", done.folder / "classes.tif", "-o", tmp_path / "sample.gpkg", "--size", "200"],
        [
            "area",
            "--map",
            done.folder / "classes.tif",
            "--sample",
            tmp_path / "sample.gpkg",
            "--reference",
            ready.folder / "classes.tif",
        ],
    ):
        told = call_cli(command)
        assert told.returncode == 0, told.stderr
    with (done.folder / "changes.csv").open("ab") as file:
        file.write(b"\n")
    assert "changes.csv has" in call_cli(["verify", tmp_path / "out"]).stdout


def test_more_scenes_of_a_date_give_the_changes_of_all_at_once(
    scenes: dict[str, list[Path]], model: Model, tmp_path: Path
) -> None:
    """On the lattice of the first date, also where the first scene of the second one lies between its pixels."""
    folders = [tmp_path / name for name in PIECES]
    with rasterio.open(scenes["after"][2]) as dataset:
        profile, data = dataset.profile, dataset.read()
    profile["transform"] = profile["transform"] @ rasterio.Affine.translation(0.4, 0.3)
    with rasterio.open(folders[1] / "s0.tif", "w", **profile) as dataset:
        dataset.write(data[:, 50:150, 50:150])
    at_once = geoseg.deforestation(folders, model=model.path, mosaic=True, out=tmp_path / "at-once", **GIVEN)
    late = scenes["after"][1]
    shutil.move(late, tmp_path / "late.tif")
    part = geoseg.deforestation(folders, model=model.path, mosaic=True, out=tmp_path / "grown", keep=True, **GIVEN)
    before = changed(part.folder)
    shutil.move(tmp_path / "late.tif", late)
    grown = geoseg.deforestation(folders, model=model.path, mosaic=True, out=tmp_path / "grown", keep=True, **GIVEN)
    assert grown.status == "done"
    for name in ("classes.tif", "changes.json", "changes.csv", "polygons.gpkg"):
        assert (grown.folder / name).read_bytes() == (at_once.folder / name).read_bytes() or name == "changes.json"
    assert (before != changed(grown.folder)).any()
    with (
        rasterio.open(tmp_path / "grown" / "mosaic-2015-07-01" / "classes.tif") as one,
        rasterio.open(tmp_path / "grown" / "mosaic-2020-07-01" / "classes.tif") as other,
    ):
        between = np.array(~one.transform @ (other.transform.c, other.transform.f))
    np.testing.assert_allclose(between, np.round(between), atol=1e-6)
    again = geoseg.deforestation(folders, model=model.path, mosaic=True, out=tmp_path / "grown", keep=True, **GIVEN)
    assert again.status == "skipped"


def test_each_area_of_a_column_has_the_changes_of_that_area_alone(
    scenes: dict[str, list[Path]], model: Model, tmp_path: Path
) -> None:
    """Of mosaics and of ready maps; an area that the scenes do not touch is told and leaves nothing."""
    boxes = {"north": (20, 10, 300, 120), "far": (9000, 0, 9010, 10), "a/b": (150, 100, 380, 290)}
    shapes = [shapely.box(*(TRANSFORM @ (a, d)), *(TRANSFORM @ (c, b))) for a, b, c, d in boxes.values()]
    areas = geopandas.GeoDataFrame({"label": list(boxes)}, geometry=shapes, crs=UTM)
    areas.to_file(tmp_path / "areas.gpkg")
    args = [tmp_path / name for name in PIECES], tmp_path / "out"
    column: dict[str, Any] = {"aoi": tmp_path / "areas.gpkg", "aoi_column": "label"}
    one, none, other = geoseg.deforestation(args[0], model=model.path, mosaic=True, out=args[1], **GIVEN, **column)
    assert (one.status, none.status, other.status) == ("done", "failed", "done")
    assert "area of interest" in str(none.reason)
    assert {path.name for path in args[1].iterdir() if path.is_dir()} == {"north", folder_name("a/b")}
    ready = geoseg.segment([files[0] for files in scenes.values()], model=model.path, out=tmp_path / "ready", halo=0, tile=96)
    maps = [map_.folder for map_ in sorted(ready, key=lambda map_: map_.name, reverse=True)]
    given = {"acquired": GIVEN["acquired"], "formats": GIVEN["formats"]}
    of_maps = geoseg.deforestation(maps, from_classes=True, out=tmp_path / "of-maps", **given, **column)
    assert [map_.status for map_ in of_maps] == ["done", "failed", "done"]
    for label, found, compared in (("north", one, of_maps[0]), ("a/b", other, of_maps[2])):
        areas[areas["label"] == label].to_file(tmp_path / "area.gpkg")
        own: dict[str, Any] = {"aoi": tmp_path / "area.gpkg", "out": tmp_path / f"own-{folder_name(label)}", **GIVEN}
        alone = geoseg.deforestation(args[0], model=model.path, mosaic=True, **own)
        assert found.name == f"{folder_name(label)}/{alone.name}"
        for name in ("classes.tif", "confidence.tif"):
            np.testing.assert_array_equal(changed(found.folder, name), changed(alone.folder, name))
        assert found.polygons().geometry.geom_equals(alone.polygons().geometry).all()
        assert found.areas == compared.areas | {"no data": found.areas["no data"]}
    assert call_cli(["verify", args[1]]).returncode == 0
    again = geoseg.deforestation(args[0], model=model.path, mosaic=True, out=args[1], **GIVEN, **column)
    assert [map_.status for map_ in again] == ["skipped", "failed", "skipped"]
    told = call_cli(
        [
            "deforestation",
            *maps,
            "--from-classes",
            "--aoi",
            tmp_path / "areas.gpkg",
            "--aoi-column",
            "label",
            "-o",
            tmp_path / "cli",
        ]
    )
    assert told.returncode == 0, told.stderr
    assert "geoseg: far: skipped: " in told.stderr


def test_what_has_no_meaning_is_refused(scenes: dict[str, list[Path]], model: Model, tmp_path: Path) -> None:
    args = ["deforestation", tmp_path / "before", tmp_path / "after", "-m", model.path, "--mosaic", "-o", tmp_path / "out", "-q"]
    for more, sentence in (
        (["--radiometry", "pif"], "has no meaning for mosaics"),
        (["--of", "water"], "has no class 'water', but other, forest"),
        (["--acquired", "2015-07-01,2015-07-01"], "two of the dates are the same"),
        (["--acquired", "2015-07-01,2014-07-01"], "date 2 (2014-07-01) is older than date 1 (2015-07-01)"),
    ):
        told = call_cli([*args, *more])
        assert told.returncode == 2
        assert sentence in told.stderr
    assert call_cli([*args[:2], tmp_path / "before" / "*.tif", *args[3:]]).stderr.endswith("two dates are two files\n")
    # Of what the scenes say of their dates, before any is mapped.
    for files, day in zip(scenes.values(), ("2020-07-01", "2015-07-01"), strict=True):
        for path in files[1:]:
            with rasterio.open(path, "r+") as dataset:
                dataset.update_tags(ACQUISITION_DATE=day)
    told = call_cli(args)
    assert told.returncode == 2
    assert "(2015-07-01) is older than" in told.stderr
    assert not (tmp_path / "out").exists()
