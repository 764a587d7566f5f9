"""Tensors inside of networks, against the library onnx and against torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from geoseg.errors import ModelError
from geoseg.models.card import Card
from geoseg.models.model_folder import load_model
from geoseg.models.onnx_tensors import encoder_levels, head_input, with_outputs

onnx = pytest.importorskip("onnx")


def test_levels_of_the_shipped_encoder_are_those_of_torch() -> None:
    torch = pytest.importorskip("torch")
    from geoseg.inference.torch_engine import load_network

    model = load_model("buildings")
    assert model.onnx is not None
    names = encoder_levels(model.onnx)
    session = ort.InferenceSession(with_outputs(model.onnx.read_bytes(), names))
    image = np.random.default_rng(0).normal(size=(2, 3, 96, 96)).astype(np.float32)
    found = session.run(None, {"image": image})
    assert len(found) == 1 + len(names)
    network = load_network(model).eval().network
    with torch.no_grad():
        levels = network.encoder(torch.from_numpy(image))[1:]
    for level, mine in zip(reversed(levels), found[1:], strict=True):
        assert mine == pytest.approx(level.numpy(), abs=1e-3)


@pytest.mark.parametrize("phases", [False, True])
def test_levels_are_found_whether_maps_are_enlarged_or_their_phases_computed(phases: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from geoseg.calibration.quantization import quantize_convolutions
    from geoseg.models.export_form import export_form
    from geoseg.models.exporting import export
    from geoseg.models.networks.build import build_network
    from geoseg.models.networks.config import NetworkConfig

    torch.manual_seed(0)
    parameters = {"encoder_depth": 3, "decoder_channels": [32, 16, 8]}
    network = build_network(NetworkConfig("unet", "resnet18", 3, 2, parameters)).eval()
    card = replace_stride(load_model("buildings").card, 8)
    path, integers = tmp_path / "model.onnx", tmp_path / "integers.onnx"
    export(export_form(network, 3, 8) if phases else network, card, path, half=False)
    assert ("Resize" in {node.op_type for node in onnx.load(str(path)).graph.node}) != phases
    names = encoder_levels(path)
    image = np.random.default_rng(0).normal(size=(2, 3, 64, 96)).astype(np.float32)
    found = ort.InferenceSession(with_outputs(path.read_bytes(), names)).run(None, {"image": image})[1:]
    with torch.no_grad():
        levels = network.encoder(torch.from_numpy(image))[1:]
    assert len(found) == len(levels) == 3
    for level, mine in zip(reversed(levels), found, strict=True):
        assert mine == pytest.approx(level.numpy(), abs=1e-4)
    # Of the same network in integers, they are the same tensors.
    quantize_convolutions(path, integers, [image[:1]])
    assert tuple(name.removesuffix("_DequantizeLinear_Output") for name in encoder_levels(integers)) == names


def replace_stride(card: Card, stride: int) -> Card:
    return card.model_copy(update={"stride": stride})


def test_added_outputs_are_those_that_onnx_adds(tmp_path: Path) -> None:
    model = load_model("buildings")
    assert model.onnx is not None
    names = encoder_levels(model.onnx)
    graph = onnx.load_from_string(with_outputs(model.onnx.read_bytes(), names)).graph
    assert [one.name for one in graph.output] == ["scores", *names]
    assert not {*names} - {name for node in graph.node for name in node.output}


def test_networks_without_such_tensors_are_refused(tmp_path: Path) -> None:
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3]) for name in ("x", "y")]
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    path = tmp_path / "model.onnx"
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", value[:1], value[1:])), path)
    with pytest.raises(ModelError, match="no linear head"):
        head_input(path)
    with pytest.raises(ModelError, match="is no U-Net"):
        encoder_levels(path)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ModelError, match="not a whole ONNX file"):
        head_input(path)
