"""Weights to begin from, and which of them learn."""

from __future__ import annotations

import functools
import itertools
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_stand_in import hub_of_repositories
from hypothesis import given, settings
from hypothesis import strategies as st
from support import LIMIT_S

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402

from geoseg.errors import ModelError  # noqa: E402
from geoseg.models.networks.build import build_network  # noqa: E402
from geoseg.models.networks.config import NetworkConfig  # noqa: E402
from geoseg.models.networks.placement import adapted_kernel, find_places, input_convolutions  # noqa: E402
from geoseg.models.networks.pretrained import load_weights  # noqa: E402
from geoseg.models.weights.checkpoints import read_checkpoint  # noqa: E402
from geoseg.training.transfer.finetuning import Unfreezing, encoder_stages, rate_groups  # noqa: E402

RGB = ("red", "green", "blue")
SMALL: dict[str, Any] = {"decoder_channels": [16, 16, 8, 8, 8]}
ENCODER = "tu-tf_mobilenetv3_small_minimal_100"


def config_of(bands: int = 3, classes: int = 2, encoder: str = ENCODER, **more: Any) -> NetworkConfig:
    return NetworkConfig("unet", encoder, bands, classes, SMALL | more)


def network_of(seed: int, config: NetworkConfig | None = None) -> Any:
    """A network whose statistics of batch normalization are not those that it is born with."""
    torch.manual_seed(seed)
    network = build_network(config or config_of())
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def same(a: Any, b: Any) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def close(a: Any, b: Any) -> bool:
    """Whether two networks gave the same features but for rounding."""
    return all(float((x - y).abs().max()) <= 1e-4 * float(y.abs().max()) for x, y in zip(a, b, strict=True))


def features(network: Any, image: Any) -> list[Any]:
    with torch.no_grad():
        return list(network.encoder(image))[1:]


@pytest.fixture(scope="module")
def old() -> Any:
    return network_of(1)


def test_a_gray_image_gives_one_band_what_it_gave_three(old: Any, tmp_path: Path) -> None:
    save_file(old.state_dict(), tmp_path / "old.safetensors")
    new = network_of(2, config_of(bands=1))
    loaded = load_weights(new, str(tmp_path / "old.safetensors"), config=config_of(bands=1), bands=("gray",))
    assert len(loaded.adapted) == 1
    assert loaded.adapted[0].startswith("encoder.")
    assert not loaded.fresh
    gray = torch.rand(2, 1, 64, 96)
    assert close(features(new, gray), features(old, gray.expand(-1, 3, -1, -1)))


@given(st.permutations(["red", "green", "blue", "nir", "swir", "edge"]), st.integers(0, 3))
def test_kernels_go_to_the_bands_of_their_names(order: list[str], dropped: int) -> None:
    """Equal values in all bands give what they gave; more bands change the share of each, not their proportions."""
    rest = [b for b in order if b not in RGB][dropped:]
    bands = [b for b in order if b in RGB or b in rest]
    kernel = torch.randn(5, 3, 3, 3, dtype=torch.float64)
    adapted = adapted_kernel(kernel, RGB, bands)
    torch.testing.assert_close(adapted.sum(1), kernel.sum(1))
    for i, band in enumerate(RGB):
        torch.testing.assert_close(adapted[:, bands.index(band)] * len(bands) / 3, kernel[:, i])
    if dropped == 3:
        torch.testing.assert_close(adapted, kernel[:, [RGB.index(b) for b in bands]])


def test_the_convolutions_of_the_image_are_found() -> None:
    """Also where another convolution has as many inputs as there are bands: here those of squeeze and excitation."""
    for encoder, bands, number in (("resnet18", 4, 1), ("timm-efficientnet-b0", 8, 1), ("mobileone_s0", 3, 2)):
        found = input_convolutions(build_network(config_of(bands, encoder=encoder)), bands)
        assert len({*found}) == len(found) == number, (encoder, found)
        assert all(name.startswith(("encoder.conv1", "encoder.conv_stem", "encoder.stage0")) for name in found)


def test_the_convolutions_of_the_image_are_found_beside_the_encoder() -> None:
    """A branch at full resolution sees the image, too; unpadded networks take large images only."""
    fine = build_network(NetworkConfig("unet-fine", ENCODER, 4, 2, SMALL))
    assert {*input_convolutions(fine, 4)} == {"encoder.model.conv_stem.weight", "fine.0.weight"}
    unpadded = build_network(NetworkConfig("unet-2015", "", 2, 2, {"width": 4}))
    assert input_convolutions(unpadded, 2) == ("encoder.stages.0.0.weight",)


@pytest.mark.parametrize("wrapper", ["", "module.", "model.", "module.model.", "network.", "module.encoder_q."])
@pytest.mark.parametrize("part", ["network", "encoder", "backbone"])
def test_names_are_found_behind_wrappers(old: Any, wrapper: str, part: str, tmp_path: Path) -> None:
    """Of the whole network, its encoder, and timm's own network, wrapped and nested as programs save them."""
    source = {"network": old, "encoder": old.encoder, "backbone": old.encoder.model}[part]
    state = {wrapper + name: value for name, value in source.state_dict().items()}
    other = {"classifier.weight": torch.zeros(7, 5), "loss.center": torch.zeros(3)}
    torch.save({"epoch": 3, "optimizer": {"state": {}}, "state_dict": state | other}, tmp_path / "a.pth")
    new = network_of(2)
    loaded = load_weights(new, str(tmp_path / "a.pth"), config=config_of(), bands=RGB)
    assert same(new.encoder, old.encoder) or any("num_batches" in k for k in loaded.unused)
    assert same(new, old) == (part == "network")
    assert {*loaded.unused} == {*other}
    assert not loaded.adapted
    assert all(not name.startswith("encoder.") for name in loaded.fresh)


def test_bands_in_another_order_are_put_right(old: Any, tmp_path: Path) -> None:
    save_file(old.state_dict(), tmp_path / "a.safetensors")
    image = torch.rand(1, 3, 64, 64)
    for bands, given_bands in ((("blue", "green", "red"), None), (RGB, ("blue", "green", "red"))):
        new = network_of(2)
        load_weights(new, str(tmp_path / "a.safetensors"), config=config_of(), bands=bands, given_bands=given_bands)
        assert close(features(new, image.flip(1)), features(old, image))
        assert not close(features(new, image), features(old, image))


def test_lists_of_layers_match_in_both_spellings() -> None:
    layers = {"encoder.model.stages_0.blocks.1.weight": torch.zeros(2), "encoder.model.stages_10.weight": torch.zeros(3)}
    found = find_places(layers, {"stages.0.blocks.1.weight": torch.zeros(2), "stages.10.weight": torch.zeros(3)})
    assert not found.missing
    assert not found.unused


def test_the_weights_of_another_network_are_refused_with_counts(old: Any, tmp_path: Path) -> None:
    state = old.encoder.state_dict()
    floats = [name for name in state if not name.endswith("num_batches_tracked")]
    kept = {name: state[name] for name in floats[: int(0.6 * len(floats))]}
    save_file(kept, tmp_path / "part.safetensors")
    new = network_of(2)
    before = {name: value.clone() for name, value in new.state_dict().items()}
    with pytest.raises(ModelError, match=rf"{len(kept)} of {len(floats)} tensors of the encoder.*at least 90%"):
        load_weights(new, str(tmp_path / "part.safetensors"), config=config_of(), bands=RGB)
    assert all(torch.equal(before[name], value) for name, value in new.state_dict().items())
    load_weights(new, str(tmp_path / "part.safetensors"), config=config_of(), bands=RGB, least=0.5)
    save_file(network_of(1, config_of(5)).state_dict(), tmp_path / "five.safetensors")
    with pytest.raises(ModelError, match="first convolution takes 5 bands"):
        load_weights(network_of(1, config_of(4)), str(tmp_path / "five.safetensors"), config=config_of(4), bands=(*RGB, "nir"))


class Canary:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["CANARY"],)


def test_files_that_are_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", str(tmp_path / "it_ran"))
    torch.save({"state_dict": {"w": torch.zeros(2)}, "extra": Canary()}, tmp_path / "evil.pth")
    (tmp_path / "evil.pkl.pt").write_bytes(pickle.dumps(Canary()))
    (tmp_path / "text.pt").write_text("no weights")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    for name, why in {
        "evil.pth": "could run code",
        "evil.pkl.pt": "could run code",
        "text.pt": "could run code, or is damaged",
        "cut.safetensors": "can't be read as safetensors",
        "empty.pt": "holds no tensors",
    }.items():
        with pytest.raises(ModelError, match=why):
            read_checkpoint(tmp_path / name)
    assert not (tmp_path / "it_ran").exists()
    with pytest.raises(ModelError, match="no such file"):
        load_weights(network_of(1), str(tmp_path / "none.pth"), config=config_of(), bands=RGB)
    with pytest.raises(ModelError, match="no such model"):
        load_weights(network_of(1), str(tmp_path / "folder"), config=config_of(), bands=RGB)


def test_a_model_folder_without_its_head(forest: Any) -> None:
    """The shipped model: the same classes take over everything, other ones all but the head."""
    facts = forest.config
    names = tuple(c.name for c in forest.card.classes)
    config = NetworkConfig.from_json(facts)
    image = torch.rand(1, 3, 64, 64)
    whole = build_network(config).eval()
    loaded = load_weights(whole, "amazon-forest", config=config, bands=RGB, classes=names)
    assert not loaded.fresh
    assert not loaded.adapted
    assert "none starts anew" in loaded.note
    for classes in (("water", "land"), ("a", "b", "c")):
        config = NetworkConfig.from_json(facts | {"classes": len(classes)})
        network = build_network(config).eval()
        loaded = load_weights(network, str(forest.path), config=config, bands=RGB, classes=classes)
        assert {*loaded.fresh} == {"segmentation_head.weight", "segmentation_head.bias"}
        whole.segmentation_head = network.segmentation_head
        with torch.no_grad():
            torch.testing.assert_close(network(image), whole(image))
    network = build_network(config)
    loaded = load_weights(network, "amazon-forest", config=config, bands=RGB, whole=False)
    assert all(not name.startswith("encoder.") for name in loaded.fresh)
    assert any(name.startswith("decoder.") for name in loaded.fresh)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """Address, folder and requests of a stand-in of the hub."""
    with hub_of_repositories(tmp_path / "hub") as (address, asked):
        yield address, tmp_path / "hub", asked


CHILD = """
import sys
import torch
from geoseg.errors import ModelError
from geoseg.models.networks.build import build_network
from geoseg.models.networks.config import NetworkConfig
from geoseg.models.networks.pretrained import load_weights
for line in sys.argv[1:]:
    encoder, tag, names = line.split()
    bands = tuple(names.split(","))
    config = NetworkConfig("unet", encoder, len(bands), 2, {"decoder_channels": [16, 16, 8, 8, 8]})
    network = build_network(config)
    try:
        loaded = load_weights(network, tag, config=config, bands=bands)
    except ModelError as error:
        print("refused:", error)
        continue
    first = network.get_parameter(loaded.adapted[0]) if loaded.adapted else next(network.encoder.parameters())
    fresh = sum(name.startswith("encoder.") for name in loaded.fresh)
    print("loaded", fresh, first.shape[1], f"{float(first.double().sum()):.9f}", \
f"{sum(float(p.double().sum()) for p in network.encoder.parameters()):.6f}")
"""


@pytest.mark.slow
def test_weights_of_the_hub(hub: tuple[str, Path, list[str]], tmp_path: Path) -> None:
    """The real clients of both libraries against a stand-in that holds random weights; then from their cache."""
    address, root, asked = hub
    timm = pytest.importorskip("timm")
    torch.manual_seed(5)
    expected = {}
    for encoder, repo, source in (
        ("mobilenet_v2", "smp-hub/mobilenet_v2.imagenet", build_network(config_of(encoder="mobilenet_v2")).encoder),
        (ENCODER, "timm/tf_mobilenetv3_small_minimal_100.in1k", timm.create_model(ENCODER.removeprefix("tu-"))),
    ):
        (root / repo).mkdir(parents=True)
        (root / repo / "config.json").write_text("{}")
        save_file(source.state_dict(), root / repo / "model.safetensors", {"format": "pt"})
        # The same weights as a file: what the hub gives has to be what the file gives.
        network = build_network(config_of(4, encoder=encoder))
        path = root / repo / "model.safetensors"
        first = load_weights(network, str(path), config=config_of(4, encoder=encoder), bands=(*RGB, "nir")).adapted[0]
        total = sum(float(p.detach().double().sum()) for p in network.encoder.parameters())
        expected[encoder] = f"loaded 0 4 {float(network.get_parameter(first).detach().double().sum()):.9f} {total:.6f}"
    env = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_TELEMETRY": "1"}

    def load(*lines: str, **more: str) -> list[str]:
        command = [sys.executable, "-W", "ignore", "-c", CHILD, *lines]
        done = subprocess.run(command, capture_output=True, text=True, env=env | more, timeout=LIMIT_S, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout.splitlines()

    bands = "red,green,blue,nir"
    said = load(
        f"mobilenet_v2 imagenet {bands}",
        f"{ENCODER} imagenet {bands}",
        f"{ENCODER} in1k {bands}",
        f"{ENCODER} in22k {bands}",
        f"mobilenet_v2 advprop {bands}",
        f"mobilenet_v2 someone/none {bands}",
        f"resnet18 imagenet {bands}",
    )
    assert said[:3] == [expected["mobilenet_v2"], expected[ENCODER], expected[ENCODER]]
    assert "in22k" in said[3]
    assert "Available options are: ['imagenet']" in said[4]
    assert all(line.startswith("refused:") for line in said[3:])
    assert "answers with an error" in said[6]
    assert "GET smp-hub/mobilenet_v2.imagenet/model.safetensors" in asked
    lines = (f"mobilenet_v2 imagenet {bands}", f"{ENCODER} imagenet {bands}", f"resnet18 imagenet {bands}")
    first, second, nothing = load(*lines, HF_HUB_OFFLINE="1")
    assert [first, second] == [expected["mobilenet_v2"], expected[ENCODER]]
    assert "the hub can't be reached" in nothing


# Which layers learn


def train_steps(network: Any, before: Any, steps: int, groups: list[dict[str, Any]] | None = None) -> None:
    """Steps of a loop that puts the network into training mode before each."""
    groups = groups or [{"params": list(network.parameters())}]
    optimizer = torch.optim.AdamW([{"params": g["params"]} for g in groups], lr=1e-2, weight_decay=0.1)
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        network.train()
        before(network, step)
        loss = network(torch.rand(2, 3, 64, 64, generator=generator)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def snapshot(network: Any) -> dict[str, Any]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_features_off_the_shelf_stay_to_the_last_bit() -> None:
    """Weights, statistics of batch normalization and their counts; also under dropout and weight decay."""
    torch.manual_seed(0)
    network = build_network(config_of())
    network.encoder.extra = torch.nn.Dropout(0.5)
    before = snapshot(network)
    image = torch.rand(1, 3, 64, 64)
    expected = features(network.eval(), image)
    train_steps(network, Unfreezing.never(network), 3)
    after = snapshot(network)
    assert all(torch.equal(after[name], value) for name, value in before.items() if name.startswith("encoder."))
    changed = [name for name, value in before.items() if not torch.equal(after[name], value)]
    assert {name.split(".")[0] for name in changed} == {"decoder", "segmentation_head"}
    assert len(changed) == sum(not name.startswith("encoder.") for name in before)
    assert all(torch.equal(a, b) for a, b in zip(features(network, image), expected, strict=True))
    assert not network.encoder.training
    assert network.decoder.training


def test_stages_are_unfrozen_one_after_the_other() -> None:
    """A stage changes from its start on and not before, statistics included; from the last step on all do."""
    torch.manual_seed(0)
    network = build_network(config_of(encoder="resnet18"))
    plan = Unfreezing.gradual(network, 5)
    stages = encoder_stages(network)
    assert len(plan.starts) == 5
    assert plan.starts == (5, 4, 3, 2, 1)
    assert not plan.trainable(0)
    assert plan.trainable(5) == plan.trainable(99) == {*stages}
    assert all(plan.trainable(step) < plan.trainable(step + 1) for step in range(5))
    buffers = {name.rpartition(".")[0]: stage for name, stage in stages.items()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network.train()
    for step in range(6):
        before = snapshot(network)
        plan(network, step)
        optimizer.zero_grad()
        network(torch.rand(2, 3, 64, 64)).square().mean().backward()
        optimizer.step()
        for name, value in network.state_dict().items():
            module = name.rpartition(".")[0]
            if module in buffers:
                learns = step >= plan.starts[buffers[module]]
                assert torch.equal(value, before[name]) != learns, (step, name)


@functools.cache
def deep_network() -> Any:
    return build_network(config_of(encoder="resnet18"))


@settings(max_examples=10)
@given(st.floats(0.01, 1), st.floats(0.1, 1))
def test_rates_fall_towards_the_image(rate: float, decay: float) -> None:
    """Every parameter is in one group; neighbouring stages differ by the factor."""
    network = deep_network()
    groups = rate_groups(network, encoder_rate=rate, layer_decay=decay)
    ids = [id(p) for group in groups for p in group["params"]]
    assert len(ids) == len({*ids}) == len(list(network.parameters()))
    if rate == decay == 1:
        return
    *stages, rest = groups
    assert rest["factor"] == 1
    assert stages[-1]["factor"] == rate
    for shallow, deep in itertools.pairwise(stages):
        assert shallow["factor"] == pytest.approx(decay * deep["factor"])
    assert {id(network.encoder.conv1.weight)} <= {id(p) for p in stages[0]["params"]}
    assert {id(p) for p in network.decoder.parameters()} <= {id(p) for p in rest["params"]}


def test_a_frozen_encoder_is_in_no_group() -> None:
    network = build_network(config_of())
    (rest,) = rate_groups(network, encoder_rate=0, layer_decay=1)
    assert {id(p) for p in rest["params"]}.isdisjoint(id(p) for p in network.encoder.parameters())
    plain = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1))
    assert rate_groups(plain, encoder_rate=1, layer_decay=1)[0]["params"] == list(plain.parameters())
    for refused in (lambda: rate_groups(plain, encoder_rate=0.1, layer_decay=1), lambda: Unfreezing.never(plain)):
        with pytest.raises(ModelError, match="no encoder"):
            refused()
