"""``geoseg adopt`` and ``geoseg models``: a stranger's network as a model that maps, and the list of what there is."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from hub_stand_in import hub_of
from safetensors.torch import save_file
from strange_networks import export, network
from support import LIMIT_S, ROOT, call_cli, run_cli
from torch import nn

import geoseg
from geoseg.models.model_folder import SHIPPED, load_model
from pipeline.adopt.model_list import list_models

METADATA = {
    "model_type": "Segmentor",
    "class_names": {0: "background", 1: "forest"},
    "resolution": 1000,
    "standardization_mean": [0.3, 0.3, 0.3],
    "standardization_std": [0.2, 0.2, 0.2],
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scenes") / "scene.tif"
    data = np.random.default_rng(0).integers(0, 256, (3, 300, 420), np.uint8)
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)}
    with rasterio.open(path, "w", driver="GTiff", dtype="uint8", count=3, height=300, width=420, **place) as dataset:
        dataset.write(data)
        dataset.colorinterp = [rasterio.enums.ColorInterp[name] for name in ("red", "green", "blue")]
    return path


def test_a_file_of_the_plugin_maps_a_scene(scene: Path, tmp_path: Path) -> None:
    module = network(2, nn.Softmax(dim=1))
    source = export(module, tmp_path / "forest.onnx", fixed=64, **METADATA)
    out = tmp_path / "models" / "forest"
    out.parent.mkdir()
    done = call_cli(["adopt", source, "--out", out, "--images", scene, "--license", "CC-BY-4.0"])
    assert done.returncode == 0, done.stderr
    assert "differ from the original's by" in done.stdout
    record = json.loads((out / "adoption.json").read_text())
    assert record["compared_on"] == "1 part of 1 image"
    assert record["largest_difference"] < 1e-5
    assert record["source"] == "forest.onnx"
    assert "| Largest difference of a probability" in (out / "README.md").read_text()
    done = call_cli(["segment", scene, "--model", out, "--out", tmp_path / "map", "--tile", "128", "--halo", "exact"])
    assert done.returncode == 0, done.stderr
    with rasterio.open(scene) as dataset:
        image = (dataset.read() / 255 - 0.3) / 0.2
    # The whole scene at once, in torch, is the oracle; its sides are multiples of the stride.
    padded = image[None].astype(np.float32)
    with torch.inference_mode():
        wanted = module(torch.from_numpy(padded))[0].numpy()
    with rasterio.open(tmp_path / "map" / "scene" / "classes.tif") as dataset:
        found = dataset.read(1)
    sure = np.abs(wanted[0] - wanted[1]) > 1e-4
    np.testing.assert_array_equal(found[sure], wanted.argmax(axis=0)[sure])
    assert sure.mean() > 0.99
    listed = json.loads(call_cli(["models", tmp_path / "models", "--json"]).stdout)
    assert {one["model"]: one["where"] for one in listed} == {
        "amazon-forest": "shipped",
        "buildings": "shipped",
        str(out): "adopted",
    }
    assert listed[-1]["license"] == "CC-BY-4.0"
    # What is there stays; a folder that is damaged is listed with the reason.
    assert call_cli(["adopt", source, "--out", out]).returncode == 2
    (out / "card.json").write_text("{}")
    table = call_cli(["models", tmp_path / "models"]).stdout
    assert "not a model card" in table
    assert call_cli(["models", tmp_path / "nowhere"]).returncode == 2


def of_original(source: Path, image: np.ndarray) -> np.ndarray:
    """Classes (h, w) of an image (3, h, w) of the one size that a file takes, by ONNX Runtime itself."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(source))
    normal = ((image / 255 - 0.3) / 0.2).astype(np.float32)
    return session.run(None, {"input": normal[None]})[0][0].argmax(axis=0)


def test_a_network_of_one_size_runs_in_tiles_of_that_size(scene: Path, tmp_path: Path) -> None:
    source = export(network(2, nn.Softmax(dim=1), side=96), tmp_path / "forest.onnx", fixed=96, **METADATA)
    out = tmp_path / "forest"
    done = run_cli(["adopt", source, "--out", out, "--images", scene])
    assert done.returncode == 0, done.stderr
    assert (
        "note: it takes images of 96 x 96 px only, so that all tiles are such: 64 px and a halo of 16 px, which was measured"
        in (done.stdout)
    )
    maps = []
    for chunk in (256, 448):
        folder = tmp_path / f"map {chunk}"
        done = run_cli(["segment", scene, "--model", out, "--out", folder, "--chunk", str(chunk)])
        assert done.returncode == 0, done.stderr
        with rasterio.open(folder / "scene" / "classes.tif") as dataset:
            maps.append(dataset.read(1))
    np.testing.assert_array_equal(*maps)
    with rasterio.open(scene) as dataset:
        data = dataset.read()
    # The whole scene at once, in torch, by the same network without its one size.
    with torch.inference_mode():
        normal = torch.from_numpy(((data / 255 - 0.3) / 0.2)[None].astype(np.float32))
        wanted = network(2, nn.Softmax(dim=1))(normal)[0].numpy()
    sure = np.abs(wanted[0] - wanted[1]) > 1e-4
    assert sure.mean() > 0.99
    np.testing.assert_array_equal(maps[0][sure], wanted.argmax(axis=0)[sure])
    # And a chip of one tile by ONNX Runtime, but for what its own edges reach: the last one, which was moved inward.
    np.testing.assert_array_equal(maps[0][-80:, -80:], of_original(source, data[:, -96:, -96:])[16:, 16:])
    done = run_cli(["segment", scene, "--model", out, "--out", tmp_path / "none", "--tile", "128"])
    assert done.returncode == 2
    assert "takes images of 96 px only" in done.stderr
    done = run_cli(["segment", scene, "--model", out, "--out", tmp_path / "none", "--halo", "64"])
    assert done.returncode == 2
    assert "grid.halo: 64, but forest takes images of 96 px only; use at most 44, or exact" in done.stderr


def test_a_scene_smaller_than_the_one_size_is_filled_up(scene: Path, tmp_path: Path) -> None:
    source = export(network(2, nn.Softmax(dim=1), side=96), tmp_path / "forest.onnx", fixed=96, **METADATA)
    assert run_cli(["adopt", source, "--out", tmp_path / "forest", "--halo", "20"]).returncode == 0
    small = tmp_path / "small.tif"
    with rasterio.open(scene) as dataset:
        data = dataset.read(window=rasterio.windows.Window(0, 0, 50, 41))
        with rasterio.open(small, "w", **dataset.profile | {"height": 41, "width": 50}) as file:
            file.write(data)
            file.colorinterp = dataset.colorinterp
    done = run_cli(["segment", small, "--model", tmp_path / "forest", "--out", tmp_path / "map"])
    assert done.returncode == 0, done.stderr
    with rasterio.open(tmp_path / "map" / "small" / "classes.tif") as dataset:
        found = dataset.read(1)
    filled = np.pad(data, ((0, 0), (0, 55), (0, 46)), mode="edge")
    np.testing.assert_array_equal(found, of_original(source, filled)[:41, :50])


def test_pickles_and_what_is_no_network_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "weights.pth").write_bytes(pickle.dumps({"weight": 1}))
    for source in (folder / "weights.pth", folder):
        done = call_cli(["adopt", source, "--out", tmp_path / "out"])
        assert done.returncode == 2
        assert "pickle" in done.stderr
        assert "docs/adopting.md" in done.stderr
    save_file({"conv.weight": torch.zeros(1)}, folder / "other.safetensors")
    done = call_cli(["adopt", folder / "other.safetensors", "--out", tmp_path / "out"])
    assert "no segmentation_head.0.weight" in done.stderr
    (folder / "text.txt").write_text("x")
    assert "neither an ONNX nor a safetensors file" in call_cli(["adopt", folder / "text.txt"]).stderr
    assert not (tmp_path / "out").exists()


def test_what_does_not_fit_the_network_is_refused(tmp_path: Path) -> None:
    """In a sentence that names the option, and never passed over."""
    few = export(network(3, nn.Softmax(dim=1)), tmp_path / "few.onnx")
    many = export(network(300, nn.Softmax(dim=1)), tmp_path / "many.onnx")
    facts = {"bands": ["red", "green", "blue"], "classes": ["a", "b", "c"], "gsd": 10, "scale": 255}
    for source, wrong, sentence in (
        (few, {"bands": ["red", "red", "blue"]}, "bands: a name is there twice in red, red, blue"),
        (few, {"name": "../x"}, "name: '../x': take small letters"),
        (few, {"value_range": [9, 1]}, "value_range: 9,1 is no range"),
        (few, {"value_range": [0, float("nan")]}, "value_range: "),
        (few, {"preset": "ftw"}, "preset: tells nothing of an ONNX file; leave it out"),
        (few, {"images": [str(tmp_path / "none.tif")]}, f"images: {tmp_path / 'none.tif'}: no such file or folder"),
        (few, {"images": [str(tmp_path / "none" / "*.tif")]}, "images: '"),
        (few, {"largest_object": 9}, "largest_object: tells nothing of an ONNX file"),
        (many, {"classes": [str(k) for k in range(300)]}, "gives 300 scores a pixel; maps hold 254 classes at most"),
    ):
        with pytest.raises(geoseg.GeosegError, match=re.escape(sentence)):
            geoseg.adopt(source, out=tmp_path / "out", **(facts | wrong))
    assert not (tmp_path / "out").exists()


def test_a_table_of_models_stays_narrow(tmp_path: Path) -> None:
    source, names = export(network(100, nn.Softmax(dim=1)), tmp_path / "many.onnx"), [f"class-{k}" for k in range(100)]
    geoseg.adopt(source, out=tmp_path / "many", bands=["red", "green", "blue"], classes=names, gsd=10, scale=255)
    assert "class-12,… (100)" in call_cli(["models", tmp_path]).stdout
    (tmp_path / "none").mkdir()
    done = call_cli(["models", tmp_path / "none"])
    assert done.returncode == 0
    assert f"{tmp_path / 'none'}: holds no model folder down to 2 levels" in done.stderr
    listed = json.loads(call_cli(["models", tmp_path, "--json"]).stdout)
    assert next(one for one in listed if one["name"] == "many")["classes"] == names


def test_a_folder_that_may_not_be_looked_into_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As ``lost+found`` of a disk; the user of tests may be root, who may look into all."""
    (tmp_path / "closed").mkdir()
    shutil.copytree(SHIPPED / "buildings", tmp_path / "open" / "buildings")
    inside = Path.iterdir

    def refused(self: Path) -> Iterator[Path]:
        if self.name == "closed":
            raise PermissionError(13, "Permission denied", str(self))
        return inside(self)

    monkeypatch.setattr(Path, "iterdir", refused)
    assert str(tmp_path / "open" / "buildings") in [one.model for one in list_models([tmp_path])]
    assert f"{tmp_path / 'closed'}: can't be looked through: Permission denied" in caplog.text


def test_the_verb_of_python(tmp_path: Path) -> None:
    source = export(network(3), tmp_path / "plain.onnx")
    with pytest.raises(geoseg.GeosegError, match="bands=red,green,blue"):
        geoseg.adopt(source, out=tmp_path / "out")
    facts = {"bands": ["red", "green", "blue"], "classes": ["a", "b", "c"], "gsd": 10, "scale": 255, "activation": "softmax"}
    done = geoseg.adopt(source, out=tmp_path / "out", background="a", **facts)
    assert done.model.card.gsd_m == 10
    assert [c.background for c in done.model.card.classes] == [True, False, False]
    assert done.record["compared_on"] == "noise"


@pytest.mark.slow
def test_the_converter_of_the_page_makes_weights_of_a_checkpoint(tmp_path: Path) -> None:
    import segmentation_models_pytorch as smp

    page = (ROOT / "docs" / "adopting.md").read_text(encoding="utf-8")
    script = tmp_path / "pickle_to_safetensors.py"
    script.write_text(page.split("```python\n")[1].split("```")[0])
    weights = smp.Unet("resnet18", encoder_weights=None, in_channels=8, classes=2).state_dict()
    checkpoint = {"state_dict": {f"model.{key}": value for key, value in weights.items()}, "epoch": 3}
    torch.save(checkpoint, tmp_path / "task.ckpt")
    subprocess.run([sys.executable, script, tmp_path / "task.ckpt", tmp_path / "ftw.safetensors"], check=True, timeout=LIMIT_S)
    done = geoseg.adopt(tmp_path / "ftw.safetensors", out=tmp_path / "ftw", preset="ftw", license="CC-BY-4.0")
    card = done.model.card
    assert (card.architecture, card.gsd_m, card.data_type) == ("unet/resnet18", 10, "uint16")
    assert {s.stddev for s in card.scaling} == {3000}
    assert done.record["largest_difference"] < 1e-4
    assert not card.global_context


@pytest.mark.slow
def test_a_folder_of_the_hub_by_its_name(tmp_path: Path) -> None:
    """The real client of the hub against a local stand-in; the cache, as the client lays it out, is listed."""
    import segmentation_models_pytorch as smp

    source, home = tmp_path / "source", tmp_path / "home"
    smp.Unet("resnet18", encoder_weights=None, decoder_channels=(32, 16, 8, 8, 8), classes=1).save_pretrained(source)
    (source / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": 1}))
    facts = ["--bands", "red,green,blue", "--classes", "other,road", "--gsd", "0.3", "--scale", "255"]
    with hub_of(source) as address:
        env = {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}
        done = run_cli(["adopt", "someone/forest", "--out", tmp_path / "roads", *facts], env=env)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "roads" / "adoption.json").read_text())
    assert record["source"] == "someone/forest"
    assert record["format"] == "segmentation-models-pytorch"
    assert record["largest_difference"] < 1e-4
    card = load_model(str(tmp_path / "roads")).card
    assert (card.license, card.activation, card.scores, card.value_range) == ("MIT", "sigmoid", 1, (0, 255))
    assert not list(home.rglob("pytorch_model.bin"))
    snapshot = home / "hub" / "models--team--water" / "snapshots" / "1234"
    shutil.copytree(load_model("amazon-forest").path, snapshot)
    listed = json.loads(run_cli(["models", tmp_path, "--json"], env={"HF_HOME": str(home)}).stdout)
    assert ("team/water", "cached") in [(one["model"], one["where"]) for one in listed]
    assert (str(tmp_path / "roads"), "adopted") in [(one["model"], one["where"]) for one in listed]


@pytest.mark.slow
def test_the_file_of_a_shipped_model_gives_its_card_and_is_calibrated(shared: Path, tmp_path: Path) -> None:
    shipped = load_model("amazon-forest")
    images = shared / "data" / "amazon_forest" / "val" / "images"
    labels = images.parent / "masks"
    few = tmp_path / "images"
    few.mkdir()
    for path in sorted(images.glob("*.tif"))[:4]:
        shutil.copy(path, few)
    args = ["adopt", shipped.onnx, "--out", tmp_path / "forest", "--name", "forest", "--activation", "softmax"]
    done = call_cli([*args, "--images", few, "--labels", labels])
    assert done.returncode == 0, done.stderr
    model = load_model(str(tmp_path / "forest"))
    card, before = model.card, shipped.card
    for key in ("receptive_field", "stride", "gsd_m", "bands", "data_type", "activation"):
        assert getattr(card, key) == getattr(before, key), key
    assert [c.name for c in card.classes] == [c.name for c in before.classes]
    np.testing.assert_allclose([s.mean for s in card.scaling], [s.mean for s in before.scaling], rtol=1e-6)
    assert "## Calibration" in (tmp_path / "forest" / "README.md").read_text()
    assert json.loads((tmp_path / "forest" / "adoption.json").read_text())["largest_difference"] == 0
