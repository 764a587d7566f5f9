"""Convolutions in integers: whole in tiles, close to the network, and cheaper in bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from geoseg.calibration.quantization import equal_in_tiles, quantize_convolutions
from geoseg.errors import ModelError
from geoseg.models.model_folder import load_model

MODEL = load_model("amazon-forest")


def scores(path: Path, image: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(str(path))
    return np.asarray(session.run(None, {session.get_inputs()[0].name: image})[0])


def test_all_but_the_outer_convolutions_compute_in_integers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [rng.standard_normal((1, 3, 128, 128)).astype(np.float32) for _ in range(2)]
    target = tmp_path / "model.onnx"
    count = quantize_convolutions(MODEL.onnx, target, images)
    nodes = list(onnx.load(target).graph.node)
    of = {name: node for node in nodes for name in node.output}
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    integers = [node for node in convolutions if of.get(node.input[1]) and of[node.input[1]].op_type == "DequantizeLinear"]
    assert len(integers) == count == len(convolutions) - len([n for n in convolutions if n not in integers]) > 40
    assert convolutions[0] not in integers
    assert convolutions[-1] not in integers
    # Weights stay within 7 bits, so that sums of two products fit into 16.
    large = [onnx.numpy_helper.to_array(t) for t in onnx.load(target).graph.initializer if t.data_type == onnx.TensorProto.INT8]
    assert max(int(np.abs(t.astype(int)).max()) for t in large if t.ndim == 4) <= 64
    # A byte for two, but kernels of phases, which are sums, stand there one by one.
    assert target.stat().st_size < 0.66 * MODEL.onnx.stat().st_size
    # A tile equals the whole, and another halo than the exact one does not pass.
    card = MODEL.card
    assert equal_in_tiles(target, 3, card.stride, card.exact_halo)
    assert not equal_in_tiles(target, 3, card.stride, 2 * card.stride)
    before, after = scores(MODEL.onnx, images[0]), scores(target, images[0])
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.98


def test_without_an_inner_convolution_nothing_is_written(tmp_path: Path) -> None:
    info = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 1, "h", "w"]) for name in ("image", "scores")]
    weights = onnx.numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "weights")
    node = onnx.helper.make_node("Conv", ["image", "weights"], ["scores"], name="only")
    graph = onnx.helper.make_graph([node], "g", info[:1], info[1:], [weights])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "one.onnx")
    with pytest.raises(ModelError, match="no convolution between its first and its last"):
        quantize_convolutions(tmp_path / "one.onnx", tmp_path / "out.onnx", [np.zeros((1, 1, 8, 8), np.float32)])
    assert not (tmp_path / "out.onnx").exists()
