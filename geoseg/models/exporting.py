"""Networks of torch as ONNX files, with what ONNX Runtime and the QGIS plugin Deepness want to know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg.errors import ModelError
from geoseg.models.card import Card
from geoseg.scenes.files.muting import muted

if TYPE_CHECKING:
    import torch

__all__ = ["DEFAULT_TILE", "deepness_metadata", "export", "is_large"]

OPSET = 17
RESIZING_OPSET = 18
"""The first that resizes with antialiasing, as position embeddings of vision transformers are."""
DEFAULT_TILE = 1024
"""Side in pixels of the tiles that models are made for."""


def is_large(shape: tuple[int, ...]) -> bool:
    """Weights of convolutions and linear layers; the small per-channel values stay in 32 bits."""
    return len(shape) >= 2


def export(network: torch.nn.Module, card: Card, path: Path, *, half: bool) -> None:
    """Export with a dynamic batch and size, and with the metadata that the QGIS plugin Deepness reads.

    Raises:
        ModelError: It is a detector.
    """
    import onnx
    import torch

    if card.instances is not None and card.instances.kind == "regions":
        raise ModelError("objects are painted one by one, which a graph of fixed shapes can't hold")
    side = max(64, 2 * card.stride)
    sample = torch.zeros(1, len(card.bands), side, side)
    axes = {0: "batch", 2: "height", 3: "width"}

    def write(opset: int) -> None:
        torch.onnx.export(
            network,
            (sample,),
            str(path),
            dynamo=False,
            opset_version=opset,
            input_names=["image"],
            output_names=["scores"],
            # In training mode PRESERVE batch normalization is not folded into the weights, which so stay those of torch.
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            dynamic_axes={"image": axes, "scores": axes},
        )

    with muted():
        try:
            write(OPSET)
        except torch.onnx.errors.UnsupportedOperatorError as error:
            if "bicubic2d_aa" not in str(error):
                raise
            register = torch.onnx.register_custom_op_symbolic  # type: ignore[attr-defined]  # not exported, but documented
            register("aten::_upsample_bicubic2d_aa", _antialiased_bicubic, RESIZING_OPSET)
            write(RESIZING_OPSET)
    graph = onnx.load(str(path))
    for value in (*graph.graph.input, *graph.graph.output):
        # Deepness takes equal names for equal sizes, and refuses outputs whose two sizes have different names.
        for dim in value.type.tensor_type.shape.dim[2:]:
            dim.ClearField("dim_param")
    if half:
        _halve_initializers(graph)
    for key, text in deepness_metadata(card).items():
        entry = graph.metadata_props.add()
        entry.key, entry.value = key, text
    onnx.checker.check_model(graph)
    onnx.save(graph, str(path))


def _antialiased_bicubic(graph: Any, image: Any, size: Any, *_: Any) -> Any:
    """``torch.nn.functional.interpolate(mode="bicubic", antialias=True)`` in the words of ONNX."""
    import torch

    def constant(values: list[int], dtype: torch.dtype = torch.int64) -> Any:
        return graph.op("Constant", value_t=torch.tensor(values, dtype=dtype))

    if size.node().kind() == "prim::ListConstruct":
        size = graph.op("Concat", *(graph.op("Unsqueeze", v, constant([0])) for v in size.node().inputs()), axis_i=0)
    leading = graph.op("Slice", graph.op("Shape", image), constant([0]), constant([2]))
    sizes = graph.op("Concat", leading, graph.op("Cast", size, to_i=7), axis_i=0)  # 7 is int64
    none = constant([], torch.float32)
    return graph.op(
        "Resize",
        image,
        none,
        none,
        sizes,
        mode_s="cubic",
        antialias_i=1,
        cubic_coeff_a_f=-0.5,
        exclude_outside_i=1,
        coordinate_transformation_mode_s="half_pixel",
    )


def _halve_initializers(graph: Any) -> None:
    """Store large weights in 16 bits; the session casts them to 32 when it loads."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for initializer in graph.graph.initializer:
        if initializer.data_type != TensorProto.FLOAT or not is_large(tuple(initializer.dims)):
            continue
        name = initializer.name
        values = numpy_helper.to_array(initializer).astype(np.float16)
        initializer.CopyFrom(numpy_helper.from_array(values, name + "_half"))
        casts.append(helper.make_node("Cast", [name + "_half"], [name], name=f"cast_{name}", to=TensorProto.FLOAT))
    for node in reversed(casts):
        graph.graph.node.insert(0, node)


def deepness_metadata(card: Card) -> dict[str, str]:
    """Metadata of ONNX files that the QGIS plugin Deepness reads, as JSON texts.

    It divides pixels by 255, then standardizes; tiles overlap by percent of their size.
    """
    halo = card.exact_halo or DEFAULT_TILE // 8
    values: dict[str, Any] = {
        "model_type": "Segmentor",
        "class_names": {str(c.value): c.name for c in card.classes},
        "tile_size": DEFAULT_TILE // 2,
        "tiles_overlap": min(50, round(100 * 2 * min(halo, 64) / (DEFAULT_TILE // 2))),
        "seg_thresh": 0.0 if card.activation == "softmax" else 0.5,
        "seg_small_segment": 0,
        "standardization_mean": [s.mean / 255 for s in card.scaling],
        "standardization_std": [s.stddev / 255 for s in card.scaling],
    }
    if card.quantity is not None:
        values = {key: value for key, value in values.items() if not key.startswith("seg_")} | {"model_type": "Regressor"}
    if card.gsd_m is not None:
        values["resolution"] = card.gsd_m * 100
    return {key: json.dumps(value) for key, value in values.items()}
