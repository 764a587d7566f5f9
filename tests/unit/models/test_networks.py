"""Every architecture by name: it learns, is saved, and both engines give its scores; networks in two forms agree."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from geoseg.errors import ModelError
from geoseg.grid import Grid
from geoseg.inference.averaging import EnsembleMember
from geoseg.inference.choice import open_engine
from geoseg.inference.chunks import classify_chunk
from geoseg.inference.decision import Decision
from geoseg.inference.engine import TileBatch
from geoseg.inference.normalization import Normalization
from geoseg.models.model_folder import Model
from geoseg.models.networks.build import architectures, build_network
from geoseg.models.networks.config import DETECTOR_NAMES, SIAMESE, NetworkConfig
from geoseg.models.networks.stride import stride_of
from geoseg.scenes.bands.value_map import ValueMap
from geoseg.scenes.reader import Pixels

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

from geoseg.models.networks.ciresan import PATCHES, PatchClassifier  # noqa: E402
from geoseg.models.networks.deploy import inference_form, output_margin  # noqa: E402
from geoseg.models.networks.depths import encoder_of, parameter_depths  # noqa: E402
from geoseg.models.networks.fcn import bilinear_kernel  # noqa: E402
from geoseg.models.networks.grid_pooling import GridPooling  # noqa: E402
from geoseg.models.networks.sliding import measure_redundancy, shift_and_stitch, slide  # noqa: E402
from geoseg.models.receptive_field import measure_receptive_field  # noqa: E402
from geoseg.models.saving import save_model  # noqa: E402

SMALL = "tu-tf_mobilenetv3_small_minimal_100"
DPT = {"decoder_intermediate_channels": [16, 16, 16, 16], "decoder_fusion_channels": 16}
MEAN, DEVIATION = (32.0, 49.0, 58.0), (8.0, 4.6, 2.8)


@dataclasses.dataclass(frozen=True)
class Row:
    """A network with what is to be measured of it."""

    architecture: str
    encoder: str
    parameters: dict[str, Any]
    stride: int
    reach: int | None
    side: int = 64
    steps: int = 12

    @property
    def config(self) -> NetworkConfig:
        return NetworkConfig(self.architecture, self.encoder, 3, 2, self.parameters)


SHALLOW = {"encoder_depth": 3, "decoder_channels": [32, 16, 8]}
ROWS = (
    Row("unet", "resnet18", SHALLOW, 8, 71),
    Row("unetplusplus", "resnet18", SHALLOW, 8, 71),
    Row("linknet", "resnet18", {"encoder_depth": 3}, 8, 63),
    Row("manet", "resnet18", SHALLOW | {"decoder_pab_channels": 16}, 8, None),
    Row("fpn", SMALL, {"aux_params": {"classes": 3}}, 32, None),
    Row("pspnet", SMALL, {}, 8, None),
    Row("pan", SMALL, {}, 128, None, 128),
    Row("deeplabv3", SMALL, {"decoder_channels": 32}, 8, None),
    Row("deeplabv3plus", SMALL, {"decoder_channels": 32}, 16, None),
    Row("upernet", SMALL, {"decoder_channels": 32}, 32, None),
    Row("segformer", "mit_b0", {"decoder_segmentation_channels": 32}, 32, None, steps=20),
    Row("dpt", "tu-test_vit", DPT, 32, None),
    Row("unet-fine", SMALL, {"decoder_channels": [64, 32, 16, 16, 8], "width": 8}, 32, 261),
    Row("fcn-32s", SMALL, {}, 32, 214),
    Row("fcn-16s", SMALL, {}, 32, 222),
    Row("fcn-8s", "resnet18", {"hidden": 16}, 32, 372),
    Row("unet-2015", "", {"width": 8, "depth": 2}, 4, 23, steps=40),
    Row("ciresan", "", {"patch": 33, "width": 12, "hidden": 20}, 1, 16, steps=40),
)


def chips(forest_data: Path, side: int, count: int = 4) -> np.ndarray:
    """(count, 3, side, side) uint8 from one scene of the Amazon."""
    path = min((forest_data / "train" / "images").glob("*.tif"))
    with rasterio.open(path) as dataset:
        image = dataset.read()
    return np.stack([image[:, 64 * i : 64 * i + side, 96 * i : 96 * i + side] for i in range(count)])


def learn(network: nn.Module, pixels: np.ndarray, steps: int) -> list[float]:
    """Losses of a few steps on one batch: which pixels are brighter than half of them?"""
    mean, deviation = (np.array(v, np.float32)[:, None, None] for v in (MEAN, DEVIATION))
    image = torch.from_numpy((pixels - mean) / deviation)
    bright = F.avg_pool2d(image.mean(1, keepdim=True), 5, 1, 2)[:, 0]
    labels = (bright > bright.median()).long()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    network.train()
    losses = []
    for _ in range(steps):
        output = network(image)
        scores = output[0] if isinstance(output, tuple) else output
        (height, width), size = scores.shape[-2:], labels.shape[-1]
        row, col = (size - height) // 2, (size - width) // 2
        loss = F.cross_entropy(scores, labels[:, row : row + height, col : col + width])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def save(network: nn.Module, config: NetworkConfig, folder: Path, **options: Any) -> Model:
    facts = {
        "name": config.architecture,
        "description": "made by a test",
        "license": "Apache-2.0",
        "bands": ("red", "green", "blue"),
        "scaling": [{"mean": m, "stddev": d} for m, d in zip(MEAN, DEVIATION, strict=True)],
        "classes": [{"value": i, "name": f"class {i}", "color": f"#{40 * i + 20:02x}8040"} for i in range(config.classes)],
    }
    return save_model(network, config, folder, facts, tile=256, **options)


def normalization(model: Model) -> Normalization:
    return Normalization.of(model.card, ValueMap((1.0,) * 3, (0.0,) * 3))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.architecture)
def test_learns_is_saved_and_runs_on_both_engines(row: Row, forest_data: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_network(row.config)
    losses = learn(network, chips(forest_data, row.side), row.steps)
    assert losses[-1] < 0.95 * math.log(2)  # better than chance
    assert losses[-1] < losses[0]
    model = save(network, row.config, tmp_path / "model")
    assert model.card.stride == row.stride
    assert model.card.global_context == (row.reach is None)
    assert row.reach is None or (model.card.receptive_field is not None and model.card.receptive_field.reach == row.reach)
    pixels = chips(forest_data, 256, 1)
    batch = TileBatch(list(pixels), [np.ones((256, 256), np.bool_)], (256, 256), [(slice(None), slice(None))])
    one, other = (open_engine(name, model, normalization(model), device="cpu").scores(batch) for name in ("onnx", "torch"))
    assert one.shape == (1, 2, 256, 256)
    assert one.std() > 0
    assert np.abs(one - other).max() <= 1e-4 * max(1.0, np.abs(other).max())


def test_every_architecture_is_tested() -> None:
    # Detectors learn from objects: tests/unit/instances/test_detectors.py.
    single = {name for name in architectures() if not name.startswith(SIAMESE)}
    assert {row.architecture for row in ROWS} == single - set(DETECTOR_NAMES)


SIAMESE_NAMES = [name for name in architectures() if name.startswith(SIAMESE)]


@pytest.mark.parametrize("name", SIAMESE_NAMES)
def test_a_siamese_network_compares_dates(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = "mit_b0" if name == "siamese-segformer" else SMALL
    network = build_network(NetworkConfig(name, encoder, 4, 2, {"fusion": "difference"})).eval()
    side = 2 * network.stride
    image = torch.randn(1, 4, max(64, side), max(64, side))
    swapped = torch.cat([image[:, 2:], image[:, :2]], dim=1)
    same = torch.cat([image[:, :2], image[:, :2]], dim=1)
    with torch.inference_mode():
        scores = network(image)
        # Differences have no direction, and where nothing differs every place is the same to the decoder.
        torch.testing.assert_close(network(swapped), scores)
        assert scores.shape == (1, 2, *image.shape[-2:])
        assert (network(same) - network(torch.zeros_like(same))).abs().max() < 1e-4 * max(1.0, float(scores.abs().max()))
    if name == "siamese-unet":
        config = NetworkConfig(name, encoder, 6, 2, {})
        facts = {
            "name": "pairs",
            "description": "made by a test",
            "license": "Apache-2.0",
            "value_range": (0, 255),
            "bands": tuple(f"{band}@{t}" for t in (1, 2) for band in ("red", "green", "blue")),
            "scaling": [{"mean": 100.0, "stddev": 50.0}] * 6,
            "classes": [{"value": i, "name": f"class {i}", "color": f"#{40 * i + 20:02x}8040"} for i in range(2)],
        }
        model = save_model(build_network(config), config, tmp_path / "model", facts, tile=128)
        values = Normalization.of(model.card, ValueMap((1.0,) * 6, (0.0,) * 6))
        pixels = np.random.default_rng(0).integers(0, 255, (6, 96, 96)).astype(np.uint8)
        batch = TileBatch([pixels], [np.ones((96, 96), np.bool_)], (96, 96), [(slice(None), slice(None))])
        one, other = (open_engine(engine, model, values, device="cpu").scores(batch) for engine in ("onnx", "torch"))
        assert np.abs(one - other).max() <= 1e-4 * max(1.0, np.abs(other).max())


@pytest.mark.parametrize("patch", PATCHES)
def test_dense_and_stitched_equal_the_sliding_window(patch: int) -> None:
    torch.manual_seed(patch)
    network = PatchClassifier(2, 3, patch=patch, width=4, hidden=8).eval()
    image = torch.randn(1, 2, 18, 17)
    naive = slide(network, image)
    with torch.inference_mode():
        dense = network.inference_form()(image)
    for scores in (dense, shift_and_stitch(network, image)):
        torch.testing.assert_close(scores, naive, atol=1e-5, rtol=1e-5)
        assert torch.equal(scores.argmax(1), naive.argmax(1))
    assert naive.argmax(1).unique().numel() > 1
    step = network.step
    with torch.inference_mode():
        coarse = network.coarse(F.pad(image, (patch // 2,) * 4, mode="replicate"))
        torch.testing.assert_close(coarse, naive[..., ::step, ::step])
        large = torch.randn(1, 2, patch + 2, patch + 1)
        windows = [[network(large[..., i : i + patch, j : j + patch]) for j in range(2)] for i in range(3)]
        torch.testing.assert_close(network(large)[0], torch.stack([torch.cat(row) for row in windows]).permute(2, 0, 1))
    assert output_margin(network) == patch // 2


def test_redundancy_is_what_the_layers_multiply() -> None:
    network = PatchClassifier(1, 2, patch=65, width=48, hidden=200)
    cost = measure_redundancy(network, 256)
    # 65 -> 62 -> 31 -> 28 -> 14 -> 10 -> 5, kernels 4, 4, 5.
    convolutions = 62**2 * 48 * 16 + 28**2 * 48 * 48 * 16 + 10**2 * 48 * 48 * 25
    assert cost.window == convolutions + 48 * 25 * 200 + 200 * 2
    # Densely, each layer computes one map a pixel, and slightly more around the image.
    least = 48 * 16 + 48 * 48 * 16 + 48 * 48 * 25 + 48 * 25 * 200 + 200 * 2
    assert least < cost.dense < 1.6 * least
    assert cost.dense < cost.stitched < cost.window
    assert 50 < cost.factor < convolutions / least


@pytest.mark.parametrize(("depth", "side"), [(4, 188 + 16), (4, 203), (3, 128), (1, 30)])
def test_an_unpadded_unet_gives_the_middle_of_the_padded_one(depth: int, side: int) -> None:
    torch.manual_seed(1)
    network = build_network(NetworkConfig("unet-2015", "", 3, 2, {"width": 4, "depth": depth})).eval()
    form = inference_form(network)
    stride, margin = stride_of(form), output_margin(network)
    assert (stride, margin) == (2**depth, 6 * 2**depth - 4)
    image = torch.randn(1, 3, side + 2 * stride, side + 2 * stride)
    with torch.inference_mode():
        whole = form(image[..., : -(image.shape[2] % stride) or None, : -(image.shape[3] % stride) or None])
        # The poolings are in phase where the scores begin at a multiple of the stride.
        first = (side - network(image[..., :side, :side]).shape[-1]) // 2
        start = -first % stride
        middle = network(image[..., start : start + side, start : start + side])
    size = middle.shape[-1]
    assert side - size >= 2 * margin
    where = slice(start + first, start + first + size)
    torch.testing.assert_close(middle, whole[..., where, where], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "config",
    [
        NetworkConfig("unet-2015", "", 3, 4, {"width": 6, "depth": 3, "batch_norm": True}),
        NetworkConfig("unet-2015", "", 3, 4, {"width": 6, "depth": 3, "padding": "same"}),
        NetworkConfig("ciresan", "", 3, 4, {"patch": 65, "width": 8, "hidden": 20}),
    ],
    ids=["unpadded", "same", "ciresan"],
)
def test_tiles_equal_the_whole_to_the_last_bit(config: NetworkConfig, forest_data: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = save(build_network(config), config, tmp_path / "model", with_weights=False)
    card = model.card
    assert card.exact_halo is not None
    assert card.receptive_field is not None
    if config.architecture == "ciresan":
        field = card.receptive_field
        assert (field.left, field.right, field.top, field.bottom) == (32,) * 4
    height, width = 301, 290
    image = chips(forest_data, 400, 1)[0, :, :height, :width]
    valid = np.ones((height, width), np.bool_)
    valid[:40, :90] = False
    engine = open_engine("onnx", model, normalization(model), threads=1)

    def classified(grid: Grid) -> np.ndarray:
        out = np.zeros((2, height, width), np.uint8)
        for chunk in grid.chunks():
            pixels = Pixels(np.ascontiguousarray(image[(slice(None), *chunk.window.slices)]), valid[chunk.window.slices], None)
            layers = classify_chunk(grid, chunk, pixels, [EnsembleMember(engine, Decision.of(card))])
            out[(slice(None), *chunk.core.slices)] = layers.classes, layers.confidence
        return out

    whole = classified(Grid(height, width, tile=512, halo=0, stride=card.stride))
    assert len(np.unique(whole[0])) > 2
    for tile, chunk in ((192, 100), (224, 4096)):
        grid = Grid(height, width, tile=tile, halo=card.exact_halo, stride=card.stride, chunk=chunk)
        np.testing.assert_array_equal(classified(grid), whole)


class Holes(nn.Module):
    """Strides that skip pixels, dilation, pooling, and even kernels: a field with holes that is not symmetric."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        random = np.random.default_rng(seed)
        kernel, dilation = int(random.integers(2, 5)), int(random.integers(1, 4))
        self.down = nn.Conv2d(1, 2, 1, stride=2)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1) if seed % 2 else nn.AvgPool2d(2)
        self.conv = nn.Conv2d(2, 2, kernel, dilation=dilation)
        self.pad = dilation * (kernel - 1)
        self.up = nn.ConvTranspose2d(2, 1, 4, stride=4)
        self.last = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Any) -> Any:
        y = F.pad(self.pool(self.down(x)), (self.pad, 0, 0, self.pad))
        return self.last(self.up(self.conv(y)))


@pytest.mark.parametrize("seed", range(4))
def test_receptive_field_is_that_of_every_single_pixel(seed: int) -> None:
    network = Holes(seed)
    field = measure_receptive_field(network, 1, 4)
    assert field is not None
    size, found = 160, np.zeros(4, int)
    for source in range(size // 2, size // 2 + 4):
        image = torch.zeros(1, 1, size, size)
        image[0, 0, source, source] = float("nan")
        with torch.inference_mode(), torch.backends.mkldnn.flags(enabled=False):
            rows, cols = torch.isnan(network(image))[0, 0].numpy().nonzero()
        if len(rows):
            seen = [cols.max() - source, source - cols.min(), rows.max() - source, source - rows.min()]
            found = np.maximum(found, seen)
    assert [field.left, field.right, field.top, field.bottom] == found.tolist()


def test_scores_that_depend_on_the_size_of_the_image_have_global_context() -> None:
    corners = nn.Sequential(nn.Conv2d(3, 2, 4, stride=4), nn.UpsamplingBilinear2d(scale_factor=4))
    centres = nn.Sequential(nn.Conv2d(3, 2, 4, stride=4), nn.Upsample(scale_factor=4, mode="bilinear"))
    assert measure_receptive_field(corners, 3, 4) is None
    assert measure_receptive_field(centres, 3, 4) is not None


def test_upsampling_starts_as_bilinear_interpolation() -> None:
    image = torch.randn(1, 1, 7, 9)
    for factor in (2, 8, 32):
        kernel = bilinear_kernel(factor)[None, None]
        enlarged = F.conv_transpose2d(image, kernel, stride=factor, padding=factor // 2)
        expected = F.interpolate(image, scale_factor=factor, mode="bilinear")
        inner = slice(factor, -factor)
        torch.testing.assert_close(enlarged[..., inner, inner], expected[..., inner, inner], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [2, 3, 6])
def test_grid_pooling_is_adaptive_pooling(size: int) -> None:
    for height, width in ((4, 7), (6, 6), (31, 64)):
        image = torch.randn(2, 5, height, width)
        torch.testing.assert_close(GridPooling(size)(image), nn.AdaptiveAvgPool2d(size)(image))


def test_depths_follow_the_image() -> None:
    depths = parameter_depths(build_network(NetworkConfig("unet", "resnet18", 3, 2, {})))
    expected = {
        "conv1.weight": 0,
        "bn1.weight": 0,
        "layer1.0.conv1.weight": 1,
        "layer2.0.bn1.bias": 2,
        "layer4.1.conv2.weight": 4,
    }
    assert {name: depths[f"encoder.{name}"] for name in expected} == expected
    assert {depth for name, depth in depths.items() if name.startswith("decoder.")} == {5}
    assert {depth for name, depth in depths.items() if name.startswith("segmentation_head.")} == {6}
    # Registered in another order than they are used.
    depths = parameter_depths(build_network(NetworkConfig("segformer", "mit_b0", 3, 2, {})))
    ends = [
        depths[f"encoder.{name}.weight"]
        for name in ("patch_embed1.proj", "block1.1.mlp.fc2", "patch_embed2.proj", "block4.1.mlp.fc2")
    ]
    assert ends == sorted(set(ends))
    network = build_network(NetworkConfig("dpt", "tu-test_vit", 3, 2, DPT))
    depths = parameter_depths(network)
    assert (
        depths["encoder.model.cls_token"]
        == depths["encoder.model.pos_embed"]
        == depths["encoder.model.patch_embed.proj.weight"]
        == 0
    )
    assert [depths[f"encoder.model.blocks.{i}.mlp.fc1.weight"] for i in range(4)] == [1, 2, 3, 4]
    assert list(depths) == [name for name, _ in network.named_parameters()]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.architecture)
def test_frozen_parts_stay_frozen(row: Row) -> None:
    network = build_network(row.config).train()
    encoder = encoder_of(network)
    assert encoder is not None
    encoder.eval()
    parameter_depths(network)
    inference_form(network)
    assert network.training
    assert not any(module.training for module in encoder.modules())


def test_configurations() -> None:
    for name in ("unet", "fcn-8s", "unet-2015"):
        config = NetworkConfig(name, "resnet18", 3, 2, {})
        document = config.to_json()
        assert document["library"] == ("segmentation_models_pytorch" if name == "unet" else "geoseg")
        assert NetworkConfig.from_json(document) == config
    for broken, words in (
        ({**document, "library": "other"}, "not known"),
        ({**document, "library": "segmentation_models_pytorch"}, "but of geoseg"),
        ({**document, "more": 1}, "more"),
    ):
        with pytest.raises(ModelError, match=words):
            NetworkConfig.from_json(broken)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (NetworkConfig("unet-2016", "", 3, 2, {}), "choose one of"),
        (NetworkConfig("fcn-8s", "resnet19", 3, 2, {}), "near: resnet18"),
        (NetworkConfig("fcn-8s", "resnet18", 3, 2, {"hiden": 1}), "hiden"),
        (NetworkConfig("unet-2015", "", 3, 2, {"padding": "zeros"}), "valid, same"),
        (NetworkConfig("unet-2015", "", 3, 2, {"depth": 9}), "depth 9"),
        (NetworkConfig("ciresan", "", 3, 2, {"patch": 64}), "33, 65, 95"),
        (NetworkConfig("ciresan", "", 3, 2, {"width": 0}), "width 0"),
    ],
)
def test_what_can_not_be_built(config: NetworkConfig, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        build_network(config)


@pytest.mark.parametrize(
    ("parameters", "side", "words"),
    [({"depth": 4, "width": 2}, 187, "at least 188"), ({"depth": 3, "width": 2, "padding": "same"}, 60, "multiples of 8")],
)
def test_chips_that_do_not_fit(parameters: dict[str, Any], side: int, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        build_network(NetworkConfig("unet-2015", "", 3, 2, parameters))(torch.zeros(1, 3, side, side))
    with pytest.raises(ModelError, match="at least 65"):
        PatchClassifier(3, 2)(torch.zeros(1, 3, 64, 70))
    with pytest.raises(ModelError, match="no encoder"):
        build_network(NetworkConfig("unet-2015", "", 3, 2, parameters), encoder_weights="imagenet")
