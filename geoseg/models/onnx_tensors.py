"""Tensors inside of an ONNX network: which hold the features of its encoder, and how a network gives them, too.

Both work on protobuf's wire format, which needs no library: messages that follow each other merge, so that outputs are added to
a graph by bytes behind it (https://protobuf.dev/programming-guides/encoding/#last-one-wins).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from geoseg.errors import ModelError
from geoseg.models.onnx_scan import BYTES, fields, varint

__all__ = ["encoder_levels", "head_input", "with_outputs"]

GRAPH, NODE, OUTPUT = 7, 1, 12
"""Fields of a model and of its graph (onnx.proto)."""
INPUTS, OUTPUTS, KIND, ATTRIBUTE = 1, 2, 4, 5
"""Fields of a node."""
NAME = 1
"""Field of a value, and of an attribute."""
INTEGERS = 8
"""Field of an attribute."""
FIRST_PHASE = (1, 1, 0, 0)
"""Padding of a convolution that is the first of the phases of a doubled image; see ``geoseg.models.doubling``."""
QUANTIZING = ("QuantizeLinear", "DequantizeLinear")
LINEAR = ("Gemm", "MatMul")
LEAST_LEVELS = 2


@dataclass(frozen=True, slots=True)
class _Node:
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    pads: tuple[int, ...] = ()


def head_input(path: Path) -> str:
    """The tensor (N, F) that the last linear layer of a network takes.

    Raises:
        ModelError: It has no linear layer.
    """
    linear = [node for node in _nodes(path) if node.kind in LINEAR]
    if not linear:
        raise ModelError(f"{path}: has no linear head whose features could be used; train it again with geoseg train-damage")
    return linear[-1].inputs[0]


def encoder_levels(path: Path) -> tuple[str, ...]:
    """The feature maps (N, F, h, w) that the encoder of a U-Net hands to its decoder, the coarsest first.

    They are what the first upsampling takes, and what is joined to each upsampled map (Ronneberger et al. 2015,
    arXiv:1505.04597), whether the upsampled map is made or its phases are computed.

    Raises:
        ModelError: It is no U-Net.
    """
    nodes = _nodes(path)
    coarsest, skips = _joined(nodes)
    if len(skips) < LEAST_LEVELS:
        coarsest, skips = _joined_by_phases(nodes)
    if len(skips) < LEAST_LEVELS:
        raise ModelError(
            f"{path}: is no U-Net, so that its encoder can't be found; give a model of geoseg train-damage, or buildings"
        )
    return (coarsest, *skips)


def _joined(nodes: list[_Node]) -> tuple[str, list[str]]:
    """The first tensor that is enlarged, and those that are concatenated to enlarged ones."""
    upsampled = {name: node.inputs[0] for node in nodes if node.kind == "Resize" for name in node.outputs}
    pairs = [node.inputs for node in nodes if node.kind == "Concat" and len(node.inputs) == 2 and node.inputs[0] in upsampled]
    return upsampled[pairs[0][0]] if pairs else "", [second for _, second in pairs if second not in upsampled]


def _joined_by_phases(nodes: list[_Node]) -> tuple[str, list[str]]:
    """The same where convolutions of both are added, phase by phase."""
    made = {name: node for node in nodes for name in node.outputs}

    def before(name: str) -> str:
        while name in made and made[name].kind in QUANTIZING:
            name = made[name].inputs[0]
        return name

    pairs = []
    for node in nodes:
        terms = [made.get(before(name)) for name in node.inputs] if node.kind == "Add" else []
        first = [term for term in terms if term is not None and term.kind == "Conv" and term.pads == FIRST_PHASE]
        if len(first) == 2:
            pairs.append((before(first[0].inputs[0]), before(first[1].inputs[0])))
    return pairs[0][0] if pairs else "", [second for _, second in pairs]


def with_outputs(model: bytes, names: Sequence[str]) -> bytes:
    """A network that gives tensors inside of it after its own outputs."""
    return model + _message(GRAPH, b"".join(_message(OUTPUT, _message(NAME, name.encode())) for name in names))


def _message(number: int, content: bytes) -> bytes:
    return _number(number << 3 | BYTES) + _number(len(content)) + content


def _number(value: int) -> bytes:
    """A number of seven bits a byte, the lowest first."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _nodes(path: Path) -> list[_Node]:
    data = path.read_bytes()
    try:
        graphs = _values(data, 0, len(data), GRAPH)
        return [_node(data, *place) for graph in graphs for place in _values(data, *graph, NODE)]
    except (ValueError, IndexError) as error:
        raise ModelError(f"{path}: can't be loaded: not a whole ONNX file ({error}); copy or download it again") from error


def _values(data: bytes, start: int, stop: int, wanted: int) -> list[tuple[int, int]]:
    """Begin and end of each value of a field."""
    return [(begin, end) for number, wire, begin, end in fields(data, start, stop) if number == wanted and wire == BYTES]


def _node(data: bytes, start: int, stop: int) -> _Node:
    def texts(number: int) -> Iterable[str]:
        return (data[begin:end].decode() for begin, end in _values(data, start, stop, number))

    kind = next(iter(texts(KIND)), "")
    return _Node(kind, tuple(texts(INPUTS)), tuple(texts(OUTPUTS)), _pads(data, start, stop) if kind == "Conv" else ())


def _pads(data: bytes, start: int, stop: int) -> tuple[int, ...]:
    """The padding that a node names: before each axis, then behind each."""
    for begin, end in _values(data, start, stop, ATTRIBUTE):
        parts = list(fields(data, begin, end))
        if any(number == NAME and data[first:last] == b"pads" for number, _, first, last in parts):
            return tuple(_integers(data, [part for part in parts if part[0] == INTEGERS]))
    return ()


def _integers(data: bytes, parts: Iterable[tuple[int, int, int, int]]) -> Iterable[int]:
    """Numbers one by one, or as many as fill some bytes."""
    for _, _, begin, end in parts:
        at = begin
        while at < end:
            value, at = varint(data, at, end)
            yield value
