"""Stride and receptive field of ONNX networks.

The field is what a NaN reaches (``geoseg.models.receptive_field``), in a network of the same structure: maxima, clipping and
curves of ONNX Runtime may hide a NaN, and stand aside for operations that pass it on from the same places.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoseg.calibration.quantization import equal_in_tiles
from geoseg.errors import GeosegError, ModelError
from geoseg.grid import round_up
from geoseg.inference.onnx_session import OnnxSession
from geoseg.models.card_values import ReceptiveField
from geoseg.models.receptive_field import measure_receptive_field

if TYPE_CHECKING:
    import onnx
    import torch

__all__ = ["coarsest", "measured_field", "measured_stride", "spread_network"]

OF_ONE_VALUE = """
    Relu Clip LeakyRelu PRelu ThresholdedRelu Elu Selu Celu Sigmoid HardSigmoid HardSwish Swish Tanh Erf Gelu Softplus Softsign
    Mish Exp Log Sqrt Abs Neg Reciprocal Pow Floor Ceil Round Sin Cos Dropout
"""
OF_ALL_THEY_READ = """
    Conv ConvTranspose BatchNormalization Add Sub Mul Div Sum Mean Concat Slice Pad Resize Upsample Reshape Flatten Transpose
    Gather Shape Size Cast CastLike Constant ConstantOfShape Unsqueeze Squeeze AveragePool GlobalAveragePool ReduceMean ReduceSum
    ReduceL2 MatMul Gemm Identity Split Expand Tile InstanceNormalization GroupNormalization LayerNormalization
    LpNormalization DepthToSpace SpaceToDepth Range ReduceProd Where Equal
"""
CURVES, PASSING = frozenset(OF_ONE_VALUE.split()), frozenset(OF_ALL_THEY_READ.split())
"""Operations of each value alone; and those that give NaN wherever one of the values that they read is."""
MAXIMA = frozenset({"MaxPool", "Max", "Min"})
SIZED = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "Resize", "Upsample", "SpaceToDepth", "DepthToSpace")
MOST_STRIDE = 128
SIDE = 256
"""Of the image on which the sizes of feature maps are looked at, px; a multiple of every stride but the largest."""


def measured_stride(path: Path, bands: int) -> int:
    """The total downsampling of a network: the coarsest of its feature maps that follow the size of the image.

    Raises:
        ModelError: It does not run on images of other sizes, or does not give a score for every pixel.
    """
    stride = coarsest(path, bands, 2 * SIDE)
    for times in (2, 3):
        got, _ = _shapes(path, bands, times * stride, [])
        if got[2:] != (times * stride, times * stride):
            raise ModelError(
                f"{path}: gives scores of {got[-2]} x {got[-1]} for an image of {times * stride} x {times * stride} px; networks "
                "with one score for every pixel are adopted: export it with the enlargement to the size of the image"
            )
    return stride


def coarsest(path: Path, bands: int, side: int) -> int:
    """How many times a network's coarsest feature map that follows the size of the image goes into an image of some side.

    Raises:
        ModelError: It does not run on such an image.
    """
    import onnx

    names = [node.output[0] for node in onnx.load(str(path)).graph.node if node.op_type in SIZED]
    _, shapes = _shapes(path, bands, side, names)
    stride = 1
    for shape in shapes:
        if len(shape) == 4:
            ratios = {side // shape[axis] for axis in (2, 3) if shape[axis] and not side % shape[axis]}
            stride = max([stride, *(ratio for ratio in ratios if ratio <= MOST_STRIDE)])
    return stride


def _shapes(path: Path, bands: int, side: int, names: list[str]) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """Shapes of the scores of a blank image, and of tensors inside."""
    try:
        session = OnnxSession(path, also=names)
        outputs = session.run({session.inputs[0].name: np.zeros((1, bands, side, side), np.float32)})
    except GeosegError:
        raise
    except Exception as error:  # ONNX Runtime raises kinds of its own
        raise ModelError(
            f"{path}: does not run on an image of {side} x {side} px: it was exported for one size; export it again with dynamic "
            f"height and width ({(str(error).splitlines() or ['?'])[0]:.160})"
        ) from error
    return outputs[0].shape, [one.shape for one in outputs[1:]]


def measured_field(path: Path, bands: int, stride: int) -> tuple[ReceptiveField | None, str]:
    """The receptive field of a network; None for one with global context, and why.

    What was measured is then tried: parts of an image have to give the scores of the whole, to the last bit.
    """
    network, unknown = spread_network(path)
    if network is None:
        return None, unknown
    field = measure_receptive_field(network, bands, stride)
    if field is None:
        return None, "every output pixel depends on the whole image"
    if not equal_in_tiles(path, bands, stride, round_up(field.reach, stride)):
        return None, "parts of an image do not give the scores of the whole to the last bit"
    return field, ""


def spread_network(path: Path) -> tuple[torch.nn.Module | None, str]:
    """The network that passes a NaN on from all that it reads; None where that can't be told, and why."""
    import onnx

    model = onnx.load(str(path))
    unknown = sorted({node.op_type for node in model.graph.node} - CURVES - PASSING - MAXIMA)
    unknown += ["a MaxPool with holes" for node in model.graph.node if node.op_type == "MaxPool" and _has_holes(node)]
    if unknown:
        return None, f"what {', '.join(unknown)} reads can't be told from the graph"
    _spread(model)
    with tempfile.TemporaryDirectory() as folder:
        spread = Path(folder) / "spread.onnx"
        onnx.save(model, str(spread))
        return _as_torch(spread), ""


def _spread(model: onnx.ModelProto) -> None:
    """Have every operation on pixels pass a NaN on from all places that it reads, in place."""
    graph = model.graph
    constant = {one.name for one in graph.initializer}
    pixels = {value.name for value in graph.input} - constant
    """Tensors that are computed of pixels, not of sizes."""
    for node in graph.node:
        read = [name for name in node.input if name in pixels]
        if not read or node.op_type in ("Shape", "Size"):
            continue
        pixels.update(node.output)
        if node.op_type in CURVES:
            _become(node, "Identity", read[:1])
        elif node.op_type in ("Max", "Min"):
            _become(node, "Sum", read)
        elif node.op_type in ("Mul", "Div") and len(read) == 2:
            # Values that are multiplied over and over would leave the range of numbers.
            _become(node, "Add", read)
        elif node.op_type == "MaxPool":
            kept = [one for one in node.attribute if one.name not in ("storage_order", "dilations")]
            _become(node, "AveragePool", read)
            node.attribute.extend(kept)


def _has_holes(node: onnx.NodeProto) -> bool:
    return any(one.name == "dilations" and set(one.ints) != {1} for one in node.attribute)


def _become(node: onnx.NodeProto, kind: str, inputs: list[str]) -> None:
    node.op_type = kind
    del node.input[:], node.output[1:], node.attribute[:]
    node.input.extend(inputs)


def _as_torch(path: Path) -> torch.nn.Module:
    """An ONNX network as a module of torch."""
    import torch

    session = OnnxSession(path)
    name = session.inputs[0].name

    class Network(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(session.run({name: image.numpy()})[0])

    return Network()
