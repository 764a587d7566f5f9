"""A network that grades buildings as a model folder: ONNX, which needs no torch, weights, card and README."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from geoseg.damage.network import DamageNetwork, probabilities
from geoseg.damage.scale import CLASSES, STYLES
from geoseg.models.card import Card
from geoseg.models.card_values import DamageFacts
from geoseg.models.model_folder import CARD, CONFIG, ONNX, README, WEIGHTS, Model, file_hash, load_model

__all__ = ["About", "save_damage_model"]

OPSET = 17


@dataclass(frozen=True, slots=True)
class About:
    """Facts that are told of a model that grades buildings."""

    name: str
    license_name: str
    """SPDX identifier of the licence of the weights."""
    bands: tuple[str, ...]
    """Names of the bands of a date."""
    encoder: str
    """Its name."""
    figures: Mapping[str, Any]
    """What its training found, for the README."""
    data_type: str = "uint8"
    """Of the images."""


def save_damage_model(network: DamageNetwork, folder: Path, facts: DamageFacts, about: About) -> Model:
    """Write a model folder.

    Args:
        network: The network.
        folder: Where to; made where it is missing.
        facts: How buildings are shown to it.
        about: What is told of it.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "library": "geoseg",
        "architecture": "damage",
        "encoder": about.encoder,
        "used": list(network.used),
        "views": network.views,
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, folder / WEIGHTS)
    _export(network, folder / ONNX, len(about.bands) * network.dates, facts.side)
    card = _card(network, folder, facts, about)
    card.write(folder / CARD)
    (folder / README).write_text(_readme(card, about.figures), encoding="utf-8")
    return load_model(str(folder))


def _readme(card: Card, figures: Mapping[str, Any]) -> str:
    """The README: a table of what was found on buildings held out, which pages and deliveries quote, and all figures."""
    held = figures["held_out_figures"]
    rows = [f"| Trained on | {figures['buildings']:,} buildings: {_by_class(figures['classes'])} |"]
    if held.get("macro_f1") is not None:
        rows += [
            (
                f"| Held out | {held['buildings']:,} buildings, on which it was calibrated: macro F1 {held['macro_f1']:.3f}, "
                f"accuracy {held['accuracy']:.3f}, {held['steps_off']:.2f} steps of the scale off on average, "
                f"calibration error {held['ece']:.3f} |"
            ),
            f"| F1 by class | {', '.join(f'{name} {_short(value)}' for name, value in held['f1'].items())} |",
        ]
    table = "\n".join(["| | |", "|---|---|", *rows, f"| Licence of the weights | {card.license} |"])
    text = json.dumps(figures, indent=2)
    return f"# {card.name}\n\n{card.description}.\n\n{table}\n\n```json\n{text}\n```\n"


def _by_class(counts: Sequence[int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in zip(CLASSES, counts, strict=True))


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _export(network: DamageNetwork, path: Path, channels: int, side: int) -> None:
    """Write ONNX that gives probabilities."""
    example = torch.zeros(2, channels, side, side), torch.zeros(2, 1, side, side)

    class Graded(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return probabilities(self.network(image, mask))

    torch.onnx.export(
        Graded().eval(),
        example,
        str(path),
        input_names=["image", "mask"],
        output_names=["probabilities"],
        dynamic_axes={"image": {0: "n"}, "mask": {0: "n"}, "probabilities": {0: "n"}},
        opset_version=OPSET,
        dynamo=False,
    )


def _card(network: DamageNetwork, folder: Path, facts: DamageFacts, about: About) -> Card:
    assert isinstance(network.mean, torch.Tensor)
    assert isinstance(network.deviation, torch.Tensor)
    return Card.model_validate(
        {
            "name": about.name,
            "description": "Damage of buildings on the Joint Damage Scale",
            "license": about.license_name,
            "architecture": f"damage/{about.encoder}",
            "framework_version": str(torch.__version__).split("+", 1)[0],
            "total_parameters": sum(p.numel() for p in network.parameters()),
            "bands": about.bands,
            "scaling": [
                {"mean": m, "stddev": d}
                for m, d in zip(network.mean.flatten().tolist(), network.deviation.flatten().tolist(), strict=True)
            ],
            "classes": [{"value": s.code, "name": s.name, "color": s.color} for s in STYLES if s.code < len(CLASSES)],
            "data_type": about.data_type,
            "gsd_m": facts.gsd_m,
            "stride": 1,
            "global_context": True,
            "damage": facts.model_dump(),
            "files": {one: file_hash(folder / one) for one in (CONFIG, ONNX, WEIGHTS)},
        }
    )
