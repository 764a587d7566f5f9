"""Weights of satellites by name: their files as their sources make them, from a stand-in of the hub, and what they bring."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hub_stand_in import hub_of_repositories
from support import LIMIT_S

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
torchvision = pytest.importorskip("torchvision")

from geoseg.errors import ConfigError, ModelError  # noqa: E402
from geoseg.models.networks.build import build_network  # noqa: E402
from geoseg.models.networks.config import NetworkConfig  # noqa: E402
from geoseg.models.networks.pretrained import load_weights  # noqa: E402
from geoseg.models.weights.known_weights import KNOWN, known_weights  # noqa: E402
from geoseg.models.weights.weight_facts import weight_facts  # noqa: E402
from geoseg.training.data.statistics import Statistics  # noqa: E402
from pipeline.train.planning import plan_training  # noqa: E402
from pipeline.train.recipe import Recipe  # noqa: E402

SMALL: dict[str, Any] = {"embed_dim": 24, "depths": [2, 2, 2, 2], "num_heads": [2, 2, 4, 4]}
CHILD = """
import sys
from dataclasses import replace
from geoseg.models.networks import pretrained
from geoseg.models.weights import known_weights as known
# The random weights of a test have a hash of their own, which the name of a file of the hub ends with.
known.KNOWN = [replace(one, file=sys.argv[2]) if one.file == sys.argv[1] else one for one in known.KNOWN]
from pipeline.cli import main
main(sys.argv[3:])
"""
RECIPE = """
name = "tiny"
description = "made by a test"
license = "MIT"
bands = ["red", "nir", "green", "ndvi"]
data_type = "uint16"
gsd_m = 10
[[classes]]
name = "other"
color = "#e8d8a0"
[[classes]]
name = "forest"
color = "#1a7837"
[[data]]
images = ["scenes"]
labels = "labels"
[split]
val = 0.5
[network]
encoder = "resnet18"
parameters = { encoder_depth = 3, decoder_channels = [16, 8, 8] }
[init]
weights = "sentinel2-all-moco"
encoder_rate = 0
[sample]
chip = 64
batch = 2
[loop]
steps = 2
check = 2
[calibrate]
method = "none"
"""


def test_the_table_says_of_each_what_a_training_needs() -> None:
    assert len({(one.encoder, one.name) for one in KNOWN}) == len(KNOWN) > 40
    for one in KNOWN:
        assert re.fullmatch(r"[0-9a-f]{40}", one.revision)
        assert re.fullmatch(r"[0-9a-f]{8}", one.digest)
        assert len({*one.bands}) == len(one.bands)
        # In some numbers each band that reflects light has a scale.
        units = (("uint8", False), ("uint16", False), ("float32", True))
        for band in one.bands:
            assert any(one.scaling(band, kind, physical=physical) for kind, physical in units)


@pytest.mark.parametrize(
    ("name", "encoder", "band", "data_type", "mean", "deviation"),
    [
        # The numbers of the transforms that torchgeo has beside the weights.
        ("SENTINEL2_ALL_MOCO", "resnet50", "swir22", "uint16", 0, 10_000),
        ("SENTINEL2_SI_MS_SATLAS", "tu-swinv2_tiny_window8_256", "rededge1", "uint16", 0, 8160),
        ("LANDSAT_SI_SATLAS", "tu-swinv2_base_window8_256", "nir", "uint16", 4000, 16_320),
        ("NAIP_RGB_SI_SATLAS", "tu-swinv2_base_window8_256", "red", "uint8", 0, 255),
        ("LANDSAT_OLI_SR_MOCO", "tu-vit_small_patch16_224", "coastal", "uint8", 0, 255),
        # And of the script that made the images of SSL4EO-L: (0 + 0.2) / 2.75e-5 to (0.3 + 0.2) / 2.75e-5.
        ("LANDSAT_OLI_SR_MOCO", "resnet18", "nir", "uint16", 0.2 / 2.75e-5, 0.3 / 2.75e-5),
    ],
)
def test_numbers_are_those_of_the_source(
    name: str, encoder: str, band: str, data_type: str, mean: float, deviation: float
) -> None:
    known = known_weights(name.lower().replace("_", "-"), encoder)
    assert known is not None
    assert known.scaling(band, data_type, physical=False) == pytest.approx((mean, deviation))
    assert known.scaling("ndvi", data_type, physical=False) is None


def test_names_of_other_encoders_are_refused() -> None:
    assert known_weights("imagenet", "resnet18") is None
    with pytest.raises(ModelError, match=r"not for resnet34; take one of these encoders"):
        known_weights("SENTINEL2_ALL_MOCO", "resnet34")
    with pytest.raises(ModelError, match=r"for that there are SENTINEL2_SI_MS_SATLAS, SENTINEL2_SI_RGB_SATLAS"):
        known_weights("SENTINEL2_ALL_MOCO", "resnet152")


def test_swin_of_torchvision_computes_the_same_in_timm(tmp_path: Path) -> None:
    """SatlasPretrain keeps torchvision's names, with two wrappers in front of them."""
    from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2

    torch.manual_seed(3)
    theirs = SwinTransformer(
        [4, 4], 24, [2, 2, 2, 2], [2, 2, 4, 4], [8, 8], block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2
    ).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    path = tmp_path / "sentinel2_swint_si_rgb.pth"
    torch.save(OrderedDict((f"backbone.backbone.{key}", value) for key, value in theirs.state_dict().items()), path)
    config = NetworkConfig("unet", "tu-swinv2_tiny_window8_256", 3, 2, SMALL)
    ours = build_network(config).eval()
    loaded = load_weights(ours, str(path), config=config, bands=("red", "green", "blue"))
    assert not [name for name in loaded.fresh if name.startswith("encoder.")]
    assert {name.partition(".")[0] for name in loaded.unused} == {"norm", "head"}
    # Of this size no level is one window, which torchvision does not shift.
    image = torch.randn(1, 3, 512, 512)
    wanted, x = [], image
    with torch.inference_mode():
        for number, layer in enumerate(theirs.features):
            x = layer(x)
            wanted += [x.permute(0, 3, 1, 2)] if number % 2 else []
        for a, b in zip(ours.encoder(image)[2:], wanted, strict=True):
            torch.testing.assert_close(a, b, atol=2e-4, rtol=2e-4)


def scenes(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for part in ("scenes", "labels"):
        (folder / part).mkdir()
    for k in range(2):
        facts: dict[str, Any] = {"driver": "GTiff", "height": 96, "width": 96, "crs": "EPSG:32621"}
        facts["transform"] = rasterio.transform.from_origin(5e5 + 2e3 * k, 9e6, 10, 10)
        labels = rng.integers(0, 2, (12, 12), np.uint8).repeat(8, 0).repeat(8, 1)
        with rasterio.open(folder / f"scenes/{k}.tif", "w", count=4, dtype="uint16", **facts) as file:
            file.write((500 + 2000 * labels.astype(np.int64) + rng.integers(0, 300, (4, 96, 96))).astype(np.uint16))
            file.descriptions = ("red", "nir", "green", "ndvi")
        with rasterio.open(folder / f"labels/{k}.tif", "w", count=1, dtype="uint8", **facts) as file:
            file.write(labels, 1)


@pytest.mark.slow
def test_a_training_begins_with_weights_of_ssl4eo(tmp_path: Path) -> None:
    known = known_weights("SENTINEL2_ALL_MOCO", "resnet18")
    assert known is not None
    # As torchgeo makes its files: the state of a resnet of timm, a pickle of tensors alone.
    torch.manual_seed(1)
    state = timm.create_model("resnet18", in_chans=13, num_classes=0).state_dict()
    folder = tmp_path / "hub" / known.repo / known.revision
    folder.mkdir(parents=True)
    torch.save(OrderedDict(state), folder / known.file)
    digest = hashlib.sha256((folder / known.file).read_bytes()).hexdigest()[:8]
    named = known.file.replace(known.digest, digest)
    (folder / named).write_bytes((folder / known.file).read_bytes())
    scenes(tmp_path)
    (tmp_path / "train.toml").write_text(RECIPE)
    out = tmp_path / "model"
    with hub_of_repositories(tmp_path / "hub") as (address, asked):
        env = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_TELEMETRY": "1"}

        def trained(*more: str, file: str = named) -> subprocess.CompletedProcess[str]:
            command = [
                sys.executable,
                "-W",
                "ignore",
                "-c",
                CHILD,
                known.file,
                file,
                "train",
                str(tmp_path / "train.toml"),
                *more,
            ]
            return subprocess.run(command, capture_output=True, text=True, env=env, timeout=LIMIT_S, check=False)

        # Other bytes than those that are known.
        done = trained("--out", str(tmp_path / "none"), file=known.file)
        assert done.returncode != 0
        assert f"its sha256 begins with {digest}, not with {known.digest}" in done.stderr
        done = trained("--out", str(out))
    assert done.returncode == 0, done.stderr
    assert f"HEAD {known.repo}/{named}" in asked
    card = json.loads((out / "card.json").read_text())["geoseg"]
    assert card["data"] == [{"name": known.source, "license": "CC-BY-4.0", "attribution": ""}]
    assert card["license"] == "MIT"
    assert [pair["stddev"] for pair in card["scaling"]][:3] == [10_000] * 3
    # A band that is new to them is normalized as the data are.
    assert card["scaling"][3]["stddev"] < 2000
    notes = json.loads((out / "training/validation.json").read_text())["notes"]
    assert "red, nir, green read their own kernels; ndvi begin as the mean of all; kernels of coastal, blue, " in notes[0]
    # The encoder was frozen: its first convolution is that of the file, by the names of bands.
    from safetensors.torch import load_file

    first = state["conv1.weight"]
    places = [known.bands.index(band) for band in ("red", "nir", "green")]
    wanted = torch.cat([first[:, places], first.mean(1, keepdim=True)], 1) * 13 / 4
    found = load_file(out / "model.safetensors")["encoder.conv1.weight"].float()
    torch.testing.assert_close(found, wanted.half().float())


def recipe(**more: Any) -> Recipe:
    classes = [{"name": "a", "color": "#000000"}, {"name": "b", "color": "#ffffff"}]
    base = {"name": "x", "description": "x", "bands": ["red", "green", "blue"], "classes": classes, "data": [{"images": ["x"]}]}
    return Recipe.parse({**base, **more})


def test_numbers_of_the_weights_are_taken_where_nothing_else_is_said() -> None:
    known = {"init": {"weights": "SENTINEL2_RGB_MOCO"}, "network": {"encoder": "resnet18"}}
    assert recipe(**known).normalize == "weights"
    assert recipe(**known, normalize="data").normalize == "data"
    assert recipe(init={"weights": "imagenet"}).normalize == "data"
    with pytest.raises(ConfigError, match=r"normalize: weights, but there are none"):
        recipe(normalize="weights")
    from pipeline.train.measured import Measured

    measured = Measured(Statistics((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), 20, (10, 10)), None, None, ())

    def stddev(**more: Any) -> tuple[float, ...]:
        return plan_training(recipe(**more), measured).preparation.stddev

    assert stddev(**known, data_type="uint16") == (10_000, 10_000, 10_000)
    assert stddev(**known, data_type="float32", physical=True) == (1, 1, 1)
    with pytest.raises(ConfigError, match=r"SENTINEL2_RGB_MOCO does not say how images of the type uint8"):
        stddev(**known)
    dinov3 = {"init": {"weights": "sat493m"}, "network": {"architecture": "dpt", "encoder": "tu-vit_large_patch16_dinov3"}}
    assert stddev(**dinov3, normalize="weights") == (54.315, 39.78, 36.465)
    assert stddev(**dinov3) == (4, 5, 6)
    facts = weight_facts("sat493m", "tu-vit_large_patch16_dinov3", "uint8", physical=False)
    assert (facts.source, facts.license) == ("weights timm/vit_large_patch16_dinov3.sat493m of timm", "dinov3-license")


def test_a_typing_error_in_a_name_is_answered_with_the_names_there_are() -> None:
    config = NetworkConfig("unet", "resnet18", in_channels=3, classes=2)
    with pytest.raises(ModelError, match=r"'SENTINEL2_ALL_MOCCO'.*for it are .*SENTINEL2_ALL_MOCO, SENTINEL2_RGB_MOCO$"):
        load_weights(build_network(config), "SENTINEL2_ALL_MOCCO", config=config, bands=("red", "green", "blue"))
