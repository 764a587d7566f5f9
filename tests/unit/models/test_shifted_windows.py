"""Encoders of timm by family: what runs exactly in tiles, what is blended, and what is refused; each on ONNX Runtime, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from geoseg.calibration.quantization import equal_in_tiles  # noqa: E402
from geoseg.errors import ModelError  # noqa: E402
from geoseg.inference.onnx_session import OnnxSession  # noqa: E402
from geoseg.models.model_folder import Model  # noqa: E402
from geoseg.models.networks.build import build_network  # noqa: E402
from geoseg.models.networks.config import NetworkConfig  # noqa: E402
from geoseg.models.networks.stride import refuse_one_size, stride_of  # noqa: E402
from geoseg.models.receptive_field import measure_receptive_field  # noqa: E402
from geoseg.models.saving import save_model  # noqa: E402
from geoseg.models.shifted_windows import window_phase  # noqa: E402

TWO_LEVELS: dict[str, Any] = {
    "embed_dim": 16,
    "depths": [2, 2],
    "num_heads": [2, 2],
    "encoder_depth": 3,
    "decoder_channels": [16, 8, 8],
}
SWIN = NetworkConfig("unet", "tu-swin_tiny_patch4_window7_224", 3, 2, TWO_LEVELS)
SWIN_V2 = NetworkConfig("unet", "tu-swinv2_tiny_window8_256", 3, 2, TWO_LEVELS)
CONVNEXT = NetworkConfig(
    "unet",
    "tu-convnext_atto",
    3,
    2,
    {"dims": [8, 8, 16, 16], "depths": [1, 1, 2, 1], "decoder_channels": [16, 16, 8, 8, 8]},
)
DINOV3 = NetworkConfig(
    "dpt",
    "tu-vit_tiny_patch16_dinov3_qkvb",
    3,
    2,
    {"decoder_intermediate_channels": [8, 8, 8, 8], "decoder_fusion_channels": 8},
)
CLASSES = [
    {"value": 0, "name": "a", "color": "#cccccc", "background": True},
    {"value": 1, "name": "b", "color": "#2266aa"},
]


def network_of(config: NetworkConfig) -> Any:
    """The network, whose blocks are heard: timm begins with normalizations of nought."""
    torch.manual_seed(0)
    network = build_network(config).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.LayerNorm):
            torch.nn.init.constant_(module.weight, 1.0)
    return network


def saved(config: NetworkConfig, folder: Path) -> tuple[Any, Model]:
    network = network_of(config)
    facts = {
        "name": "x",
        "description": "x",
        "license": "MIT",
        "bands": ["red", "green", "blue"],
        "scaling": [{"mean": 0, "stddev": 1}] * 3,
        "classes": CLASSES,
    }
    return network, save_model(network, config, folder, facts, half=False, tile=128)


def difference(network: Any, model: Model, side: int) -> float:
    """The largest difference of a score of ONNX Runtime from torch's, in deviations of the scores."""
    assert model.onnx is not None
    image = np.random.default_rng(side).standard_normal((1, 3, side, side)).astype(np.float32)
    with torch.inference_mode():
        wanted = network(torch.from_numpy(image)).numpy()
    return float(np.abs(OnnxSession(model.onnx).run({"image": image})[0] - wanted).max() / wanted.std())


@pytest.mark.parametrize(("config", "phase"), [(SWIN, 56), (SWIN_V2, 64)])
def test_windows_see_what_a_change_shows_that_they_see(config: NetworkConfig, phase: int) -> None:
    """Where pixels are changed, scores change within the receptive field and nowhere else, wherever in the windows it is."""
    network = network_of(config)
    stride = stride_of(network)
    assert window_phase(network) == phase
    assert stride % phase == stride % 32 == 0
    field = measure_receptive_field(network, 3, stride)
    assert field is not None
    length = 2 * stride * -(-(field.reach + stride) // stride)
    image = torch.randn(1, 3, length, 64)
    farthest = 0
    with torch.inference_mode():
        before = network(image)
        for place in range(length // 2 - 32, length // 2 + 33, 8):
            other = image.clone()
            other[:, :, place:] = torch.randn(1, 3, length - place, 64)
            rows = (network(other) - before).abs().amax((0, 1, 3))
            first = int((rows > 0).nonzero()[0])
            assert place - first <= field.bottom
            farthest = max(farthest, place - first)
    # The field is that of the worst place; the places that were tried come near.
    assert farthest > field.bottom - 32


@pytest.mark.slow
@pytest.mark.parametrize("config", [SWIN, SWIN_V2, CONVNEXT])
def test_tiles_equal_the_whole_to_the_last_bit(config: NetworkConfig, tmp_path: Path) -> None:
    network, model = saved(config, tmp_path)
    card = model.card
    assert model.onnx is not None
    assert card.exact_halo is not None
    assert not card.global_context
    assert equal_in_tiles(model.onnx, 3, card.stride, card.exact_halo)
    # One stride less is too little.
    assert card.exact_halo - card.stride < card.receptive_field.reach
    assert max(difference(network, model, times * card.stride) for times in (2, 3)) < 1e-3


@pytest.mark.slow
def test_attention_to_everything_is_blended(tmp_path: Path) -> None:
    network, model = saved(DINOV3, tmp_path)
    assert model.card.global_context
    assert model.card.exact_halo is None
    assert max(difference(network, model, side) for side in (64, 160, 256)) < 1e-3


def test_what_can_not_be_run_is_refused_before_it_is_trained() -> None:
    with pytest.raises(ModelError, match=r'unet with tu-vit_small_patch16_dinov3: .* take the architecture "dpt"'):
        build_network(NetworkConfig("unet", "tu-vit_small_patch16_dinov3", 3, 2))
    fixed = NetworkConfig("unet", SWIN.encoder, 3, 2, TWO_LEVELS | {"strict_img_size": True})
    network = build_network(fixed).train()
    with pytest.raises(ModelError, match=r"does not take images of \d+ x \d+ px"):
        refuse_one_size(network, fixed)
    assert network.training
    refuse_one_size(network_of(SWIN), SWIN)
