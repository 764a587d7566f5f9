"""The form that is exported against the network itself: in 64 bits by torch, and its tiles on ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("segmentation_models_pytorch")

import numpy as np  # noqa: E402

from geoseg.calibration.quantization import equal_in_tiles  # noqa: E402
from geoseg.inference.onnx_session import OnnxSession  # noqa: E402
from geoseg.models.export_form import export_form  # noqa: E402
from geoseg.models.networks.build import build_network  # noqa: E402
from geoseg.models.networks.config import NetworkConfig  # noqa: E402
from geoseg.models.networks.deploy import inference_form  # noqa: E402
from geoseg.models.networks.stride import stride_of  # noqa: E402
from geoseg.models.saving import save_model  # noqa: E402

LITE = "tu-tf_efficientnet_lite0"
FOUR = {"encoder_depth": 4, "decoder_channels": [32, 24, 16, 8]}
FIVE = {"decoder_channels": [32, 24, 16, 16, 8]}
SHALLOW = {"encoder_depth": 3, "decoder_channels": [32, 16, 8]}


@dataclass(frozen=True)
class Row:
    architecture: str
    encoder: str
    blocks: int
    """Decoder blocks that are rewritten."""
    paddings: int = 0
    """Convolutions whose padding is fixed."""
    parameters: dict[str, Any] = field(default_factory=dict)
    bands: int = 3
    objects: bool = False


ROWS = (
    Row("unet", "resnet18", 5, parameters=FIVE, bands=4),
    Row("unet", "resnet34", 3, parameters=SHALLOW),
    Row("unet", LITE, 4, 4, FOUR),
    Row("unet", LITE, 4, 4, FOUR, objects=True),
    Row("unet", "mobilenet_v2", 5, parameters=FIVE),
    Row("unet", "resnet18", 3, parameters=SHALLOW | {"decoder_use_norm": False}),
    Row("unet", "tu-convnext_atto", 5, parameters=FIVE),
    Row("unet-fine", LITE, 4, 4, FOUR | {"width": 8}),
    Row("unetplusplus", "resnet18", 4, parameters=SHALLOW),
    Row("siamese-unet", "resnet18", 3, parameters=SHALLOW, bands=6),
    # Attention weighs what is joined, so that only the block that joins nothing is rewritten.
    Row("unet", "resnet18", 1, parameters=SHALLOW | {"decoder_channels": [64, 32, 16], "decoder_attention_type": "scse"}),
    Row("unet", "resnet18", 0, parameters=SHALLOW | {"decoder_interpolation": "bilinear"}),
    Row("unet", "resnet18", 0, parameters=SHALLOW | {"decoder_use_norm": {"type": "instancenorm", "affine": True}}),
    Row("fpn", "resnet18", 0),
    Row("linknet", "resnet18", 0),
    Row("fpn", LITE, 0, 4, {"encoder_depth": 4}),
)


def network_of(row: Row) -> torch.nn.Module:
    """A network whose normalizations do something."""
    torch.manual_seed(0)
    network = build_network(NetworkConfig(row.architecture, row.encoder, row.bands, 2, row.parameters, row.objects)).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values, low, high in ((module.running_mean, -0.2, 0.2), (module.running_var, 0.5, 1.5), (module.bias, -0.2, 0.2)):
                assert values is not None
                values.data.uniform_(low, high)
            module.weight.data.uniform_(0.5, 1.5)
    return network


def kinds(network: torch.nn.Module) -> list[str]:
    return [type(module).__name__ for module in network.modules()]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.architecture}-{row.encoder}-{row.blocks}-{row.paddings}")
def test_gives_what_the_network_gives(row: Row) -> None:
    form = inference_form(network_of(row).double())
    stride, before = stride_of(form), kinds(form)
    rewritten = export_form(form, row.bands, stride)
    found = kinds(rewritten)
    assert sum(kind.endswith("DoublingBlock") for kind in found) == row.blocks
    assert found.count("FixedSame") == row.paddings
    assert (rewritten is form) == (row.blocks + row.paddings == 0)
    # The network itself stays as it is, and no parameter is copied.
    assert kinds(form) == before
    assert {id(value) for value in rewritten.parameters()} <= {id(value) for value in form.parameters()}
    for batch, rows, cols in ((1, 1, 1), (2, 3, 2), (1, 2, 5)):
        image = torch.randn(batch, row.bands, rows * stride, cols * stride, dtype=torch.float64)
        with torch.inference_mode():
            expected, found_scores = form(image), rewritten(image)
        assert float((found_scores - expected).abs().max()) <= 1e-12 * float(expected.abs().max())


@pytest.mark.parametrize("row", [ROWS[1], ROWS[2]], ids=["resnet", "lite"])
def test_exported_tiles_equal_the_whole_to_the_last_bit(row: Row, tmp_path: Path) -> None:
    network = network_of(row)
    facts = {
        "name": "toy",
        "description": "made by a test",
        "license": "Apache-2.0",
        "bands": ("red", "green", "blue"),
        "scaling": [{"mean": 100.0, "stddev": 50.0}] * 3,
        "classes": [{"value": k, "name": f"class {k}", "color": f"#{40 * k + 20:02x}8040"} for k in range(2)],
    }
    config = NetworkConfig(row.architecture, row.encoder, row.bands, 2, row.parameters)
    model = save_model(network, config, tmp_path, facts, tile=128)
    assert model.onnx is not None
    graph = onnx.load(str(model.onnx)).graph
    assert not {"Resize", "Pad"} & {node.op_type for node in graph.node}
    assert equal_in_tiles(model.onnx, row.bands, model.card.stride, model.card.exact_halo)
    assert not equal_in_tiles(model.onnx, row.bands, model.card.stride, model.card.stride)
    image = np.random.default_rng(0).standard_normal((1, row.bands, 96, 64)).astype(np.float32)
    scores = OnnxSession(model.onnx).run({"image": image})[0]
    with torch.inference_mode():
        expected = network(torch.from_numpy(image)).numpy()
    assert np.abs(scores - expected).max() <= 1e-5 * np.abs(expected).max()
