"""Saving a torch network as a model folder that every engine runs."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoseg.errors import ModelError
from geoseg.grid import round_up
from geoseg.models.card import Card
from geoseg.models.model_folder import CARD, CONFIG, ONNX, README, WEIGHTS, Model, file_hash, load_model
from geoseg.models.networks.config import TORCHVISION, NetworkConfig
from geoseg.models.networks.deploy import inference_form
from geoseg.models.networks.stride import stride_of
from geoseg.models.receptive_field import measure_receptive_field

if TYPE_CHECKING:
    import torch

__all__ = ["checked_card", "measure_memory", "round_weights", "save_model"]

log = logging.getLogger(__name__)

OPSET = 17
RESIZING_OPSET = 18
"""The first that resizes with antialiasing, as position embeddings of vision transformers are."""
DEFAULT_TILE = 1024


def save_model(
    network: torch.nn.Module,
    config: NetworkConfig,
    folder: Path,
    facts: Mapping[str, Any],
    *,
    half: bool = True,
    with_weights: bool = True,
    readme: str = "",
    tile: int = DEFAULT_TILE,
) -> Model:
    """Write a model folder: config, safetensors, ONNX with dynamic batch and size, card, README.

    The receptive field, the stride, the memory of a forward pass and the number of parameters are measured here, on the
    form of the network that gives a score for every pixel; a network that does not export is saved without ONNX.

    Args:
        network: The trained network, in the form in which it was trained.
        config: How it is built.
        folder: Where to; made if missing.
        facts: The other fields of the card (``Card``).
        half: Keep the weights of convolutions in 16 bits: half the size. The network given is rounded likewise, so
            that what is measured afterwards is what was saved; it still computes in 32 bits.
        with_weights: Write ``model.safetensors``, from which torch engines run and training goes on.
        readme: The text of ``README.md``.
        tile: Side in pixels of the tile on which the memory of a forward pass is measured.

    Raises:
        ModelError: The card is inconsistent, or the network can't be exported and no weights were asked for.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    network.eval()
    if half:
        round_weights(network)
    (folder / CONFIG).write_text(json.dumps(config.to_json(), indent=2) + "\n", encoding="utf-8")
    if with_weights:
        save_file(_compact(network.state_dict(), half), folder / WEIGHTS)
    form = inference_form(network).eval()
    stride = stride_of(form)
    # What a detector says of a pixel depends on all objects around it.
    field = None if config.library == TORCHVISION else measure_receptive_field(form, config.in_channels, stride)
    card_facts: dict[str, Any] = {
        "architecture": config.title,
        "framework_version": _torch_version(),
        "total_parameters": sum(p.numel() for p in network.parameters()),
        "stride": stride,
        "receptive_field": field,
        "global_context": field is None,
        **facts,
    }
    if _exported(form, checked_card(card_facts), folder, half=half, needed=not with_weights):
        card_facts["bytes_per_pixel"] = measure_memory(folder / ONNX, config.in_channels, stride, tile)
    card_facts["files"] = {name: file_hash(folder / name) for name in (CONFIG, ONNX, WEIGHTS) if (folder / name).is_file()}
    card = checked_card(card_facts)
    card.write(folder / CARD)
    (folder / README).write_text(readme or f"# {card.name}\n\n{card.description}\n", encoding="utf-8")
    return load_model(str(folder))


def _exported(form: torch.nn.Module, card: Card, folder: Path, *, half: bool, needed: bool) -> bool:
    """Write ONNX; False where the network can't be exported and it is not needed."""
    try:
        _export(form, card, folder / ONNX, half)
    except Exception as error:  # the exporter raises many kinds
        (folder / ONNX).unlink(missing_ok=True)
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if needed:
            raise ModelError(f"{folder}: {card.architecture} can't be exported to ONNX: {why}") from error
        log.warning("%s: %s can't be exported to ONNX, so torch alone runs it: %s", folder, card.architecture, why)
        return False
    return True


def checked_card(facts: Mapping[str, Any]) -> Card:
    """A card of its fields.

    Raises:
        ModelError: They are inconsistent; the message names the field.
    """
    from pydantic import ValidationError

    try:
        return Card.model_validate(dict(facts))
    except ValidationError as error:
        first = error.errors()[0]
        raise ModelError(f"card: {'.'.join(map(str, first['loc'])) or 'facts'}: {first['msg']}") from error


def _torch_version() -> str:
    import torch

    return str(torch.__version__).split("+", 1)[0]


def _is_large(shape: tuple[int, ...]) -> bool:
    """Weights of convolutions and linear layers; the small per-channel values stay in 32 bits."""
    return len(shape) >= 2


def round_weights(network: torch.nn.Module) -> None:
    """Round the large weights of a network to what 16 bits hold, in place."""
    import torch

    with torch.no_grad():
        for value in network.state_dict().values():
            if value.dtype == torch.float32 and _is_large(tuple(value.shape)):
                value.copy_(value.half().float())


def _compact(state: Mapping[str, torch.Tensor], half: bool) -> dict[str, torch.Tensor]:
    import torch

    return {
        key: (value.half() if half and value.dtype == torch.float32 and _is_large(tuple(value.shape)) else value).contiguous()
        for key, value in state.items()
    }


def _export(network: torch.nn.Module, card: Card, path: Path, half: bool) -> None:
    """Export with a dynamic batch and size, and with the metadata that the QGIS plugin Deepness reads.

    Raises:
        ModelError: It is a detector.
    """
    import warnings

    import onnx
    import torch

    if card.instances is not None and card.instances.kind == "regions":
        raise ModelError("objects are painted one by one, which a graph of fixed shapes can't hold")
    side = max(64, 2 * card.stride)
    sample = torch.zeros(1, len(card.bands), side, side)
    axes = {0: "batch", 2: "height", 3: "width"}

    def export(opset: int) -> None:
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

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            export(OPSET)
        except torch.onnx.errors.UnsupportedOperatorError as error:
            if "bicubic2d_aa" not in str(error):
                raise
            register = torch.onnx.register_custom_op_symbolic  # type: ignore[attr-defined]  # not exported, but documented
            register("aten::_upsample_bicubic2d_aa", _antialiased_bicubic, RESIZING_OPSET)
            export(RESIZING_OPSET)
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
        if initializer.data_type != TensorProto.FLOAT or not _is_large(tuple(initializer.dims)):
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


MEASURE = """
import sys, numpy as np, onnxruntime as ort
def peak():
    return next(1024 * int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
path, bands, side = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ort.set_default_logger_severity(3)
session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
image = np.zeros((1, bands, side, side), np.float32)
before = peak()
session.run(None, {session.get_inputs()[0].name: image})
print((peak() - before) / side**2)
"""


def measure_memory(path: Path, bands: int, stride: int, tile: int = DEFAULT_TILE) -> float:
    """Bytes per input pixel that one forward pass of a large tile takes on ONNX Runtime."""
    side = round_up(tile, stride)
    command = [sys.executable, "-c", MEASURE, str(path), str(bands), str(side)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a list of our own
    # Rounded, so that the same network mostly gets the same card.
    return float(f"{max(16.0, float(done.stdout)):.2g}") if done.returncode == 0 and done.stdout.strip() else 1000.0
