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
from geoseg.models.export_form import export_form
from geoseg.models.exporting import DEFAULT_TILE, export, is_large
from geoseg.models.model_folder import CARD, CONFIG, ONNX, README, WEIGHTS, Model, file_hash, load_model
from geoseg.models.networks.config import TORCHVISION, NetworkConfig
from geoseg.models.networks.deploy import inference_form
from geoseg.models.networks.stride import stride_of
from geoseg.models.receptive_field import measure_receptive_field

if TYPE_CHECKING:
    import torch

__all__ = ["checked_card", "measure_memory", "round_weights", "save_model"]

log = logging.getLogger(__name__)


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
        export(export_form(form, len(card.bands), card.stride), card, folder / ONNX, half=half)
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
        where = ".".join(map(str, first["loc"])) or "facts"
        raise ModelError(f"card: {where}: {first['msg'].removeprefix('Value error, ')}") from error


def _torch_version() -> str:
    import torch

    return str(torch.__version__).split("+", 1)[0]


def round_weights(network: torch.nn.Module) -> None:
    """Round the large weights of a network to what 16 bits hold, in place."""
    import torch

    with torch.no_grad():
        for value in network.state_dict().values():
            if value.dtype == torch.float32 and is_large(tuple(value.shape)):
                value.copy_(value.half().float())


def _compact(state: Mapping[str, torch.Tensor], half: bool) -> dict[str, torch.Tensor]:
    import torch

    return {
        key: (value.half() if half and value.dtype == torch.float32 and is_large(tuple(value.shape)) else value).contiguous()
        for key, value in state.items()
    }


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
