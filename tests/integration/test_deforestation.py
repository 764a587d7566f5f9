"""`geoseg deforestation`: loss and gain between dates, whatever the chunks and grids; what one date lacks is not analysed."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.features
import shapely
from numpy.typing import NDArray
from pages import read_page
from rasterio.enums import Resampling
from rasterio.warp import reproject, transform_bounds
from scipy import ndimage

import geoseg
from geoseg.dates.series import first_changes
from geoseg.errors import ConfigError, SceneError
from geoseg.georeference import Georeference
from geoseg.models.model_folder import Model
from geoseg.tiff import read_structure
from geoseg.windows import Window
from pipeline.changes.run import map_changes, pair_of
from pipeline.config.sections import Config
from pipeline.join import rules as definition
from pipeline.join.rules import Rules, apply_rules, recoded
from pipeline.verify.run import verify_output
from tests.support import TRANSFORM, UTM, call_cli, contents, patchy, save

Bytes = NDArray[np.uint8]
STEADY = {"coregister": "off"}


@pytest.fixture(scope="session")
def told_forest(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A network that is told how sure forest is: the band is 128 plus ten times the logit."""
    torch = pytest.importorskip("torch")
    network = torch.nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([0.0, 0.1]).view(2, 1, 1, 1))
        network.bias.copy_(torch.tensor([0.0, -12.8]))
    names = ("non-forest", "forest")
    return save(
        network,
        1,
        2,
        tmp_path_factory.mktemp("models") / "told-forest",
        classes=[{"value": k, "name": n, "color": f"#{80 * k:02x}8040"} for k, n in enumerate(names)],
    )


def comparing(folder: Path, dates: int) -> Model:
    """A network that calls it loss where the first date is brighter than the last by more than 20."""
    torch = pytest.importorskip("torch")
    network = torch.nn.Conv2d(dates, 3, 1)
    weights = torch.zeros(3, dates)
    weights[1, 0], weights[1, -1], weights[2, 0], weights[2, -1] = 0.1, -0.1, -0.1, 0.1
    with torch.no_grad():
        network.weight.copy_(weights.view(3, dates, 1, 1))
        network.bias.copy_(torch.tensor([2.0, 0.0, 0.0]))
    classes = [
        {"value": 0, "name": "no change", "color": "#cccccc", "background": True},
        {"value": 1, "name": "loss", "color": "#cc0000", "before": "forest", "after": "other"},
        {"value": 2, "name": "brighter", "color": "#0000cc"},
    ]
    return save(network, dates, 3, folder, bands=[f"gray@{t + 1}" for t in range(dates)], classes=classes)


def write(path: Path, image: Bytes, date: str | None = None, **changes: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "GTiff",
        "height": image.shape[0],
        "width": image.shape[1],
        "count": 1,
        "dtype": "uint8",
        "crs": UTM,
        "transform": TRANSFORM,
        "nodata": 0,
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "deflate",
    } | changes
    with rasterio.open(path, "w", **profile) as target:
        target.write(image, 1)
        if date is not None:
            target.update_tags(ACQUISITION_DATE=date)
    return path


def images(count: int, shape: tuple[int, int], seed: int = 0) -> list[Bytes]:
    """Dates of a place, most of it the same in all."""
    forest = patchy(*shape, 2, seed, 6.0).astype(np.float64)
    rng = np.random.default_rng(seed)
    found = []
    for t in range(count):
        forest = np.where(patchy(*shape, 8, seed + 10 * t + 1, 9.0) == 0, rng.integers(0, 2), forest) if t else forest
        logit = (2 * forest - 1) * 2.5 + ndimage.gaussian_filter(rng.normal(0, 8, shape), 2)
        found.append(np.clip(np.rint(128 + 10 * logit), 1, 255).astype(np.uint8))
    return found


def probability(image: Bytes) -> NDArray[np.float32]:
    return np.asarray(1 / (1 + np.exp(-(image.astype(np.float32) * np.float32(0.1) - np.float32(12.8)))), np.float32)


def mapped(folder: Path, model: Model, paths: list[Path], **sections: Any) -> tuple[Path, dict[str, Any]]:
    config = Config.parse({"dates": STEADY, **{key: value for key, value in sections.items() if key != "zones"}})
    done = map_changes(pair_of([str(p) for p in paths]), model, config, folder, zones=sections.get("zones"))
    assert done.report.status == "done", done.report.reason
    return done.folder, done.document


def raster_box(path: Path) -> tuple[float, ...]:
    """West, south, east, north of a raster in degrees."""
    with rasterio.open(path) as raster:
        return transform_bounds(raster.crs, "EPSG:4326", *raster.bounds)


def codes(folder: Path) -> Bytes:
    with rasterio.open(folder / "classes.tif") as raster:
        found: Bytes = raster.read(1)
    return found


def test_two_dates_are_the_product_of_their_probabilities_whatever_the_chunks(tmp_path: Path, told_forest: Model) -> None:
    before, after = images(2, (700, 900))
    # Both lack data in one place, one in another.
    before[:50, :80] = after[:50, :60] = 0
    after[600:, 700:] = 0
    paths = [write(tmp_path / "a.tif", before, "2014-06-01"), write(tmp_path / "b.tif", after, "2020-06-01")]
    results = [
        mapped(tmp_path / f"out{k}", told_forest, paths, grid={"chunk": chunk, "tile": tile})[0]
        for k, (chunk, tile) in enumerate(((4096, 1024), (256, 256)))
    ]
    assert (results[0] / "classes.tif").read_bytes() == (results[1] / "classes.tif").read_bytes()
    assert (results[0] / "polygons.geojson").read_bytes() == (results[1] / "polygons.geojson").read_bytes()
    found = codes(results[0])
    expected = first_changes(np.stack([probability(before), probability(after)]), 0.1).argmax(axis=0)
    known = (before > 0) & (after > 0)
    with rasterio.open(results[0] / "confidence.tif") as raster:
        sure = raster.read(1)
    # Where two are as probable, the last bit decides.
    assert (found[known] != expected[known]).mean() < 1e-4
    assert sure[known].min() >= 25
    assert (found[(before == 0) & (after == 0)] == 255).all()
    assert (found[(before == 0) ^ (after == 0)] == 254).all()
    polygons = geopandas.read_file(results[0] / "polygons.gpkg", layer="polygons")
    assert {*polygons["class"]} == {"forest loss", "forest gain"}
    loss = polygons[polygons["class"] == "forest loss"]
    assert {*loss["since"], *loss["until"], *loss["before"], *loss["after"]} == {
        "2014-06-01",
        "2020-06-01",
        "forest",
        "non-forest",
    }
    assert np.allclose(polygons["area_ha"], polygons["area_m2"] / 1e4, atol=1e-4)
    burned = rasterio.features.rasterize(
        zip(polygons.geometry, polygons["code"], strict=True), found.shape, transform=TRANSFORM, dtype="uint8"
    )
    assert (burned == np.where(np.isin(found, (2, 3)), found, 0)).all()


def test_definitions_hold_inside_an_area(tmp_path: Path, told_forest: Model) -> None:
    """They see no data outside of it, as in images that hold none there."""
    dates = images(2, (500, 600), seed=4)
    x, y = TRANSFORM @ (260, 240)
    area = shapely.Point(x, y).buffer(2000).difference(shapely.box(x, y, x + 503, y + 397))
    mask = rasterio.features.rasterize([area], dates[0].shape, transform=TRANSFORM, dtype="uint8") == 1
    rules = {"dates": STEADY | {"least_area": "1ha", "least_width": 30}, "vector": {"min_area": "0.5ha"}, "grid": {"tile": 256}}
    whole = [write(tmp_path / f"{t}.tif", image, f"20{t}0-07-01") for t, image in enumerate(dates)]
    bare = [write(tmp_path / f"bare{t}.tif", np.where(mask, image, 0), f"20{t}0-07-01") for t, image in enumerate(dates)]
    wkt = f"SRID=32720;{area.wkt}"
    part, summary = mapped(tmp_path / "part", told_forest, whole, **rules, area={"aoi": wkt})
    other, expected = mapped(tmp_path / "other", told_forest, bare, **rules)
    assert np.array_equal(codes(part), codes(other))
    assert (codes(part)[~mask] == 255).all()
    assert [c["area_ha"] for c in summary["classes"]] == [c["area_ha"] for c in expected["classes"]]
    with pytest.raises(SceneError, match="does not touch scene"):
        geoseg.deforestation(whole, model=told_forest.path, out=tmp_path / "away", aoi="1,2,3,4")
    # Each feature of a file of areas, as by the command.
    boxes = [shapely.box(1, 2, 3, 4), shapely.box(*raster_box(whole[0]))]
    geopandas.GeoDataFrame({"label": ["far", "near"]}, geometry=boxes, crs=4326).to_file(tmp_path / "areas.gpkg")
    far, near = geoseg.deforestation(
        whole, model=told_forest.path, out=tmp_path / "several", aoi=tmp_path / "areas.gpkg", aoi_column="label"
    )
    assert (far.status, near.status) == ("failed", "done")
    assert near.folder == tmp_path / "several" / "near" / near.name.partition("/")[2]
    assert (near.folder / "changes.json").is_file()


def test_a_series_gives_the_first_loss_and_bridges_what_a_date_does_not_show(tmp_path: Path, told_forest: Model) -> None:
    dates = images(4, (300, 400), seed=3)
    rng = np.random.default_rng(3)
    hidden = [rng.random((6, 8)).repeat(50, axis=0).repeat(50, axis=1) < 0.3 for _ in dates]
    for image, gap in zip(dates, hidden, strict=True):
        image[gap] = 0
    paths = [write(tmp_path / f"{t}.tif", image, f"{1990 + 10 * t}-07-01") for t, image in enumerate(dates)]
    folder, document = mapped(tmp_path / "out", told_forest, paths)
    found = codes(folder)
    p = np.stack([np.where(image == 0, np.float32(0.5), probability(image)) for image in dates])
    expected, shown = first_changes(p, 0.1), 4 - np.stack(hidden).sum(axis=0)
    best = np.sort(expected, axis=0)
    clear = (best[-1] - best[-2] > 1e-3) & (shown >= 2)
    assert (found[clear] == expected.argmax(axis=0)[clear]).all()
    assert (found[shown == 1] == 254).all()
    assert (found[shown == 0] == 255).all()
    assert [row["since"] for row in document["intervals"]] == ["1990-07-01", "2000-07-01", "2010-07-01"]
    pixel_ha = 0.01
    for step, row in enumerate(document["intervals"]):
        assert row["first_loss_ha"] == pytest.approx((found == 2 + step).sum() * pixel_ha, rel=2e-3)
        assert row["years"] == pytest.approx(10, abs=0.01)
    with (folder / "changes.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 3


def test_a_network_that_compares_dates_says_when_and_what_as_far_as_it_knows(tmp_path: Path, told_forest: Model) -> None:
    before, after = images(2, (300, 400), seed=2)
    paths = [write(tmp_path / "a.tif", before, "2014-06-01"), write(tmp_path / "b.tif", after, "2020-06-01")]
    folder, document = mapped(tmp_path / "out", comparing(tmp_path / "two", 2), paths, vector={"min_area": "1ha"})
    found, difference = codes(folder), before.astype(int) - after
    assert ((found == 1) == (difference > 20)).mean() > 0.85
    # The minimum mapping unit holds for the raster, too.
    labels, count = ndimage.label(found == 1)
    assert count
    assert np.bincount(labels.ravel())[1:].min() >= 99
    polygons = geopandas.read_file(folder / "polygons.gpkg", layer="polygons")
    sums = polygons.groupby("class")["area_ha"].sum()
    for entry in document["classes"]:
        if entry["name"] in ("loss", "brighter"):
            assert sums.get(entry["name"], 0.0) == pytest.approx(entry["area_ha"], rel=1e-3)
    assert {*polygons["since"]} == {"2014-06-01"}
    assert {*polygons["until"]} == {"2020-06-01"}
    loss = polygons[polygons["class"] == "loss"]
    assert {*loss["before"], *loss["after"]} == {"forest", "other"}
    assert polygons[polygons["class"] == "brighter"]["before"].isna().all()
    assert "intervals" not in document
    for model, dates, text in (
        (comparing(tmp_path / "three", 3), STEADY, "compares 3 dates, and 2 were given"),
        (comparing(tmp_path / "again", 2), STEADY | {"least_area": "1ha"}, "compares dates itself"),
    ):
        with pytest.raises(ConfigError, match=text):
            map_changes(pair_of([str(p) for p in paths]), model, Config.parse({"dates": dates}), tmp_path / "refused")


def test_clouds_of_a_date_are_not_analysed(tmp_path: Path, told_forest: Model) -> None:
    before, after = np.full((200, 240), 200, np.uint8), np.full((200, 240), 60, np.uint8)
    paths = [write(tmp_path / "a.tif", before), write(tmp_path / "b.tif", after)]
    quality = np.zeros((200, 240), np.uint8)
    quality[20:60, 30:90], quality[100:120, 100:130] = 8, 4
    scl = write(tmp_path / "scl.tif", quality, nodata=None)
    cloud = geopandas.GeoSeries([shapely.box(431_000, 8_928_500, 431_500, 8_929_000)], crs=UTM).to_crs(4326)
    cloud.to_file(tmp_path / "cloud.geojson")
    dates = STEADY | {"masks": [str(tmp_path / "cloud.geojson"), str(scl)], "mask_values": [8, 9]}
    folder, _ = mapped(tmp_path / "out", told_forest, paths, dates=dates)
    expected = np.full((200, 240), 2, np.uint8)
    expected[20:60, 30:90] = expected[100:150, 100:150] = 254
    assert (codes(folder) == expected).all()
    coverage = geopandas.read_file(folder / "coverage.geojson")
    assert {*coverage["class"]} >= {"not analysed"}


@pytest.mark.parametrize("damaged", [0, 1])
def test_a_block_of_a_date_that_can_not_be_read_is_an_error_or_not_analysed(
    tmp_path: Path, told_forest: Model, damaged: int
) -> None:
    paths = [
        write(tmp_path / name, image, date)
        for name, date, image in zip(("a.tif", "b.tif"), ("2014-06-01", "2020-06-01"), images(2, (512, 600)), strict=True)
    ]
    whole, _ = mapped(tmp_path / "whole", told_forest, paths)
    # Columns 256 to 511 of the upper half.
    with paths[damaged].open("r+b") as file:
        file.seek(int(read_structure(paths[damaged]).main.offsets[1]))
        file.write(b"\xff" * 200)
    config = {"dates": STEADY, "grid": {"chunk": 256, "tile": 256}}
    failed = map_changes(pair_of([str(p) for p in paths]), told_forest, Config.parse(config), tmp_path / "failed").report
    assert failed.status == "failed"
    assert paths[damaged].name in str(failed.reason)
    assert "on_bad_block=mask" in str(failed.reason)
    folder, document = mapped(tmp_path / "masked", told_forest, paths, scene={"on_bad_block": "mask"}, grid=config["grid"])
    found, bad = codes(folder), np.zeros((512, 600), np.bool_)
    bad[:256, 256:512] = True
    assert (found[bad] == 254).all()
    assert (found[~bad] == codes(whole)[~bad]).all()
    assert any(f"{bad.sum():,} pixels" in note for note in document["warnings"])


def test_a_date_that_was_replaced_is_never_mixed_with_what_it_was(tmp_path: Path, told_forest: Model) -> None:
    before, after = images(2, (300, 300), seed=11)
    a = write(tmp_path / "a.tif", before, "2014-06-01")
    dates = [str(a), str(write(tmp_path / "b.tif", after, "2020-06-01"))]
    config = Config.parse({"dates": STEADY, "run": {"keep": True}})
    first = map_changes(pair_of(dates), told_forest, config, tmp_path / "out")
    old = codes(first.folder)
    after[100:200, 100:200] = 60
    write(tmp_path / "b.tif", after, "2020-06-01")
    refused = map_changes(pair_of(dates), told_forest, config, tmp_path / "out").report
    assert refused.status == "failed"
    assert "holds results of another run" in str(refused.reason)
    assert (codes(first.folder) == old).all()
    again = map_changes(
        pair_of(dates), told_forest, Config.parse({"dates": STEADY, "run": {"overwrite": True}}), tmp_path / "out"
    )
    clean, _ = mapped(tmp_path / "clean", told_forest, [Path(path) for path in dates])
    assert contents(again.folder) == contents(clean)
    # The other order of the same files is another pair, too.
    mask = str(write(tmp_path / "clouds.tif", np.eye(300, dtype=np.uint8), "2014-06-01"))
    masked = [STEADY | {"masks": masks} for masks in (["none", mask], [mask, "none"])]
    results = [map_changes(pair_of(dates), told_forest, Config.parse({"dates": one}), tmp_path / "m").report for one in masked]
    assert [one.status for one in results] == ["done", "failed"]


@pytest.mark.slow
def test_workers_and_a_second_run_change_nothing(tmp_path: Path, told_forest: Model) -> None:
    before, after = images(2, (600, 600), seed=5)
    paths = [write(tmp_path / "a.tif", before, "2014-06-01"), write(tmp_path / "b.tif", after, "2020-06-01")]
    options = ["--model", told_forest.path, "--chunk", "256", "--tile", "256", "--min-area", "2ha", "--least-area", "5ha"]
    for name, more in (("one", []), ("many", ["--workers", "2"])):
        done = call_cli(["deforestation", *paths, *options, *more, "--out", tmp_path / name])
        assert done.returncode == 0, done.stderr
    one, many = tmp_path / "one" / "a_to_b", tmp_path / "many" / "a_to_b"
    assert contents(one) == contents(many)
    again = call_cli(["deforestation", *paths, *options, "--out", tmp_path / "one"])
    assert again.returncode == 0
    assert json.loads((tmp_path / "one" / "index.json").read_text())["scenes"][0]["status"] == "skipped"


def test_definitions_hold_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against scipy on the whole raster."""
    monkeypatch.setattr(definition, "FINE_BLOCK", 64)
    shape = (211, 307)
    rng = np.random.default_rng(0)
    raster = np.choose(patchy(*shape, 4, 1, 3.0), [0, 1, 2, 3]).astype(np.uint8)
    raster[60:75, 40:90], raster[rng.random(shape) < 0.003] = 255, 254

    class Plain:
        has_confidence = False
        georeference = Georeference(tuple(TRANSFORM)[:6], rasterio.crs.CRS.from_user_input(UTM).to_wkt())

        def __init__(self) -> None:
            self.shape = shape

        def classes(self, window: Window) -> Bytes:
            return raster[window.slices].copy()

        def confidence(self, window: Window) -> Bytes:
            return np.zeros(window.shape, np.uint8)

        def uniform(self, _: Window) -> None:
            return None

        def blocks(self, grid: Any) -> range:
            return range(len(grid))

    def after_rules(name: str, rules: Rules) -> Bytes:
        apply_rules(Plain(), rules, tmp_path / name, 2, lambda: False)
        return recoded(Plain(), tmp_path / name).classes(Window.of(shape))

    pixel = 100.0

    def large(mask: NDArray[np.bool_], least: float) -> NDArray[np.bool_]:
        labels, _ = ndimage.label(mask)
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        return np.asarray((sizes * pixel >= least)[labels])

    found = after_rules("area", Rules(6000.0, 0.0, 0.0, (2,), (3,)))
    first, last = large(np.isin(raster, (1, 2)), 6000.0), large(np.isin(raster, (1, 3)), 6000.0)
    expected = np.where(np.isin(raster, (1, 2)) & ~first | (raster == 3) & ~last, 0, raster)
    assert (found == expected).mean() > 0.9999  # areas are geodesic: a patch may lie on the limit
    found = after_rules("width", Rules(0.0, 60.0, 0.0, (2,), (3,)))

    def wide(wanted: tuple[int, ...]) -> NDArray[np.bool_]:
        inside = np.isin(raster, wanted) | (raster >= 254)
        middle = ndimage.distance_transform_edt(inside) >= 3.0
        return np.asarray(ndimage.distance_transform_edt(~middle) < 3.0)

    expected = np.where(np.isin(raster, (1, 2)) & ~wide((1, 2)) | (raster == 3) & ~wide((1, 3)), 0, raster)
    assert (found == expected).mean() > 0.999  # pixels are not exactly 10 m on the ground
    found = after_rules("unit", Rules(0.0, 0.0, 3000.0, (2,), (3,)))
    for code in range(4):
        labels, count = ndimage.label(found == code)
        sizes = np.bincount(labels.ravel())[1:]
        alone = [
            k
            for k in np.flatnonzero(sizes * pixel < 2900) + 1
            if (found[ndimage.binary_dilation(labels == k) & (labels != k)] < 254).any()
        ]
        assert count
        assert not alone
    assert ((found >= 254) == (raster >= 254)).all()


def test_another_grid_and_crs_is_brought_to_that_of_the_first(tmp_path: Path, told_forest: Model) -> None:
    before, after = images(2, (400, 500), seed=7)
    a = write(tmp_path / "a.tif", before, "2014-06-01")
    # The same ground in degrees, with pixels that are not square, and more around it.
    width, height = 620, 340
    left, bottom, right, top = rasterio.warp.transform_bounds(UTM, "EPSG:4326", *rasterio.open(a).bounds)
    transform = rasterio.transform.from_bounds(left, bottom, right, top, width, height)
    other = np.zeros((height, width), np.uint8)
    reproject(
        after,
        other,
        src_transform=TRANSFORM,
        src_crs=UTM,
        dst_transform=transform,
        dst_crs="EPSG:4326",
        resampling=Resampling.bilinear,
        src_nodata=0,
        dst_nodata=0,
    )
    b = write(tmp_path / "b.tif", other, "2020-06-01", crs="EPSG:4326", transform=transform, height=height, width=width)
    same = write(tmp_path / "c" / "b.tif", after, "2020-06-01")
    warped, _ = mapped(tmp_path / "warped", told_forest, [a, b])
    plain, _ = mapped(tmp_path / "plain", told_forest, [a, same])
    one, two = codes(warped), codes(plain)
    both = (one < 254) & (two < 254)
    assert both.mean() > 0.98
    assert (one == two)[both].mean() > 0.95
    with rasterio.open(warped / "classes.tif") as raster:
        assert raster.crs == UTM
        assert raster.transform == TRANSFORM


@pytest.mark.slow
def test_dates_that_lie_apart_are_moved_or_refused(tmp_path: Path, shared: Path, forest: Model) -> None:
    with rasterio.open(shared / "data" / "joplin_damage" / "pre.tif") as scene:
        image = scene.read([1, 2, 3])[:, :700, :700]
    rng = np.random.default_rng(0)

    def saved(name: str, rows: int, cols: int, date: str) -> Path:
        part = image[:, 40 + rows : 640 + rows, 40 + cols : 640 + cols].astype(np.float64)
        pixels = np.clip(0.8 * part + 20 + rng.normal(0, 2, part.shape), 1, 255).astype(np.uint8)
        profile = {
            "driver": "GTiff",
            "height": 600,
            "width": 600,
            "count": 3,
            "dtype": "uint8",
            "crs": UTM,
            "transform": TRANSFORM,
            "photometric": "rgb",
            "tiled": True,
        }
        with rasterio.open(tmp_path / f"{name}.tif", "w", **profile) as target:
            target.write(pixels)
            target.update_tags(ACQUISITION_DATE=date)
        return tmp_path / f"{name}.tif"

    first, near, far = saved("first", 0, 0, "2011-01-01"), saved("near", 3, -2, "2012-01-01"), saved("far", 20, 15, "2013-01-01")
    plain = {"vector": {"formats": ["gpkg"]}}
    folder, document = mapped(tmp_path / "out", forest, [first, near], dates={}, **plain)
    (found,) = document["registration"]
    assert found["consistent"]
    assert (found["rows"], found["cols"]) == pytest.approx((3, -2), abs=0.15)
    assert any("moved by" in note for note in json.loads((folder / "run.json").read_text())["warnings"])
    # What is moved shows the same ground: nothing has changed.
    unmoved, _ = mapped(tmp_path / "unmoved", forest, [first, near], dates={"coregister": "measure"}, **plain)
    changed = [np.isin(codes(one), (2, 3)).sum() for one in (folder, unmoved)]
    assert changed[0] < 0.5 * changed[1] or changed[1] < 50
    done = map_changes(pair_of([str(first), str(far)]), forest, Config.parse({}), tmp_path / "far")
    assert done.report.status == "failed"
    assert "px off the first date" in str(done.report.reason)
    assert "--max-shift" in str(done.report.reason)


@pytest.mark.slow
def test_real_mosaics_of_other_grids_overlap_in_part(tmp_path: Path, shared: Path, forest: Model) -> None:
    folder = shared / "data" / "joplin_unaligned"
    config = Config.parse(
        {"dates": {"acquired": ["2009-01-01", "2011-05-29"], "coregister": "measure"}, "vector": {"formats": ["gpkg"]}}
    )
    ref = pair_of([str(folder / "pre_mosaic.tif"), str(folder / "post_mosaic.tif")])
    done = map_changes(ref, forest, config, tmp_path / "out")
    assert done.report.status == "done", done.report.reason
    found = codes(done.folder)
    assert (found < 254).any()
    assert (found == 254).any()
    assert done.document["registration"][0]["windows"] > 3


def test_zones_add_up(tmp_path: Path, told_forest: Model) -> None:
    before, after = images(2, (300, 300), seed=9)
    paths = [write(tmp_path / "a.tif", before, "2014-06-01"), write(tmp_path / "b.tif", after, "2020-06-01")]
    x, y = TRANSFORM.c, TRANSFORM.f
    # One on pixel borders, one across pixels, a triangle; together the whole raster.
    zones = [
        shapely.box(x, y - 1000, x + 3000, y),
        shapely.box(x, y - 3000, x + 1234.5, y - 1000),
        shapely.box(x + 1234.5, y - 3000, x + 3000, y - 1000),
    ]
    file = tmp_path / "zones.gpkg"
    geopandas.GeoDataFrame({"name": ["north", "west", "east"]}, geometry=zones, crs=UTM).to_crs(4326).to_file(file)
    plain, _ = mapped(tmp_path / "out", told_forest, paths)
    pictures = read_page(plain / "report.html").all("img")
    assert [picture["alt"].split()[-4:] for picture in pictures[:2]] == [
        ["before", "the", "change,", "2014-06-01"],
        ["after", "the", "change,", "2020-06-01"],
    ]
    assert pictures[0]["src"] != pictures[1]["src"]
    done = map_changes(
        pair_of([str(path) for path in paths]), told_forest, Config.parse({"dates": STEADY}), tmp_path / "out", zones=str(file)
    )
    folder, document = done.folder, done.document
    assert done.report.status == "skipped"
    totals = {entry["name"]: entry["area_ha"] for entry in document["classes"]}
    # The page beside the map has the zones now, and its pictures still.
    page, (step,) = read_page(folder / "report.html"), document["intervals"]
    assert page.all("img") == pictures
    assert page.row("2014-06-01 to 2020-06-01")[2:4] == [f"{step['first_loss_ha']:,.1f} ha", f"{step['first_gain_ha']:,.1f} ha"]
    shown = dict(zip(page.row("Zone")[1:], page.row("Zone 2")[1:], strict=True))
    assert all(shown[name] == f"{area:,.1f} ha" for name, area in document["zones"][1]["area_ha"].items())
    assert {"./zones.csv", "./zones.gpkg"} <= {link["href"] for link in page.all("a")}
    assert "report.html" not in json.loads((folder / "run.json").read_text())["companions"]
    assert verify_output(folder).whole
    for name in ("forest loss", "stable forest"):
        assert sum(zone["area_ha"].get(name, 0) for zone in document["zones"]) == pytest.approx(totals[name], rel=1e-4)
    found, pixel = codes(folder), totals["forest loss"] / (codes(folder) == 2).sum()
    assert document["zones"][0]["area_ha"]["forest loss"] == pytest.approx((found[:100] == 2).sum() * pixel, rel=1e-3)
    share = np.ones(300)
    share[123], share[124:] = 0.45, 0
    west = ((found[100:] == 2) * share).sum() * pixel
    assert document["zones"][1]["area_ha"]["forest loss"] == pytest.approx(west, rel=1e-3)
    written = geopandas.read_file(folder / "zones.gpkg")
    assert list(written["name"]) == ["north", "west", "east"]
    assert written["forest_loss_ha"].sum() == pytest.approx(totals["forest loss"], rel=1e-4)
    with (folder / "zones_by_interval.csv").open(encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    assert [(row["name"], row["since"], row["until"]) for row in rows] == [
        (name, "2014-06-01", "2020-06-01") for name in ("north", "west", "east")
    ]
    assert sum(float(row["first_loss_ha"]) for row in rows) == pytest.approx(totals["forest loss"], rel=1e-4)
    assert float(rows[0]["loss_ha_per_year"]) == pytest.approx(float(rows[0]["first_loss_ha"]) / 6, rel=1e-3)
    # Sums of an older map do not stay beside a newer one.
    again, _ = mapped(tmp_path / "out", told_forest, paths, vector={"min_area": "1ha"}, run={"overwrite": True})
    assert again == folder
    assert not list(folder.glob("zones*"))


def test_dates_of_other_types_are_compared_once_something_says_how(tmp_path: Path, told_forest: Model) -> None:
    before, after = images(2, (200, 240), seed=4)
    a = write(tmp_path / "a.tif", before, "2014-06-01")
    plain, _ = mapped(tmp_path / "plain", told_forest, [a, write(tmp_path / "b.tif", after, "2020-06-01")])
    wide = write(tmp_path / "c.tif", after.astype(np.uint16), "2020-06-01", dtype="uint16", nodata=0)
    rescaled, _ = mapped(tmp_path / "wide", told_forest, [a, wide], scene={"rescale": "0,255"})
    assert (codes(plain) == codes(rescaled)).all()


def test_clouds_do_not_tell_where_a_date_lies_nor_in_what_light(tmp_path: Path, told_forest: Model) -> None:
    """The later date is darker; bright clouds over half of it are moved, too."""
    (ground,) = images(1, (500, 500), seed=6)
    hides = np.zeros(ground.shape, np.uint8)
    hides[:, 250:] = 255
    noisy = ground * 0.6 + 20 + np.random.default_rng(0).normal(0, 1.5, ground.shape)
    later = np.where(hides > 0, np.roll(ground, 3, axis=0) // 4 + 180, np.rint(noisy)).astype(np.uint8)
    paths = [write(tmp_path / "a.tif", ground, "2014-06-01"), write(tmp_path / "b.tif", later, "2020-06-01")]
    mask = write(tmp_path / "clouds.tif", hides, nodata=None)
    for method in ("moments", "pif"):
        dates = {"masks": ["none", str(mask)], "radiometry": method}
        folder, document = mapped(tmp_path / method, told_forest, paths, dates=dates)
        (found,) = document["registration"]
        assert found["windows"] == 0 or abs(found["rows"]) < 0.1
        changed = codes(folder)[:, :250]
        assert (codes(folder)[:, 250:] == 254).all()
        assert (changed < 2).mean() > 0.98
    assert any("hidden" in note for note in document["warnings"])


def test_the_place_of_a_date_is_measured_where_both_lie(tmp_path: Path, told_forest: Model) -> None:
    (ground,) = images(1, (900, 900), seed=8)
    part = np.roll(ground, 2, axis=1)[600:, 500:]
    paths = [
        write(tmp_path / "a.tif", ground, "2014-06-01"),
        write(tmp_path / "b.tif", part, "2020-06-01", transform=TRANSFORM @ rasterio.Affine.translation(500, 600)),
    ]
    folder, document = mapped(tmp_path / "out", told_forest, paths, dates={})
    (found,) = document["registration"]
    assert found["consistent"]
    assert (found["rows"], found["cols"]) == pytest.approx((0, -2), abs=0.1)
    found_codes = codes(folder)
    assert (found_codes[600:, 510:-10] < 2).mean() > 0.999
    assert (found_codes[:600] == 254).all()


def test_what_can_not_be_compared_is_one_sentence(tmp_path: Path, told_forest: Model, forest: Model) -> None:
    image = np.full((100, 120), 150, np.uint8)
    a, b = write(tmp_path / "a.tif", image, "2020-01-01"), write(tmp_path / "b.tif", image, "2010-01-01")
    far = write(tmp_path / "far.tif", image, "2022-01-01", transform=TRANSFORM @ rasterio.Affine.translation(5000, 0))
    lost = write(tmp_path / "lost.tif", image, "2022-01-01", crs=None)
    bad = write(tmp_path / "bad.tif", image, "2022-01-01", dtype="uint16")
    (tmp_path / "x").mkdir()
    out = ["--out", tmp_path / "out"]
    for args, text in (
        ([a], "give at least two"),
        ([a, a], "given twice"),
        ([a, tmp_path / "x" / ".." / "a.tif"], "given twice"),
        ([a, b], "is older than"),
        ([b, far], "does not overlap"),
        ([b, lost], "no CRS"),
        ([b, bad], "uint8, uint16 pixels"),
        ([b, a, "--of", "water"], "no class 'water'"),
        ([b, a, "--masks", "none,none,none"], "3 entries for 2 dates"),
        ([b, a, "--acquired", "2020-13-01,2021-01-01"], "dates.acquired"),
        ([b, a, "--acquired", "85,1990"], "'85' is no date; write 2019-07-01, or a year"),
        ([b, a, "--acquired", "20191201,2019-01-01"], "is older than"),
        ([b, a, "--masks", f"none,{tmp_path / 'none.tif'}"], "no such file; write none"),
        ([b, a, "--radiometry", "pif"], "a band is constant"),
        ([b, a, "--zones", tmp_path / "none.gpkg"], "no such file"),
        ([b, a, "--zones", tmp_path / "none.gpkg", "--pixel-coords"], "images without a place on Earth"),
    ):
        done = call_cli(["deforestation", *args, "--model", told_forest.path, *out])
        assert done.returncode in (1, 2), (text, done.stderr)
        assert text in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
