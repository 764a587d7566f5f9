"""Convolutions in 8-bit integers: smaller, and several times as fast on processors that multiply them (AVX-512 VNNI, AMX).

Post-training static quantization (Jacob et al. 2018, https://arxiv.org/abs/1712.05877; in the form of ONNX Runtime, whose
nodes QuantizeLinear and DequantizeLinear stand around each convolution): weights are int8 by output channel, activations
uint8 in the range that was seen on sample images. What lies between convolutions stays in float32, since only so a tile
equals the whole image to the last bit: ONNX Runtime's sums and resampling of integers round by where a pixel lies.
Weights take 7 of the 8 bits: without AVX-512 VNNI two products are summed in 16 bits, which 8 would overflow, and the same
model would give another map on another processor.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoseg.arrays import F32
from geoseg.errors import ModelError
from geoseg.grid import round_up
from geoseg.inference.onnx_session import OnnxSession

if TYPE_CHECKING:
    import onnx

__all__ = ["equal_in_tiles", "quantize_convolutions"]

LARGE = 1024
"""Side of an image that tiles are compared with, px."""
QUANTIZED = ("Conv", "Relu", "Clip")
"""Convolutions, and what ONNX Runtime fuses into them."""


class _Samples:
    """Inputs in the form in which ONNX Runtime asks for them."""

    def __init__(self, name: str, inputs: Iterable[F32]) -> None:
        self._name, self._inputs = name, iter(inputs)

    def get_next(self) -> dict[str, F32] | None:
        """The next sample, None behind the last one."""
        image = next(self._inputs, None)
        return None if image is None else {self._name: image}


def quantize_convolutions(source: Path, target: Path, inputs: Iterable[F32]) -> int:
    """Write a network whose convolutions compute in integers.

    The first convolutions, whose input has the range of the image, and the last ones, whose output are the scores, stay in
    float32.

    Args:
        source: The network in float32, ONNX.
        target: The file to write.
        inputs: Normalized images (1, C, H, W) float32, by which the ranges of activations are found.

    Returns:
        The number of convolutions that compute in integers.

    Raises:
        ModelError: Packages are missing, or there is no such convolution.
    """
    try:
        import onnx
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise ModelError(f"quantization needs the package onnx ({error}); pip install 'geoseg[train]'") from error
    with tempfile.TemporaryDirectory() as folder, _quiet():
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        graph = onnx.load(str(prepared)).graph
        outer = _outer_convolutions(graph)
        count: int = sum(int(node.op_type == "Conv") for node in graph.node) - len(outer)
        if count < 1:
            raise ModelError(
                f"{source}: has no convolution between its first and its last one, so that integers would save nothing"
            )
        quantize_static(
            str(prepared),
            str(target),
            _Samples(graph.input[0].name, inputs),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            nodes_to_exclude=outer,
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
    return count


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the advice of the quantizer, written to the root logger, out of the log."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


def _outer_convolutions(graph: onnx.GraphProto) -> list[str]:
    """Names of convolutions that no other one comes before, or none comes after."""
    behind: set[str] = set()
    """Tensors that a convolution was computed for."""
    first = []
    for node in graph.node:
        after_one = any(name in behind for name in node.input)
        if node.op_type == "Conv" and not after_one:
            first.append(node.name)
        if after_one or node.op_type == "Conv":
            behind.update(node.output)
    needed: set[str] = set()
    """Tensors that a convolution is computed from."""
    last = []
    for node in reversed(graph.node):
        before_one = any(name in needed for name in node.output)
        if node.op_type == "Conv" and not before_one:
            last.append(node.name)
        if before_one or node.op_type == "Conv":
            needed.update(node.input)
    return list(dict.fromkeys([*first, *last]))


def equal_in_tiles(path: Path, bands: int, stride: int, halo: int) -> bool:
    """Whether a part of an image gives the same scores as the whole, to the last bit, beyond the halo from where it is cut.

    Args:
        path: The network, ONNX.
        bands: Of its input.
        stride: Total downsampling.
        halo: The exact halo, px.
    """
    session = OnnxSession(path)
    name = session.inputs[0].name
    # Kernels differ by size, so that tiles of the size of those of a run are among them.
    whole = round_up(max(LARGE, 3 * halo + 4 * stride), stride)
    rng = np.random.default_rng(0)
    image = rng.standard_normal((1, bands, whole, whole)).astype(np.float32)
    scores = session.run({name: image})[0]
    for part in (round_up(halo, stride) + 4 * stride, round_up(whole * 3 // 4, stride)):
        kept = part - halo
        # Cut at the right and below, then at the left and above.
        first = session.run({name: np.ascontiguousarray(image[:, :, :part, :part])})[0]
        last = session.run({name: np.ascontiguousarray(image[:, :, -part:, -part:])})[0]
        if not np.array_equal(first[:, :, :kept, :kept], scores[:, :, :kept, :kept]):
            return False
        if not np.array_equal(last[:, :, -kept:, -kept:], scores[:, :, -kept:, -kept:]):
            return False
    return True
