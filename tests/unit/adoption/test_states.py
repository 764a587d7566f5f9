"""Weights without a network: what they are weights of, found by names and shapes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import load_file, save_file

from geoseg.adoption.from_weights import adopt_hub_folder
from geoseg.adoption.network_facts import ANY_SIZE, Told
from geoseg.adoption.states import fitting_config, ftw_facts, read_state
from geoseg.errors import ConfigError, ModelError

TOLD = Told(bands=("a", "b", "c"), classes=("x", "y"), gsd=ANY_SIZE)


def saved(network: torch.nn.Module, path: Path, prefix: str = "") -> Path:
    save_file({prefix + key: value.contiguous() for key, value in network.state_dict().items()}, path)
    return path


def test_a_checkpoint_of_torchgeo_names_its_network(tmp_path: Path) -> None:
    path = saved(
        smp.Unet("efficientnet-b3", encoder_weights=None, in_channels=8, classes=3), tmp_path / "ftw.safetensors", "model."
    )
    save_file(load_file(path) | {"criterion.weight": torch.ones(3)}, path)
    state = read_state(path)
    config = fitting_config(path, state)
    assert (config.title, config.in_channels, config.classes) == ("unet/efficientnet-b3", 8, 3)
    told = ftw_facts(3)
    assert told.bands == ("red@1", "green@1", "blue@1", "nir@1", "red@2", "green@2", "blue@2", "nir@2")
    assert told.classes == ("background", "field", "boundary")
    with pytest.raises(ConfigError, match="4 classes; Fields of The World has 2 or 3"):
        ftw_facts(4)


@pytest.mark.parametrize(("make", "title"), [(smp.Unet, "unet/resnet34"), (smp.FPN, "fpn/resnet34")])
def test_networks_are_told_apart(tmp_path: Path, make: type, title: str) -> None:
    path = saved(make("resnet34", encoder_weights=None, in_channels=4, classes=2), tmp_path / "w.safetensors")
    state = read_state(path)
    assert fitting_config(path, state).title == title
    with pytest.raises(ConfigError, match=r"\d+ of its weights are not those of unet/resnet18"):
        fitting_config(path, state, "unet", "resnet18")
    del state["encoder.layer1.0.conv1.weight"]
    with pytest.raises(ModelError, match="no network is known"):
        fitting_config(path, state, title.split("/", maxsplit=1)[0])
    with pytest.raises(ModelError, match=r"no segmentation_head\.0\.weight"):
        fitting_config(path, {"conv.weight": torch.zeros(1)})


def test_a_folder_of_the_hub_gives_the_same_probabilities(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = smp.Unet("resnet18", encoder_weights=None, in_channels=3, classes=2, decoder_channels=(64, 32, 16, 8, 8)).eval()
    source, out = tmp_path / "source", tmp_path / "out"
    network.save_pretrained(source)
    out.mkdir()
    weights = source / "model.safetensors"
    with pytest.raises(ConfigError, match=r"scale=255.*activation="):
        adopt_hub_folder(weights, TOLD, out, "Someone's U-Net")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"encoder_weights": "imagenet", "activation": "softmax2d"}))
    made = adopt_hub_folder(weights, TOLD, out, "Someone's U-Net")
    card = made.model.card
    assert (card.name, card.license, card.activation, card.data_type) == ("someone-s-u-net", "MIT", "softmax", "uint8")
    assert [s.mean for s in card.scaling] == pytest.approx([123.675, 116.28, 103.53])
    image = np.random.default_rng(0).standard_normal((1, 3, 64, 96)).astype(np.float32)
    with torch.inference_mode():
        wanted = network(torch.from_numpy(image)).softmax(dim=1).numpy()
    np.testing.assert_allclose(made.original(image), wanted, atol=1e-6)
    assert load_file(out / "model.safetensors").keys() == load_file(weights).keys()
    (source / "config.json").write_text(json.dumps(config | {"encoder_name": "../../etc"}))
    with pytest.raises(ModelError, match="is not a name"):
        adopt_hub_folder(weights, TOLD, out, "x")
    del config["_model_class"]
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="no _model_class"):
        adopt_hub_folder(weights, TOLD, out, "x")
