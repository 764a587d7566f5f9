"""ONNX networks of anybody: what their files say, and the same network in the form that geoseg runs.

That form takes (N, C, H, W) float32 of any size that is a multiple of its stride and gives scores (N, K, H, W) before softmax
or sigmoid. Nothing is trained, rounded or approximated: nodes are added at the two ends, and sizes that an exporter has fixed
are left open.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg.adoption.network_facts import Activation
from geoseg.dialect import setting
from geoseg.errors import ConfigError, ModelError
from geoseg.inference.onnx_session import OnnxSession
from geoseg.models.onnx_scan import refuse_external_data

if TYPE_CHECKING:
    import onnx

__all__ = ["Stranger", "open_stranger", "write_plain"]

MOST_BANDS = 32
"""A dimension of more is a height or a width."""
FINAL: dict[str, Activation] = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid"}
OWN_AXIS = 13
"""From this version on, Softmax sums along one axis; before, over all that follow it, too."""
LEAST = 1e-7
"""Least probability that has a logarithm here."""
IMAGE, SCORES = "geoseg_image", "geoseg_scores"


@dataclass(frozen=True, slots=True, eq=False)
class Stranger:
    """An ONNX file with one image as input."""

    path: Path
    model: onnx.ModelProto
    input: str
    output: str
    channels_last: bool
    """Whether it takes (N, H, W, C)."""
    bands: int | None
    """None where the file leaves them open."""
    size: tuple[int, int] | None
    """The one height and width that it takes; None for many."""
    metadata: dict[str, str]
    final: onnx.NodeProto | None
    """The node that makes its scores probabilities, at its end; None where that can't be seen."""

    @property
    def activation(self) -> Activation | None:
        """What that node is."""
        return None if self.final is None else FINAL[self.final.op_type]


def open_stranger(path: Path, output: str | None = None) -> Stranger:
    """Read an ONNX file.

    Args:
        path: The file.
        output: Which of its outputs has the scores; may be left out where there is one.

    Raises:
        ModelError: It is damaged, lies in several files, or takes or gives something else than images.
        ConfigError: There are several outputs, and none is named.
    """
    try:
        import onnx
    except ImportError as error:
        raise ModelError(
            f"{path}: to adopt an ONNX file needs the package onnx ({error}); pip install 'geoseg[train]'"
        ) from error
    refuse_external_data(path)
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf raises kinds of its own
        raise ModelError(f"{path}: is no sound ONNX file: {(str(error).splitlines() or ['?'])[0]}") from error
    # What it can't load is refused here, in its words; what follows takes a sound graph for granted.
    OnnxSession(path)
    constant = {one.name for one in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constant]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise ModelError(f"{path}: has {len(inputs)} inputs ({names}); networks with one image as input are adopted")
    result = _output(path, model, output)
    shape = _shape(inputs[0])
    if len(shape) != 4:
        raise ModelError(
            f"{path}: takes an array of {len(shape)} dimensions {shape}; four are needed: images, bands, rows, columns"
        )
    last = _is_band(shape[3]) and not _is_band(shape[1])
    bands, rows, cols = (shape[3], shape[1], shape[2]) if last else (shape[1], shape[2], shape[3])
    return Stranger(
        path,
        model,
        inputs[0].name,
        result.name,
        last,
        bands,
        None if rows is None or cols is None else (rows, cols),
        {entry.key: entry.value for entry in model.metadata_props},
        _final(model, result.name, 3 if last else 1),
    )


def _output(path: Path, model: onnx.ModelProto, wanted: str | None) -> onnx.ValueInfoProto:
    import onnx

    outputs = {value.name: value for value in model.graph.output}
    if wanted is None and len(outputs) != 1:
        raise ConfigError(
            f"{path}: has the outputs {', '.join(outputs)}; name that of the scores with {setting('output', 'NAME')}"
        )
    name = next(iter(outputs)) if wanted is None else wanted
    if name not in outputs:
        raise ConfigError(f"{path}: {setting('output')}: {name!r} is none of its outputs {', '.join(outputs)}")
    kind = outputs[name].type.tensor_type.elem_type
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
    if kind not in floats:
        what = onnx.TensorProto.DataType.Name(kind).lower()
        raise ModelError(
            f"{path}: gives {what}, such as numbers of classes, and no scores, without which there is neither confidence nor "
            "seamless joining of tiles; export the network without its last step (argmax)"
        )
    found: onnx.ValueInfoProto = outputs[name]
    return found


def _shape(value: onnx.ValueInfoProto) -> list[int | None]:
    return [
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in value.type.tensor_type.shape.dim
    ]


def _is_band(size: int | None) -> bool:
    return size is not None and size <= MOST_BANDS


def _final(model: onnx.ModelProto, output: str, channel: int) -> onnx.NodeProto | None:
    """The softmax along the channels, or the sigmoid, that ends the network, maybe behind a change of axes."""
    made = {name: node for node in model.graph.node for name in node.output}
    uses = [name for node in model.graph.node for name in node.input]
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    name, axis = output, channel
    while (node := made.get(name)) is not None and uses.count(name) == int(name != output):
        if node.op_type == "Transpose":
            axis = list(_attribute(node, "perm", [3, 2, 1, 0]))[axis]
        elif node.op_type in FINAL:
            along = _attribute(node, "axis", -1 if opset >= OWN_AXIS else 1) % 4
            alone = opset >= OWN_AXIS or along == 3
            return node if node.op_type == "Sigmoid" or (along == axis and alone) else None
        elif node.op_type not in ("Identity", "Cast"):
            return None
        name = node.input[0]
    return None


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    import onnx

    return next((onnx.helper.get_attribute_value(one) for one in node.attribute if one.name == name), default)


def write_plain(
    stranger: Stranger, activation: Activation, bands: int, scores: int, target: Path, *, one_size: bool = False
) -> None:
    """Write the network in geoseg's form.

    Args:
        stranger: The network.
        activation: What makes its outputs probabilities, or would; ``none`` where they are, by a step that can't be taken off.
        bands: That it takes.
        scores: That it gives; one probability becomes its logit, several their logarithms.
        target: The file to write.
        one_size: Leave its one size as it is.

    Raises:
        ModelError: The result is no sound network.
    """
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(stranger.model)
    graph = model.graph
    if stranger.size is not None and not one_size:
        _open_sizes(model, _sizes_inside(stranger))
    for node in graph.node:
        if stranger.final is not None and node.output[0] == stranger.final.output[0] and activation != "none":
            # Its input has the scores that the softmax or sigmoid of geoseg takes.
            node.op_type, node.domain = "Identity", ""
            del node.attribute[:]
    kept = [value for value in graph.output if value.name == stranger.output]
    constant = {one.name for one in graph.initializer}
    image = next(value for value in graph.input if value.name not in constant)
    begin = list(_entry(stranger, image.type.tensor_type.elem_type))
    end = list(_exit(stranger, kept[0].type.tensor_type.elem_type, activation, scores))
    for node in reversed(begin):
        graph.node.insert(0, node)
    graph.node.extend(end)
    entry, name = IMAGE if begin else stranger.input, SCORES if end else stranger.output
    tensor, sizes = onnx.TensorProto.FLOAT, [None, None, None]
    taken = (1, *stranger.size) if one_size and stranger.size is not None else ("batch", "height", "width")
    others = [value for value in graph.input if value.name in constant]
    del graph.input[:], graph.output[:], graph.value_info[:]
    graph.input.extend([onnx.helper.make_tensor_value_info(entry, tensor, [taken[0], bands, *taken[1:]]), *others])
    graph.output.append(onnx.helper.make_tensor_value_info(name, tensor, ["batch", *sizes]))
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # onnx raises kinds of its own
        raise ModelError(f"{stranger.path}: can't be brought into the form of geoseg: {str(error).splitlines()[0]}") from error
    onnx.save(model, str(target))


def _entry(stranger: Stranger, kind: int) -> Iterator[onnx.NodeProto]:
    """Nodes from (N, C, H, W) float32 to what the network takes."""
    import onnx

    make, name = onnx.helper.make_node, IMAGE
    if stranger.channels_last:
        last = stranger.input if kind == onnx.TensorProto.FLOAT else f"{IMAGE}_last"
        yield make("Transpose", [name], [last], perm=[0, 2, 3, 1])
        name = last
    if kind in (onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE):
        yield make("Cast", [name], [stranger.input], to=kind)
    elif kind != onnx.TensorProto.FLOAT:
        what = onnx.TensorProto.DataType.Name(kind).lower()
        raise ModelError(f"{stranger.path}: takes {what}; networks that take floating-point numbers are adopted")


def _exit(stranger: Stranger, kind: int, activation: Activation, scores: int) -> Iterator[onnx.NodeProto]:
    """Nodes from what the network gives to (N, K, H, W) float32, of probabilities their logarithms or logits."""
    import numpy as np
    import onnx

    steps: list[tuple[str, dict[str, Any]]] = []
    if kind != onnx.TensorProto.FLOAT:
        steps.append(("Cast", {"to": onnx.TensorProto.FLOAT}))
    if stranger.channels_last:
        steps.append(("Transpose", {"perm": [0, 3, 1, 2]}))
    name, make = stranger.output, onnx.helper.make_node
    for number, (operator, attributes) in enumerate(steps):
        is_last = number == len(steps) - 1 and activation != "none"
        following = SCORES if is_last else f"{SCORES}_{number}"
        yield make(operator, [name], [following], **attributes)
        name = following
    if activation != "none":
        return

    def constant(what: str, value: float) -> onnx.NodeProto:
        return make("Constant", [], [f"{SCORES}_{what}"], value=onnx.numpy_helper.from_array(np.array(value, np.float32)))

    yield constant("least", LEAST)
    yield constant("one", 1.0)
    yield make("Max", [name, f"{SCORES}_least"], [f"{SCORES}_p"])
    if scores > 1:
        yield make("Log", [f"{SCORES}_p"], [SCORES])
        return
    yield make("Sub", [f"{SCORES}_one", f"{SCORES}_p"], [f"{SCORES}_rest"])
    yield make("Max", [f"{SCORES}_rest", f"{SCORES}_least"], [f"{SCORES}_q"])
    yield make("Div", [f"{SCORES}_p", f"{SCORES}_q"], [f"{SCORES}_odds"])
    yield make("Log", [f"{SCORES}_odds"], [SCORES])


def _sizes_inside(stranger: Stranger) -> dict[str, tuple[int, ...]]:
    """Shapes of what enlargements take and give, of an image of the network's one size."""
    import numpy as np

    names = [name for node in stranger.model.graph.node if node.op_type == "Resize" for name in (node.input[0], node.output[0])]
    own = [stranger.input, *(value.name for value in stranger.model.graph.output)]
    also = [name for name in dict.fromkeys(names) if name not in own]
    session = OnnxSession(stranger.path, also=also)
    given = session.inputs[0]
    kind = {"tensor(float16)": np.float16, "tensor(double)": np.float64}.get(given.type, np.float32)
    image = np.zeros([size if isinstance(size, int) else 1 for size in given.shape], kind)
    outputs = session.run({given.name: image})
    return {stranger.input: image.shape} | {name: out.shape for name, out in zip([*own[1:], *also], outputs, strict=True)}


def _open_sizes(model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Give enlargements the factors that their fixed sizes stand for."""
    import onnx

    for number, node in enumerate(model.graph.node):
        if node.op_type != "Resize" or len(node.input) < 4 or not node.input[3]:
            continue
        before, after = shapes[node.input[0]], shapes[node.output[0]]
        factors = [b / a for a, b in zip(before, after, strict=True)]
        if any(f % 1 and (1 / f) % 1 for f in factors):
            continue
        name = f"geoseg_factors_{number}"
        model.graph.initializer.append(onnx.helper.make_tensor(name, onnx.TensorProto.FLOAT, [len(factors)], factors))
        del node.input[3]
        node.input[2] = name
