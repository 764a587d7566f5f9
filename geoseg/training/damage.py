"""Training a network that grades buildings, and saving it as a model folder."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geoseg.damage.scale import CLASSES, STYLES, building_figures, decided
from geoseg.errors import ConfigError
from geoseg.models.card import Card, DamageFacts
from geoseg.models.damage import DamageNetwork, ordinal_loss, probabilities
from geoseg.models.folder import CARD, CONFIG, ONNX, README, WEIGHTS, Model, file_hash, load_model

__all__ = ["DamageSet", "DamageSettings", "save_damage_model", "train_damage"]

OPSET = 17
LEAST_OF_CLASS = 2
"""Buildings of each class that there are at least to train on."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class DamageSet:
    """Buildings with their classes."""

    image: Floats
    """(N, dates * C, S, S)."""
    mask: Floats
    """(N, S, S)."""
    label: NDArray[np.int64]
    """(N,) classes."""
    place: NDArray[np.float64]
    """(N, 2) where they lie, in pixels: neighbours are held out together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DamageSettings:
    """How it is trained."""

    encoder: str = "tu-tf_efficientnet_lite0"
    weights: str | None = None
    """A file of weights for the encoder; None for random ones."""
    steps: int = 400
    batch: int = 32
    rate: float = 1e-3
    encoder_rate: float = 0.2
    """Learning rate of the encoder relative to the head."""
    held: float = 0.1
    """Share of the buildings, in blocks, that calibrates."""
    used: tuple[int, ...] = (0, 1)
    """Dates that are looked at."""
    seed: int = 0


def build(settings: DamageSettings, bands: int, dates: int, scaling: tuple[list[float], list[float]]) -> DamageNetwork:
    """A network with the weights that the settings name."""
    from geoseg.models.networks import NetworkConfig, build_network
    from geoseg.models.pretrained import load_weights

    config = NetworkConfig("unet", settings.encoder, bands, 2, {"encoder_depth": 4, "decoder_channels": [64, 32, 16, 16]})
    network = build_network(config)
    if settings.weights is not None:
        load_weights(network, settings.weights, config=config, bands=("red", "green", "blue")[:bands], whole=False)
    return DamageNetwork(network.encoder, dates, len(CLASSES), settings.used, scaling)


def held_out(place: NDArray[np.float64], share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which buildings are held out: whole strips of the scene, so that neighbours stay together."""
    order = np.argsort(place[:, 0] + 0.37 * place[:, 1])
    blocks = np.array_split(order, 20)
    chosen = rng.permutation(20)[: max(1, round(20 * share))]
    held = np.zeros(len(place), np.bool_)
    for k in chosen:
        held[blocks[k]] = True
    return held


def train_damage(
    data: DamageSet, bands: int, settings: DamageSettings, log: Callable[[str], None] = lambda _: None
) -> tuple[DamageNetwork, dict[str, Any]]:
    """Train a network, and calibrate it on what was held out.

    Raises:
        ConfigError: A class has too few buildings.
    """
    counts = np.bincount(data.label, minlength=len(CLASSES))
    if (counts < LEAST_OF_CLASS).any():
        few = int(counts.argmin())
        raise ConfigError(
            f"labels: {counts[few]} buildings of {CLASSES[few]!r}; at least {LEAST_OF_CLASS} of each class are needed"
        )
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    held = held_out(data.place, settings.held, rng)
    learn = np.flatnonzero(~held)
    dates = data.image.shape[1] // bands
    by_band = data.image.reshape(len(data.image), dates, bands, -1)
    scaling = by_band.mean(axis=(0, 1, 3)).tolist(), (by_band.std(axis=(0, 1, 3)) + 1e-3).tolist()
    network = build(settings, bands, dates, scaling)
    average = copy.deepcopy(network)
    encoder = list(network.encoder.parameters())
    # Thresholds are few and far apart: they learn faster.
    thresholds = [network.first, network.gaps]
    own = {id(p) for p in (*encoder, *thresholds)}
    groups = [
        {"params": encoder, "lr": settings.rate * settings.encoder_rate},
        {"params": [p for p in network.parameters() if id(p) not in own and p.requires_grad], "lr": settings.rate},
        {"params": thresholds, "lr": 20 * settings.rate, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        [settings.rate * settings.encoder_rate, settings.rate, 20 * settings.rate],
        total_steps=settings.steps,
        pct_start=0.1,
    )  # type: ignore[arg-type, unused-ignore]
    # Classes are drawn by the root of their number: rare ones more often than they are, yet not as often as the others.
    chance = 1 / np.sqrt(counts[data.label[learn]])
    chance /= chance.sum()
    network.train()
    for module in network.encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    for step in range(settings.steps):
        which = rng.choice(learn, settings.batch, p=chance)
        image, mask = augmented(data.image[which], data.mask[which], bands, np.array(scaling[1]), rng)
        loss = ordinal_loss(network(image, mask[:, None]), torch.from_numpy(data.label[which]))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            keep = min(0.98, (1 + step) / (10 + step))
            for mean, value in zip(average.parameters(), network.parameters(), strict=True):
                mean.lerp_(value, 1 - keep)
        if step % 50 == 49:
            log(f"step {step + 1}: loss {loss.item():.3f}")
    average.eval()
    figures: dict[str, Any] = {"trained_on": len(learn), "held_out": int(held.sum()), "classes": counts.tolist()}
    if held.any():
        logits = graded(average, data.image[held], data.mask[held])
        temperature = best_temperature(logits, torch.from_numpy(data.label[held]))
        average.temperature.data.fill_(temperature)
        found = decided(probabilities(logits / temperature).numpy())
        figures |= {"temperature": temperature, "held_out_figures": building_figures(found, data.label[held])}
    return average, figures


def augmented(
    image: Floats, mask: Floats, bands: int, deviation: NDArray[np.float64], rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Crops turned and mirrored, moved a little, and each date in a light of its own."""
    x, m = torch.from_numpy(image), torch.from_numpy(mask)
    pictures, masks = [], []
    for one, place in zip(x, m, strict=True):
        turns, flip, shift = int(rng.integers(4)), bool(rng.integers(2)), rng.integers(-5, 6, 2).tolist()
        parts = [torch.rot90(t, turns, (-2, -1)) for t in (one, place[None])]
        parts = [torch.roll(t.flip(-1) if flip else t, shift, (-2, -1)) for t in parts]
        light = parts[0]
        known = light != 0
        scale = torch.tensor(deviation, dtype=torch.float32).view(1, bands, 1, 1)
        dates = light.view(-1, bands, *light.shape[-2:])
        gain = torch.exp(
            torch.from_numpy(rng.normal(0, 0.12, (len(dates), 1, 1, 1)) + rng.normal(0, 0.05, (len(dates), bands, 1, 1)))
        ).float()
        offset = (
            torch.from_numpy(rng.normal(0, 0.25, (len(dates), 1, 1, 1)) + rng.normal(0, 0.08, (len(dates), bands, 1, 1))).float()
            * scale
        )
        pictures.append((dates * gain + offset).reshape(light.shape) * known)
        masks.append(parts[1][0])
    return torch.stack(pictures), torch.stack(masks)


def graded(network: DamageNetwork, image: Floats, mask: Floats) -> Tensor:
    """Cumulative logits of crops, some at a time."""
    with torch.no_grad():
        parts = [
            network(torch.from_numpy(image[k : k + 64]), torch.from_numpy(mask[k : k + 64, None]))
            for k in range(0, len(image), 64)
        ]
    return torch.cat(parts)


def best_temperature(logits: Tensor, label: Tensor) -> float:
    """The temperature of least negative log likelihood (Guo et al. 2017, arXiv:1706.04599)."""
    grid = np.exp(np.linspace(np.log(0.5), np.log(4), 60))
    likelihood = [
        float(torch.log(probabilities(logits / t).clamp_min(1e-6)).gather(1, label[:, None]).mean()) for t in grid.tolist()
    ]
    return float(grid[int(np.argmax(likelihood))])


def save_damage_model(
    network: DamageNetwork, folder: Path, *, name: str, bands: tuple[str, ...], settings: DamageSettings, facts: DamageFacts,
    figures: dict[str, Any], license_name: str, data_type: str = "uint8",
) -> Model:  # fmt: skip
    """Write a model folder: ONNX, which needs no torch, weights, card and README."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = {"library": "geoseg", "architecture": "damage", "encoder": settings.encoder, "used": list(settings.used)}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, folder / WEIGHTS)
    count = len(bands) * network.dates
    example = torch.zeros(2, count, facts.side, facts.side), torch.zeros(2, 1, facts.side, facts.side)

    class Graded(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: Tensor, mask: Tensor) -> Tensor:
            return probabilities(self.network(image, mask))

    torch.onnx.export(
        Graded().eval(), example, str(folder / ONNX), input_names=["image", "mask"], output_names=["probabilities"],
        dynamic_axes={"image": {0: "n"}, "mask": {0: "n"}, "probabilities": {0: "n"}}, opset_version=OPSET, dynamo=False,
    )  # fmt: skip
    files = {one: file_hash(folder / one) for one in (CONFIG, ONNX, WEIGHTS)}
    assert isinstance(network.mean, Tensor)
    assert isinstance(network.deviation, Tensor)
    scaling = [
        {"mean": m, "stddev": d}
        for m, d in zip(network.mean.flatten().tolist(), network.deviation.flatten().tolist(), strict=True)
    ]
    card = Card.model_validate({
        "name": name, "description": "Damage of buildings on the Joint Damage Scale", "license": license_name,
        "architecture": f"damage/{settings.encoder}", "framework_version": str(torch.__version__).split("+", 1)[0],
        "total_parameters": sum(p.numel() for p in network.parameters()), "bands": bands, "scaling": scaling,
        "classes": [{"value": s.code, "name": s.name, "color": s.color} for s in STYLES if s.code < len(CLASSES)],
        "data_type": data_type, "gsd_m": facts.gsd_m, "stride": 1, "global_context": True, "damage": facts.model_dump(), "files": files,
    })  # fmt: skip
    card.write(folder / CARD)
    text = json.dumps(figures, indent=2)
    (folder / README).write_text(f"# {name}\n\n{card.description}.\n\n```json\n{text}\n```\n", encoding="utf-8")
    return load_model(str(folder))
