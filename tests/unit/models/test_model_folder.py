"""Model folders: saved, checked, identified; nothing that could run code is read."""

from __future__ import annotations

import json
import pickle
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hub_stand_in import hub_of
from support import LIMIT_S, ROOT

from geoseg.errors import ModelError
from geoseg.models.card import Card
from geoseg.models.model_folder import Model, load_model, shipped_models


@pytest.fixture
def copy(forest: Model, tmp_path: Path) -> Path:
    return Path(shutil.copytree(forest.path, tmp_path / "model"))


def test_the_shipped_model(forest: Model) -> None:
    assert shipped_models() == ("amazon-forest", "buildings")
    assert sum(path.stat().st_size for path in forest.path.parent.rglob("*") if path.is_file()) < 20e6
    for name in shipped_models():
        card = load_model(name).card
        text = (forest.path.parent / name / "README.md").read_text()
        assert all(source["license"].split("-")[0] in text for source in card.to_json()["geoseg"]["data"])
    assert [c.name for c in forest.card.classes] == ["non-forest", "forest"]
    assert "mean IoU" in (forest.path / "README.md").read_text()
    document = forest.card.to_json()
    assert document["mlm:input"][0]["bands"] == ["red", "green", "blue"]
    assert document["mlm:output"][0]["result"]["shape"] == [-1, 2, -1, -1]


@pytest.mark.parametrize("name", shipped_models())
def test_shipped_weights_have_learned_only_from_what_allows_it(name: str) -> None:
    """The card's sources are the recipe's and that of its first weights, under licences for any use; its data are of these."""
    recipe = tomllib.loads((ROOT / "benchmarks" / "recipes" / f"{name.replace('-', '_')}.toml").read_text())
    sources = [(source.name, source.license) for source in load_model(name).card.data]
    named = [(source["name"], source["license"]) for source in recipe["sources"]]
    weights = [source for source in sources if "ImageNet" in source[0]]
    assert sources == [*(source for source in named if source not in weights), *weights]
    assert len(weights) == 1
    assert {terms for _, terms in sources} <= {"CC-BY-4.0", "ODbL-1.0", "Apache-2.0"}
    paths = [path for table in recipe["data"] for path in (*table["images"], table["labels"])]
    allowed = {"amazon_forest": "Amazon and Atlantic Forest", "kampala_buildings": "Kampala", "banepa_buildings": "Banepa"}
    folders = {path.split("shared/data/")[1].split("/")[0] for path in paths}
    assert folders <= allowed.keys()
    assert all(any(allowed[folder] in source for source, _ in sources) for folder in folders)
    assert recipe["init"]["weights"].split("/")[-1] == "efficientnet_lite0.safetensors"


def test_its_accuracy_on_scenes_that_it_has_not_seen(forest: Model, shared: Path) -> None:
    """Measured with torchmetrics, through the ONNX file alone."""
    import rasterio
    import torch
    from torchmetrics.classification import MulticlassJaccardIndex

    metric = MulticlassJaccardIndex(2, average="macro", ignore_index=255)
    session = onnxruntime.InferenceSession(str(forest.onnx))
    mean, deviation = (
        np.array([getattr(s, key) for s in forest.card.scaling], np.float32)[:, None, None] for key in ("mean", "stddev")
    )
    folder = shared / "data" / "amazon_forest" / "val"
    for path in sorted((folder / "images").glob("*.tif")):
        with rasterio.open(path) as image, rasterio.open(folder / "masks" / path.name) as mask:
            scores = session.run(None, {"image": ((image.read().astype(np.float32) - mean) / deviation)[None]})[0]
            metric.update(torch.from_numpy(scores.argmax(1)), torch.from_numpy(mask.read(1).astype(np.int64))[None])
    stated = float((forest.path / "README.md").read_text().split("**mean IoU ")[1].split("**")[0])
    assert float(metric.compute()) == pytest.approx(stated, abs=0.002)
    assert stated >= 0.85


def test_identity_is_that_of_the_files(copy: Path, forest: Model) -> None:
    assert load_model(str(copy)).sha256 == forest.sha256
    (copy / "README.md").write_text("another text")
    assert load_model(str(copy)).sha256 == forest.sha256
    card = json.loads((copy / "card.json").read_text())
    card["geoseg"]["gsd_m"] = 20.0
    (copy / "card.json").write_text(json.dumps(card))
    assert load_model(str(copy)).sha256 != forest.sha256


def break_truncated(folder: Path) -> None:
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-9])


def break_other(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.safetensors").write_bytes(data)


def break_card(folder: Path) -> None:
    card = json.loads((folder / "card.json").read_text())
    card["geoseg"]["classes"].append({"value": 7, "name": "x", "color": "#000000"})
    (folder / "card.json").write_text(json.dumps(card))


def break_threshold(folder: Path) -> None:
    card = json.loads((folder / "card.json").read_text())
    card["geoseg"]["thresholds"] = [0.5, 1.5]
    (folder / "card.json").write_text(json.dumps(card))


def break_missing(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (break_truncated, "truncated or changed"),
        (break_other, "safetensors"),
        (break_card, "without a gap"),
        (break_threshold, "thresholds"),
        (break_missing, "no weights"),
    ],
)
def test_damage_is_found(copy: Path, damage, words: str) -> None:
    damage(copy)
    with pytest.raises(ModelError, match=words):
        load_model(str(copy))


class Canary:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("import pathlib; pathlib.Path(CANARY).touch()",))


@pytest.mark.parametrize("name", ["model.pt", "model.pkl", "model.ckpt"])
def test_no_pickle_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(pickle.dumps(Canary()))
    with pytest.raises(ModelError, match="pickle"):
        load_model(str(tmp_path / name))
    with pytest.raises(ModelError, match="pickles are never read"):
        load_model(str(tmp_path))


def test_deepness_reads_the_same_file(forest: Model) -> None:
    metadata = onnxruntime.InferenceSession(str(forest.onnx)).get_modelmeta().custom_metadata_map
    values = {key: json.loads(text) for key, text in metadata.items()}
    assert values["model_type"] == "Segmentor"
    assert values["class_names"] == {"0": "non-forest", "1": "forest"}
    assert values["resolution"] == 1000
    # Deepness divides by 255 first.
    assert np.multiply(values["standardization_mean"], 255) == pytest.approx([s.mean for s in forest.card.scaling])


@pytest.mark.parametrize(
    ("architecture", "encoder", "is_global"),
    [("unet", "resnet18", False), ("deeplabv3plus", "resnet18", True), ("fpn", "timm-efficientnet-b0", True)],
)
def test_any_architecture_is_saved_and_exported(tmp_path: Path, architecture: str, encoder: str, is_global: bool) -> None:
    torch = pytest.importorskip("torch")
    from geoseg.models.networks.build import build_network
    from geoseg.models.networks.config import NetworkConfig
    from geoseg.models.saving import save_model

    config = NetworkConfig(architecture, encoder, 4, 3, {})
    network = build_network(config)
    facts = {
        "name": "x",
        "description": "x",
        "license": "Apache-2.0",
        "bands": ["red", "green", "blue", "nir"],
        "scaling": [{"mean": 50, "stddev": 20}] * 4,
        "classes": [{"value": i, "name": f"c{i}", "color": "#00ff00"} for i in range(3)],
    }
    model = save_model(network, config, tmp_path / "m", facts)
    assert model.card.global_context == is_global
    if architecture == "unet":
        assert model.card.exact_halo == 320
    image = np.random.default_rng(0).normal(size=(2, 4, 128, 192)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(model.onnx))
    with torch.inference_mode():
        expected = network.eval()(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(session.run(None, {"image": image})[0], expected, atol=2e-3)


@pytest.fixture
def hub(copy: Path) -> Iterator[str]:
    (copy / "evil.pkl").write_bytes(pickle.dumps(Canary()))
    with hub_of(copy) as address:
        yield address


def test_models_on_the_hub(hub: str, forest: Model, tmp_path: Path) -> None:
    """The real client of the hub against a local stand-in; the second time from its cache."""
    import subprocess
    import sys

    code = (
        "import sys\nfrom geoseg.models.model_folder import load_model\nfrom geoseg.errors import ModelError\n"
        "try:\n    m = load_model(sys.argv[1])\n    print(m.sha256, sorted(p.name for p in m.path.iterdir()))\n"
        "except ModelError as e:\n    print('refused:', e)"
    )
    env = {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_TELEMETRY": "1", "PATH": "/usr/bin:/bin"}

    def load(name: str, **more: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, name], capture_output=True, text=True, env=env | more, timeout=LIMIT_S, check=False
        )
        return done.stdout + done.stderr[-2000:]

    said = load("someone/forest")
    assert forest.sha256 in said
    assert "evil.pkl" not in said
    assert forest.sha256 in load("someone/forest", HF_HUB_OFFLINE="1")
    assert "refused" in load("someone/else")


def test_cards_are_closed() -> None:
    with pytest.raises(Exception, match="colour"):
        Card.model_validate({"name": "x", "colour": "red"})
