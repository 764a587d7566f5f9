"""`--clouds`: hidden pixels are not analysed, in all layers and whatever the chunks; all else is as without clouds."""

from __future__ import annotations

import importlib.machinery
import json
import pickle
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.features
import rasterio.warp
from numpy.typing import NDArray
from pages import read_page
from rasterio import Affine
from scipy import ndimage

from geoseg.arrays import Bools
from geoseg.codes import HIDDEN, NODATA, NOT_ANALYSED
from geoseg.errors import BandError, ConfigError, Interrupted, SceneError
from geoseg.models.model_folder import Model
from geoseg.scenes.products.quality import QualityLayer
from geoseg.scenes.sources import SceneRef, list_scenes
from pipeline.config.sections import Config
from pipeline.infer.dask_workers import resolved
from pipeline.infer.receipt import Receipt
from pipeline.plan import make
from pipeline.plan.make import make_plan
from pipeline.publish.report import SceneReport
from pipeline.segment.progress import Quiet
from pipeline.segment.run import segment_scene
from tests.support import LIMIT_S, TRANSFORM, UTM, call_cli, contents, patchy, save

SHAPE = 420, 530
GRID = {"tile": 64, "halo": 16}
FILES = {"formats": ["geojson", "gpkg"]}


def named(*names: str) -> list[dict[str, object]]:
    """Classes of a card."""
    return [{"value": k, "name": name, "color": f"#{80 * k:02x}8040", "background": k < 1} for k, name in enumerate(names)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A network that sees five pixels around each, so that what happens under clouds would show beside them."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    network = torch.nn.Conv2d(1, 3, 5, padding=2)
    with torch.no_grad():
        network.weight.mul_(0.2)
    return save(network, 1, 3, tmp_path_factory.mktemp("models") / "five")


@pytest.fixture(scope="module")
def bright(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Maps clouds: what is brighter than 200.05, averaged over three pixels a side."""
    torch = pytest.importorskip("torch")
    network = torch.nn.Conv2d(1, 2, 3, padding=1)
    with torch.no_grad():
        network.weight.zero_()
        network.bias.zero_()
        network.weight[1] = 1 / 9
        network.bias[1] = -200.05
    classes = named("clear", "Thick cloud")
    return save(network, 1, 2, tmp_path_factory.mktemp("models") / "bright", classes=classes)


def image() -> NDArray[np.uint8]:
    """Values from 40 to 160, with a hole without data."""
    found = (40 + 30 * patchy(*SHAPE, 5, 3, 4.0)).astype(np.uint8)
    found[100:150, 30:200] = 0
    return found


def clouds(seed: int = 5, share: float = 0.7) -> Bools:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random(SHAPE), 20)
    return np.asarray(noise > np.quantile(noise, share))


def written(path: Path, data: NDArray[Any], transform: Affine = TRANSFORM, nodata: float | None = None) -> Path:
    bands = data if data.ndim == 3 else data[None]
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "count": len(bands), "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype}
    with rasterio.open(path, "w", **profile, crs=UTM, transform=transform, nodata=nodata) as target:
        target.write(bands)
    return path


def ref_of(*paths: Path) -> SceneRef:
    refs = [list_scenes([str(path)])[0][0] for path in paths]
    return replace(refs[0], later=tuple(refs[1:]))


def segment(path: Path, model: Model, out: Path, *, chunk: int = 4096, **more: Any) -> tuple[Path, dict[str, Any]]:
    sections = {"grid": {**GRID, "chunk": chunk}, "vector": FILES, "scene": {}} | more
    report = segment_scene(ref_of(path), model, Config.parse(sections), out)
    assert report.status == "done"
    return out / report.scene, json.loads((out / report.scene / "run.json").read_text())


def bands(path: Path) -> NDArray[Any]:
    with rasterio.open(path) as dataset:
        found: NDArray[Any] = dataset.read()
    return found


def covered(folder: Path, name: str) -> Bools:
    """Pixels of an entry of the coverage."""
    features = json.loads((folder / "coverage.geojson").read_text())["features"]
    shapes = [
        rasterio.warp.transform_geom("OGC:CRS84", UTM, feature["geometry"])
        for feature in features
        if feature["properties"]["class"] == name
    ]
    if not shapes:
        return np.zeros(SHAPE, np.bool_)
    return np.asarray(rasterio.features.rasterize(shapes, SHAPE, transform=TRANSFORM) == 1)


def test_hidden_pixels_are_not_analysed_and_all_others_are_as_without(tmp_path: Path, model: Model) -> None:
    data, hidden = image(), clouds()
    scene = written(tmp_path / "scene.tif", data, nodata=0)
    written(tmp_path / "masks" / "scene_mask.tif", hidden.astype(np.uint8))
    layers = {"probabilities": True, "uncertainty": True, "tta": "d4"}
    plain, record = segment(scene, model, tmp_path / "plain", infer=layers)
    assert "clouds" not in record
    asked = {"clouds": str(tmp_path / "masks" / "{name}_mask.tif"), "clouds_buffer": "50m"}
    found, record = segment(scene, model, tmp_path / "clouded", infer=layers, scene=asked)
    grown = ndimage.distance_transform_edt(~hidden) <= 5
    valid = data != 0
    for name in ("classes.tif", "confidence.tif", "probabilities.tif", "uncertainty.tif"):
        expected = np.where(grown & valid, NOT_ANALYSED, bands(plain / name))
        np.testing.assert_array_equal(bands(found / name), expected, name)
    count = int((grown & valid).sum())
    assert record["status"] == "done"
    assert record["not_analysed"] == []
    assert record["clouds"]["pixels"] == count
    assert record["clouds"]["share"] == pytest.approx(count / valid.sum(), abs=1e-6)
    assert record["clouds"]["reason"] == "cloud"
    assert any(f"clouds hide {count:,} pixels" in note for note in record["warnings"])
    assert {c["code"]: c["pixels"] for c in record["classes"]}[NOT_ANALYSED] == count
    rows = {row[0]: row[-1] for row in read_page(found / "report.html").rows if len(row) == 4}
    assert rows["not analysed"] == rows["of it hidden by clouds"] == f"{count:,}"
    assert "of it hidden by clouds" not in read_page(plain / "report.html").text
    np.testing.assert_array_equal(covered(found, "cloud"), grown & valid)
    np.testing.assert_array_equal(covered(found, "analysed"), ~grown & valid)
    assert not covered(found, "not analysed").any()


class StopsAfter(Quiet):
    """Stops a run when some chunks are done."""

    def __init__(self, chunks: int) -> None:
        self.left = chunks

    def chunk(self, receipt: Receipt) -> None:
        del receipt
        self.left -= 1
        if self.left <= 0:
            raise Interrupted("stopped by a test")


def test_chunks_and_interruptions_change_nothing(tmp_path: Path, model: Model, bright: Model) -> None:
    data = np.where(clouds(), np.uint8(230), image())
    scene = written(tmp_path / "scene.tif", data, nodata=0)
    asked = {"clouds": f"model:{bright.path}", "clouds_buffer": "7px"}
    whole, record = segment(scene, model, tmp_path / "whole", scene=asked)
    config = Config.parse({"grid": {**GRID, "chunk": 256}, "vector": FILES, "scene": asked})
    with pytest.raises(Interrupted):
        segment_scene(ref_of(scene), model, config, tmp_path / "parts", progress=StopsAfter(2))
    report = segment_scene(ref_of(scene), model, config, tmp_path / "parts")
    assert contents(tmp_path / "parts" / report.scene) == contents(whole)
    # The network's own rule by the whole image: no data is 0 for it.
    mean = ndimage.uniform_filter(data.astype(np.float64), 3, mode="constant")
    found = bands(whole / "classes.tif")[0] == NOT_ANALYSED
    expected = ndimage.distance_transform_edt(~(mean > 200.05)) <= 7
    np.testing.assert_array_equal(found, expected & (data != 0))
    assert record["identity"]["clouds"] == [bright.sha256]
    assert record["clouds"]["source"] == ["model bright"]


def with_quality(monkeypatch: pytest.MonkeyPatch, *layers: QualityLayer) -> None:
    """Scenes of a product that has these layers."""
    opened = make.open_scene
    monkeypatch.setattr(make, "open_scene", lambda *args, **more: replace(opened(*args, **more), quality=layers))


def test_layers_of_the_product(tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    coarse = np.random.default_rng(2).integers(0, 12, (105, 133)).astype(np.uint8)
    path = written(tmp_path / "SCL.tif", coarse, TRANSFORM @ Affine.scale(4))
    scene = written(tmp_path / "scene.tif", image(), nodata=0)
    config = Config.parse({"grid": GRID, "scene": {"clouds": "auto"}})
    plan = make_plan(ref_of(scene), model, config)
    assert plan.scene.clouds is None
    assert "clouds: the product has no quality layer, so that nothing is hidden" in plan.warnings
    assert plan.layers == make_plan(ref_of(scene), model, Config.parse({"grid": GRID})).layers
    with_quality(monkeypatch, QualityLayer(kind="scl", path=str(path), driver="GTiff"))
    fine = coarse.repeat(4, axis=0).repeat(4, axis=1)[: SHAPE[0], : SHAPE[1]]
    for asked, classes in (
        ({"clouds": "auto"}, [0, 1, 3, 8, 9, 10]),
        ({"clouds": "scl", "cloud_classes": ["snow", "9"]}, [0, 1, 9, 11]),
    ):
        folder, record = segment(scene, model, tmp_path / "-".join(map(str, classes)), scene=asked)
        np.testing.assert_array_equal(bands(folder / "classes.tif")[0] == NOT_ANALYSED, np.isin(fine, classes) & (image() != 0))
        assert record["clouds"]["source"][0].startswith("scl: ")
    with pytest.raises(SceneError, match="no quality layer 'qa', but scl; give a file, clouds=model:NAME, or clouds=auto"):
        make_plan(ref_of(scene), model, Config.parse({"grid": GRID, "scene": {"clouds": "qa"}}))
    with pytest.raises(ConfigError, match="'smoke' is none of this quality layer"):
        make_plan(ref_of(scene), model, Config.parse({"grid": GRID, "scene": {"clouds": "scl", "cloud_classes": ["smoke"]}}))
    before = make_plan(ref_of(scene), model, config).scene.fingerprint
    written(path, 11 - coarse, TRANSFORM @ Affine.scale(4))
    assert make_plan(ref_of(scene), model, config).scene.fingerprint != before


def test_a_scene_under_clouds_is_a_map_of_nothing(tmp_path: Path, model: Model) -> None:
    scene = written(tmp_path / "scene.tif", image(), nodata=0)
    mask = written(tmp_path / "mask.tif", np.ones(SHAPE, np.uint8))
    settings = ["--clouds", mask, "--rescale", "auto", "--tile", "64"]
    done = call_cli(["segment", scene, "--model", model.path, "--out", tmp_path / "out", *settings])
    assert done.returncode == 0, done.stderr
    assert f"clouds hide all that holds data ({mask}): nothing was analysed" in done.stderr
    classes = bands(tmp_path / "out" / "scene" / "classes.tif")[0]
    np.testing.assert_array_equal(classes, np.where(image() == 0, NODATA, NOT_ANALYSED))
    record = json.loads((tmp_path / "out" / "scene" / "run.json").read_text())
    assert record["clouds"]["share"] == 1
    assert record["chunks"]["tiles"] == 0, "no network was run for nothing"


def test_statistics_do_not_see_what_is_hidden(tmp_path: Path, model: Model) -> None:
    hidden, plans = clouds(), []
    mask = written(tmp_path / "mask.tif", hidden.astype(np.uint8))
    for name, value in (("dark", 1), ("light", 255)):
        data = np.where(hidden, np.uint8(value), image())
        scene = written(tmp_path / f"{name}.tif", data, nodata=0)
        config = Config.parse({"grid": GRID, "scene": {"clouds": str(mask), "rescale": "auto"}})
        plans.append(make_plan(ref_of(scene), model, config))
    dark, light = plans
    assert dark.members[0].values == light.members[0].values
    assert dark.domains == light.domains


def test_settings_of_clouds_are_part_of_the_identity_where_they_are_given() -> None:
    plain = Config.parse({})
    given = [
        {"clouds": "auto"},
        {"clouds": "auto", "clouds_buffer": "5px"},
        {"clouds": "auto", "cloud_classes": ["3"]},
        {"clouds": "scl"},
    ]
    configs = [plain, *(Config.parse({"scene": one}) for one in given)]
    assert len({config.chunk_hash() for config in configs}) == len({config.result_hash() for config in configs}) == 5
    with pytest.raises(ConfigError, match="clouds_buffer says how clouds are read"):
        Config.parse({"scene": {"clouds_buffer": "5px"}})


def test_what_can_not_work_is_told(tmp_path: Path, model: Model) -> None:
    scene = written(tmp_path / "scene.tif", image(), nodata=0)
    codes = written(tmp_path / "codes.tif", (image() // 30).astype(np.uint8))
    for asked, sentence in (
        ({"clouds": str(tmp_path / "none.tif")}, "none.tif: no such file; it is auto, scl"),
        ({"clouds": str(tmp_path / "{name}_mask.tif")}, "scene_mask.tif: no such file, which clouds="),
        ({"clouds": f"model:{model.path}"}, r"no class named after clouds or shadows \(0 class 0, 1 class 1"),
        ({"clouds": f"model:{model.path}", "cloud_classes": ["fog"]}, "'fog' is no class of five"),
        ({"clouds": str(codes), "clouds_buffer": "90km"}, "clouds_buffer: 90km is 9000 px; 1000 px is the most"),
        ({"clouds": str(codes), "cloud_classes": ["fog"]}, "fog: of a file they are values of its pixels"),
        ({"clouds": str(codes)}, "not those of a mask.*say which do with cloud_classes"),
    ):
        with pytest.raises((ConfigError, SceneError), match=sentence):
            make_plan(ref_of(scene), model, Config.parse({"grid": GRID, "scene": asked}))


def test_objects_are_cut_where_clouds_hide_them(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    network = torch.nn.Conv2d(3, 4, 1)
    with torch.no_grad():
        network.weight.zero_()
        network.bias.zero_()
        network.weight[1, 0], network.bias[1] = 0.4, -20.0
        network.weight[2, 1], network.bias[2] = 0.2, -20.0
        network.weight[3, 2], network.bias[3] = 1 / 100, -1.0
    model = save(
        network,
        3,
        2,
        tmp_path / "told",
        classes=named("other", "house"),
        instances={"kind": "watershed", "largest_px": 60, "seed": 0.15, "boundary": 0.5, "least_px": 1},
    )
    house = np.zeros(SHAPE, np.bool_)
    for row in range(20, 380, 60):
        for col in range(20, 480, 50):
            house[row : row + 30, col : col + 30] = True
    far = np.minimum(ndimage.distance_transform_edt(house), 12) / 12
    scene = written(tmp_path / "scene.tif", np.stack([house * 100, house * 0, 100 + 100 * far]).astype(np.uint8))
    hidden = clouds(7)
    mask = written(tmp_path / "mask.tif", hidden.astype(np.uint8))
    plain, _ = segment(scene, model, tmp_path / "plain")
    # Objects that are hidden wholly are gone, so that numbers are others.
    found, record = segment(scene, model, tmp_path / "clouded", scene={"clouds": str(mask)})
    small, _ = segment(scene, model, tmp_path / "small", chunk=256, scene={"clouds": str(mask)})
    assert contents(found) == contents(small)
    expected = np.where(hidden, NOT_ANALYSED, bands(plain / "classes.tif")[0])
    np.testing.assert_array_equal(bands(found / "classes.tif")[0], expected)
    before, after = bands(plain / "instances.tif")[0], bands(found / "instances.tif")[0]
    pairs = np.unique(np.stack([before[~hidden], after[~hidden]]), axis=1)
    assert len(pairs[0]) == len(np.unique(pairs[0])) == len(np.unique(pairs[1])), "one to one where it is clear"
    assert not after[hidden].any()
    features = json.loads((found / "polygons.geojson").read_text())["features"]
    assert len(features) == len(np.unique(before[~hidden])) - 1 < len(np.unique(before)) - 1
    shapes = [rasterio.warp.transform_geom("OGC:CRS84", UTM, one["geometry"]) for one in features]
    drawn = rasterio.features.rasterize(shapes, SHAPE, transform=TRANSFORM) == 1
    np.testing.assert_array_equal(drawn, after > 0)
    assert record["clouds"]["pixels"] == hidden.sum()


def test_each_date_has_its_clouds(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    network = torch.nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        network.weight[:] = torch.tensor([-0.1, 0.1]).view(2, 1, 1, 1)
        network.bias[:] = torch.tensor([10.0, -10.0])
    model = save(
        network,
        1,
        2,
        tmp_path / "two",
        classes=named("bare", "forest"),
    )
    masks, paths = [], []
    for year in (2019, 2021):
        masks.append(clouds(year, 0.8))
        paths.append(written(tmp_path / f"place_{year}0701.tif", image(), nodata=0))
        written(tmp_path / "masks" / f"place_{year}0701.tif", masks[-1].astype(np.uint8))
    third = clouds(1, 0.9)
    by_date = written(tmp_path / "third.tif", third.astype(np.uint8))
    sections = {
        "grid": {**GRID, "chunk": 256},
        "scene": {"clouds": str(tmp_path / "masks" / "{name}.tif"), "clouds_buffer": "3px"},
        "dates": {"masks": ["none", str(by_date)]},
    }
    ref = replace(ref_of(*paths), name="pair")
    report = segment_scene(ref, model, Config.parse(sections), tmp_path / "out")
    assert report.status == "done"
    record = json.loads((tmp_path / "out" / "pair" / "run.json").read_text())
    first, second = (ndimage.distance_transform_edt(~mask) <= 3 for mask in masks)
    expected = (first | second | third) & (image() != 0)
    found = bands(tmp_path / "out" / "pair" / "classes.tif")[0]
    np.testing.assert_array_equal(found == NOT_ANALYSED, expected)
    np.testing.assert_array_equal(covered(tmp_path / "out" / "pair", "cloud"), expected)
    assert record["clouds"]["pixels"] == expected.sum()
    with pytest.raises(ConfigError, match="one file for 2 dates"):
        segment_scene(ref, model, Config.parse({"scene": {"clouds": str(by_date)}}), tmp_path / "none")


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """A package of the name s2cloudless, the probability of which is the reflectance of B02."""
    taken: list[tuple[int, ...]] = []

    class Detector:
        def get_cloud_probability_maps(self, data: NDArray[Any], num_threads: int) -> NDArray[Any]:
            assert num_threads > 0
            taken.append(data.shape)
            assert data.shape[-1] == 10
            return np.asarray(data[..., 1], np.float32)

    module = types.ModuleType("s2cloudless")
    module.S2PixelCloudDetector = Detector  # type: ignore[attr-defined]
    module.__spec__ = importlib.machinery.ModuleSpec("s2cloudless", None)
    monkeypatch.setitem(sys.modules, "s2cloudless", module)
    monkeypatch.setattr("importlib.metadata.version", "{}".format)

    def rule(blue: NDArray[Any]) -> NDArray[Any]:
        rows, cols = np.indices((45, 45)) - 22
        disk = (rows**2 + cols**2 <= 22**2).astype(np.int64)
        steps = np.rint(blue * 1e-4 * 10_000).astype(np.int64)
        return np.asarray(
            ndimage.convolve(steps, disk, mode="constant")
            > 0.4 * 10_000 * ndimage.convolve(np.ones_like(steps), disk, mode="constant")
        )

    return rule


def sentinel(path: Path, blue: NDArray[Any]) -> Path:
    names = ("B01", "B02", "B04", "B05", "B08", "B8A", "B09", "B10", "B11", "B12")
    data = np.full((10, *blue.shape), 900, np.uint16)
    data[1] = blue
    written(path, data)
    with rasterio.open(path, "r+") as target:
        target.descriptions = names
    return path


def test_the_classifier_of_s2cloudless_by_a_stand_in(tmp_path: Path, stand_in: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    from geoseg.inference.cloud_models import trees_of
    from geoseg.inference.reading import clouds_of
    from geoseg.scenes.clouds import Clouds
    from geoseg.scenes.opening import open_scene
    from geoseg.scenes.scene import OpenOptions
    from geoseg.windows import Window

    blue = (8000 * ndimage.gaussian_filter(np.random.default_rng(0).random((150, 170)), 12)).astype(np.uint16)
    blue = ((blue - blue.min()) * (7000 / np.ptp(blue))).astype(np.uint16)
    path = sentinel(tmp_path / "S2_L1C.tif", blue)
    scene = open_scene([str(path)], "one", OpenOptions())
    hidden = clouds_of(replace(scene, clouds=Clouds(source=trees_of(scene), name="s2cloudless")))
    assert hidden is not None
    expected = ndimage.distance_transform_edt(~stand_in(blue)) <= 11
    assert 0.05 < expected.mean() < 0.95
    np.testing.assert_array_equal(hidden.read(Window.of((150, 170))), expected)
    part = Window.at((33, 58), (70, 41))
    np.testing.assert_array_equal(hidden.read(part), expected[part.slices])
    other = open_scene([str(written(tmp_path / "other.tif", image()))], "other", OpenOptions())
    with pytest.raises(BandError, match="takes the bands B01, B02, B04"):
        trees_of(other)


@pytest.mark.parametrize("offset", [0.0, -0.1])
def test_the_classifier_of_s2cloudless_is_that_of_its_package(tmp_path: Path, offset: float) -> None:
    """Against its own detector, bands in any order; away from borders, where it mirrors, and this takes what there is."""
    torch = pytest.importorskip("torch")
    from s2cloudless import S2PixelCloudDetector

    # Reflectances of L1C from forest to a thick cloud with cirrus.
    forest = np.array([1200, 900, 700, 450, 900, 2500, 3000, 3200, 3500, 900, 12, 1700, 800])
    cloud = np.array([5500, 5400, 5500, 5600, 5800, 6000, 6100, 6200, 6300, 3000, 300, 4500, 3500])
    rng, shape = np.random.default_rng(0), (130, 280)
    share = ndimage.gaussian_filter(rng.random(shape), 12)
    share = np.clip((share - share.min()) / np.ptp(share) * 2 - 1.1, 0, 1)
    data = forest[:, None, None] * (1 - share) + cloud[:, None, None] * share
    codes = (data * rng.uniform(0.9, 1.1, data.shape) - 1e4 * offset).astype(np.uint16)
    names = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
    path, order = tmp_path / "S2_L1C.tif", rng.permutation(13)
    facts: dict[str, Any] = {"driver": "GTiff", "dtype": "uint16", "crs": UTM, "transform": TRANSFORM}
    with rasterio.open(path, "w", height=shape[0], width=shape[1], count=13, **facts) as target:
        target.write(codes[order])
        target.descriptions = [names[band] for band in order]
        if offset:
            target.scales, target.offsets = [1e-4] * 13, [offset] * 13
    facts = {"bands": ("red", "green", "blue"), "value_range": (0, 65535), "data_type": "uint16"}
    model = save(torch.nn.Conv2d(3, 2, 1), 3, 2, tmp_path / "any", **facts)
    folder, record = segment(path, model, tmp_path / "out", scene={"clouds": "model:s2cloudless"}, grid={**GRID, "chunk": 256})
    found = bands(folder / "classes.tif")[0] == NOT_ANALYSED
    assert record["clouds"]["pixels"] == found.sum()
    detector = S2PixelCloudDetector(threshold=0.4, all_bands=True, average_over=22, dilation_size=11)
    reflectance = np.moveaxis(codes * 1e-4 + offset, 0, -1)[None]
    inner = np.s_[33:-33, 33:-33]
    probability = detector.get_cloud_probability_maps(reflectance)
    expected = detector.get_mask_from_prob(probability)[0].astype(bool)[inner]
    assert 0.1 < expected.mean() < 0.9
    np.testing.assert_array_equal(found[inner], expected)
    # Up to the border: probabilities of the detector, averaged over what there is.
    rows, cols = np.indices((45, 45)) - 22
    disk = (rows**2 + cols**2 <= 22**2).astype(np.float64)
    count = ndimage.convolve(np.ones(shape), disk, mode="constant")
    above = ndimage.convolve(np.rint(1e4 * probability[0]), disk, mode="constant") > 4e3 * count
    np.testing.assert_array_equal(found, ndimage.distance_transform_edt(~above) <= 11)


THREADS = """
import os, sys
from dataclasses import replace
import numpy as np
from geoseg.inference.cloud_models import trees_of
from geoseg.inference.reading import clouds_of
from geoseg.scenes.clouds import Clouds
from geoseg.scenes.opening import open_scene
from geoseg.scenes.scene import OpenOptions
from geoseg.windows import Window

scene = open_scene([sys.argv[1]], "one", OpenOptions())
clouds = Clouds(source=trees_of(scene), name="s2cloudless").with_threads(int(sys.argv[2]))
hidden = clouds_of(replace(scene, clouds=clouds))
import lightgbm
before = len(os.listdir("/proc/self/task"))
mask = hidden.read(Window.of((scene.height, scene.width)))
print(len(os.listdir("/proc/self/task")) - before, int(mask.sum()))
"""


def test_the_classifier_of_s2cloudless_takes_the_threads_that_it_is_given(tmp_path: Path) -> None:
    pytest.importorskip("s2cloudless")
    blue = np.full((150, 170), 900, np.uint16)
    blue[20:90, 30:120] = 9000
    path = sentinel(tmp_path / "S2_L1C.tif", blue)
    told = []
    for count in (1, 3):
        command = [sys.executable, "-c", THREADS, str(path), str(count)]
        told.append(subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT_S))
    (alone, mask), (more, other) = (one.stdout.split() for one in told)
    assert (int(more) - int(alone), mask) == (2, other)


@pytest.mark.parametrize("name", ["s2_adwp", "l8_002053_patch192"])
def test_real_clouds_are_hidden_as_their_masks_say(shared: Path, tmp_path: Path, name: str) -> None:
    torch = pytest.importorskip("torch")
    folder = shared / "data" / "clouds" / "train"
    if not folder.is_dir():
        pytest.skip("the images of clouds are not there")
    scene, mask = folder / "images" / f"{name}.tif", folder / "masks" / f"{name}.tif"
    truth = bands(mask)[0] == 1
    count = len(bands(scene))
    network = torch.nn.Conv2d(count, 2, 1)
    facts = {"bands": ("blue", "green", "red", "nir"), "value_range": (0, 65535), "data_type": "uint16"}
    model = save(network, count, 2, tmp_path / "any", **facts)
    asked = {"clouds": str(folder / "masks" / "{name}.tif"), "pixel_coords": True}
    sections = {"scene": asked, "vector": {"formats": ["gpkg"]}, "grid": {**GRID, "chunk": 256}}
    report: SceneReport = segment_scene(ref_of(scene), model, Config.parse(sections), tmp_path / "out")
    assert report.status == "done", report.reason
    classes = bands(tmp_path / "out" / name / "classes.tif")[0]
    record = json.loads((tmp_path / "out" / name / "run.json").read_text())
    data = classes != NODATA
    np.testing.assert_array_equal(classes == NOT_ANALYSED, truth & data)
    assert record["clouds"]["share"] == pytest.approx(truth[data].mean(), abs=1e-6)
    assert 0 < record["clouds"]["share"] < 1


def test_the_code_of_clouds_is_a_code_of_coverage_alone() -> None:
    assert HIDDEN not in (NOT_ANALYSED, NODATA)


def test_every_front_knows_clouds(tmp_path: Path, model: Model) -> None:
    """Python names settings as the command line does; a mask of the wrong place is refused by both."""
    import geoseg

    scene = written(tmp_path / "scene.tif", image(), nodata=0)
    mask = written(tmp_path / "mask.tif", clouds().astype(np.uint8))
    grid: dict[str, Any] = {"tile": 64, "halo": 16}
    geoseg.segment(str(scene), model=str(model.path), out=tmp_path / "out", clouds=str(mask), clouds_buffer="2px", **grid)
    found = bands(tmp_path / "out" / "scene" / "classes.tif")[0] == NOT_ANALYSED
    np.testing.assert_array_equal(found, (ndimage.distance_transform_edt(~clouds()) <= 2) & (image() != 0))
    away = written(tmp_path / "away.tif", clouds().astype(np.uint8), TRANSFORM @ Affine.translation(5000, 0))
    done = call_cli(["segment", scene, "--model", model.path, "--out", tmp_path / "none", "--clouds", away])
    assert done.returncode == 1
    assert "away.tif: the mask does not overlap the image; is it that of another scene?" in done.stderr


def test_a_plan_travels_with_its_clouds(tmp_path: Path, model: Model, bright: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = written(tmp_path / "scene.tif", image(), nodata=0)
    written(tmp_path / "mask.tif", clouds().astype(np.uint8))
    monkeypatch.chdir(tmp_path)
    plan = make_plan(ref_of(scene), model, Config.parse({"grid": GRID, "scene": {"clouds": "mask.tif"}}))
    elsewhere = resolved(plan.scene)
    assert elsewhere.clouds is not None
    assert elsewhere.clouds.files == (str(tmp_path / "mask.tif"),)
    asked = {"clouds": f"model:{bright.path}"}
    plan = pickle.loads(pickle.dumps(make_plan(ref_of(scene), model, Config.parse({"grid": GRID, "scene": asked}))))
    assert plan.networks == {model.sha256: str(model.path), bright.sha256: str(bright.path)}
