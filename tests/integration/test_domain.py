"""What a run says of scenes that are like what a model was made for, and of others, before and after it maps them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from support import WriteRaster, call_cli, save

from geoseg.domain.facts import facts_of, image_facts
from geoseg.domain.sampled import TRIES, WANTED, sampled_cells
from geoseg.errors import SceneError
from geoseg.models.model_folder import Model
from geoseg.scenes.opening import open_scene
from geoseg.scenes.scene import OpenOptions
from geoseg.scenes.sources import SceneRef
from pipeline.config.sections import Config
from pipeline.plan.make import make_plan
from pipeline.plan.plan import Plan
from pipeline.publish.report import SceneReport
from pipeline.segment.progress import PlainProgress

Made = Callable[..., Path]


@pytest.fixture(scope="module")
def image(shared: Path) -> np.ndarray:
    """A scene that took no part in the training of the shipped model: (3, 512, 512)."""
    with rasterio.open(shared / "data" / "amazon_forest" / "val" / "images" / "Amazon_455.tiff_46.tif") as dataset:
        pixels: np.ndarray = dataset.read()
        return pixels


def planned(path: Path, model: Model, **options: object) -> Plan:
    strict = {"run": {"strict": options.pop("strict")}} if "strict" in options else {}
    return make_plan(SceneRef("scene", (str(path),)), model, Config.parse({"scene": options, **strict}))


def test_the_places_that_a_model_was_made_for_are_near(shared: Path, forest: Model) -> None:
    for path in sorted((shared / "data" / "amazon_forest" / "val" / "images").glob("*.tif"))[:3]:
        plan = planned(path, forest, strict=True)
        assert plan.domain is not None
        assert plan.domain.reasons == ()
        assert plan.domain.score is not None
        assert not plan.warnings


def test_what_is_far_is_told_and_refused_when_strict(write_raster: WriteRaster, image: np.ndarray, forest: Model) -> None:
    third = image.copy()
    third[:, :, : image.shape[2] // 3] = 255
    coarse = image[:, ::3, ::3]
    cases: dict[str, tuple[np.ndarray, dict[str, object], str]] = {
        "other bands": (image[::-1], {}, "unlike those that amazon-forest was made for"),
        "wrong scale": ((image.astype(np.uint16) * 12), {"rescale": "0,10000"}, "unlike those that amazon-forest was made for"),
        "a collar": (third, {}, "declare it with --nodata 255"),
        "three times the pixel size": (np.ascontiguousarray(coarse), {"pixel": 30.0}, "3.0 times coarser"),
    }
    for name, (pixels, options, words) in cases.items():
        size = options.pop("pixel", 10.0)
        place = rasterio.Affine(size, 0, 430_000, 0, -size, 8_930_000)
        path = write_raster(pixels, photometric="rgb", transform=place)
        plan = planned(path, forest, **options)
        assert plan.domain is not None
        assert any(words in text for text in plan.warnings), (name, plan.warnings)
        assert plan.describe()["domain"] == plan.domain.title
        with pytest.raises(SceneError, match="--strict takes that as an error"):
            planned(path, forest, strict=True, **options)
    declared = planned(write_raster(third, photometric="rgb"), forest, nodata="255", strict=True)
    assert declared.warnings == ()


@pytest.mark.parametrize(("gain", "offset", "dtype"), [(14, 0, "uint16"), (8, 1000, "uint16"), (1 / 255, 0, "float32")])
def test_auto_brings_reflectances_to_what_the_model_has_learned_from(
    write_raster: WriteRaster, image: np.ndarray, forest: Model, gain: float, offset: float, dtype: str
) -> None:
    given = image.astype(np.float64) * gain + offset
    path = write_raster(given.astype(dtype), photometric="minisblack")
    with pytest.raises(SceneError, match=r"the product.s own scale first|for reflectances of 0\.\.1"):
        planned(path, forest)
    plan = planned(path, forest, rescale="auto")
    values = plan.members[0].values
    mapped = given * values.scale[0] + values.offset[0]
    # The same values for all bands, near those that the scene was made of.
    assert len({*values.scale}) == 1
    for share in (0.05, 0.5, 0.95):
        assert np.quantile(mapped, share) == pytest.approx(np.quantile(image, share), abs=12)
    assert not any("unlike" in text for text in plan.warnings)
    assert any("does the same to other scenes" in text for text in plan.warnings)


def test_auto_leaves_values_that_the_model_knows_as_they_are(write_raster: WriteRaster, image: np.ndarray, forest: Model) -> None:
    plan = planned(write_raster(image, photometric="rgb"), forest, rescale="auto")
    assert (plan.members[0].values.scale, plan.members[0].values.offset) == ((1.0,) * 3, (0.0,) * 3)


def test_products_carry_how_far_the_scene_lies(tmp_path: Path, write_raster: WriteRaster, image: np.ndarray) -> None:
    far = np.ascontiguousarray(image[::-1, :256, :256])
    done = call_cli(["segment", write_raster(far, photometric="rgb"), "-m", "amazon-forest", "-o", tmp_path / "out"])
    assert done.returncode == 0, done.stderr
    assert "unlike those that amazon-forest was made for" in done.stderr
    folder = tmp_path / "out" / "scene"
    run = json.loads((folder / "run.json").read_text())
    (check,) = run["domain"]
    assert check["far"]
    assert check["distance"] > check["limit"]
    assert set(check["reasons"]) <= set(run["warnings"])
    properties = json.loads((folder / "item.json").read_text())["properties"]
    assert (properties["geoseg:domain"], float(properties["geoseg:domain_distance"])) == ("far", check["distance"])
    with rasterio.open(folder / "classes.tif") as classes:
        assert classes.tags()["geoseg_domain"] == "far"
    delivered = call_cli(["deliver", folder, "--out", tmp_path / "delivery", "--event", "A test"])
    assert delivered.returncode == 0, delivered.stderr
    text = (tmp_path / "delivery" / "README.txt").read_text()
    for warning in run["warnings"]:
        assert warning.replace(str(run["source"][0]), "scene.tif") in text
        assert "warning of the run: " in delivered.stderr
    assert "far from the training of amazon-forest" in text
    assert str(tmp_path) not in text


def test_a_look_is_bounded_and_the_same_each_time(write_raster: WriteRaster) -> None:
    data = np.random.default_rng(0).integers(0, 255, (1, 1100, 1500), np.uint8)
    scene = open_scene([str(write_raster(data))], "scene", OpenOptions())
    first, again = (list(sampled_cells(scene, (0,), 128)) for _ in range(2))
    assert len(first) == WANTED < TRIES
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.data, other.data)
    small = open_scene([str(write_raster(data[:, :300, :200], "small.tif"))], "scene", OpenOptions())
    assert sum(pixels.valid.sum() for pixels in sampled_cells(small, (0,), 128)) == 300 * 200


@pytest.fixture(scope="module")
def objects_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Tells objects apart: bright pixels, whose distance to their border is 1 and whose boundary is 0."""
    torch = pytest.importorskip("torch")
    network = torch.nn.Conv2d(1, 4, 1)
    with torch.no_grad():
        network.weight.zero_()
        network.bias.copy_(torch.tensor([100.0, 0.0, -20.0, 0.0]))
        network.weight[1, 0], network.weight[3, 0] = 1.0, 0.2
        network.bias[3] = -20.0
    classes = [
        {"value": 0, "name": "other", "color": "#e0e0e0", "background": True},
        {"value": 1, "name": "roof", "color": "#d02020"},
    ]
    folder = tmp_path_factory.mktemp("models") / "objects"
    return save(network, 1, 2, folder, classes=classes, instances={"kind": "watershed", "largest_px": 20, "least_px": 4})


@pytest.mark.parametrize("count", [0, 2])
def test_models_of_objects_speak_of_objects(tmp_path: Path, write_raster: WriteRaster, objects_model: Model, count: int) -> None:
    data = np.random.default_rng(0).integers(1, 40, (96, 96)).astype(np.uint8)
    for number in range(count):
        data[10 + 40 * number : 22 + 40 * number, 20:34] = 220
    done = call_cli(
        ["segment", write_raster(data), "-m", objects_model.path, "-o", tmp_path / "out", "--tile", "96", "--halo", "16"]
    )
    assert done.returncode == 0, done.stderr
    run = json.loads((tmp_path / "out" / "scene" / "run.json").read_text())
    assert run["features"] == count
    assert not any("every pixel is" in warning for warning in run["warnings"])
    assert any("no object was found" in warning for warning in run["warnings"]) == (count == 0)


def test_a_map_of_one_class_is_told_when_it_is_made(tmp_path: Path, write_raster: WriteRaster, identity_model: Model) -> None:
    data = np.full((96, 96), 2, np.uint8)
    done = call_cli(
        ["segment", write_raster(data), "-m", identity_model.path, "-o", tmp_path / "out", "--tile", "96", "--halo", "16"]
    )
    assert done.returncode == 0, done.stderr
    assert "every pixel is class 2" in done.stderr
    assert "declare it with --nodata 2" in done.stderr


def test_quiet_is_quiet(tmp_path: Path, write_raster: WriteRaster, identity_model: Model) -> None:
    data = np.random.default_rng(0).integers(0, 6, (96, 96)).astype(np.uint8)
    path = write_raster(data, crs=None, transform=rasterio.Affine.identity())
    done = call_cli(
        [
            "segment",
            path,
            "-m",
            identity_model.path,
            "-o",
            tmp_path / "out",
            "--pixel-coords",
            "--quiet",
            "--tile",
            "96",
            "--halo",
            "16",
        ]
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "out" / "scene" / "polygons.gpkg").is_file()


@pytest.mark.parametrize("option", [["--tile", "1000"], ["--classes", "swamp"], ["--task", "instances"]])
def test_settings_that_can_t_work_leave_nothing(tmp_path: Path, write_raster: WriteRaster, option: list[str]) -> None:
    path = write_raster(np.ones((3, 70, 80), np.uint8), photometric="rgb")
    done = call_cli(["segment", path, "-m", "amazon-forest", "-o", tmp_path / "new" / "out", *option])
    assert done.returncode == 2
    assert not (tmp_path / "new" / "out").exists()
    kept = tmp_path / "there"
    kept.mkdir()
    call_cli(["segment", path, "-m", "amazon-forest", "-o", kept, *option])
    assert list(kept.iterdir()) == []


def test_counters_begin_again_with_each_scan(
    capsys: pytest.CaptureFixture[str], write_raster: WriteRaster, identity_model: Model
) -> None:
    plan = planned(write_raster(np.random.default_rng(0).integers(0, 6, (64, 64)).astype(np.uint8)), identity_model)
    progress = PlainProgress()
    for _ in range(2):
        progress.folder(1)
        progress.planned(plan, 0)
        progress.scene(SceneReport(scene="scene", status="done"))
    assert capsys.readouterr().err.count("[1/1]") == 2


def test_cards_of_new_models_know_their_training(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [rng.normal(100, 10, (1, 256, 256)) for _ in range(4)]
    valid = np.ones((256, 256), np.bool_)
    domain = facts_of([image_facts([(image, valid)], 1) for image in images], (0, 255))
    torch = pytest.importorskip("torch")
    model = save(torch.nn.Conv2d(1, 2, 1), 1, 2, tmp_path / "model", domain=domain)
    assert model.card.domain == domain


def test_intervals_that_are_wider_than_the_estimate_are_told_as_such() -> None:
    from geoseg.sampling.estimators import Estimate
    from pipeline.sample.estimate import _notes

    row = {"class": "loss", "bias": False, "area": {"value": 100.0, "high": 227.0}}
    (note,) = _notes([row], [Estimate(0.01, 0.0065)])
    assert "2.3 times the estimate" in note
    assert "%" not in note
