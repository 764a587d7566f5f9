"""Refine a forest model by places that it was not trained on: distilled from its own mean over eight turns, then levelled.

    python benchmarks/refine_amazon_forest.py amazon-forest --out build/accuracy/places/distilled
    python benchmarks/refine_amazon_forest.py amazon-forest --steps 0 --out build/accuracy/places/levelled

Distillation (Hinton et al. 2015, arXiv:1503.02531): the network goes on learning from what it says of a scene turned in all
eight ways, on the scenes of train and of unlabelled, whose chips are turned and change their light; statistics of batch
normalization stay. Levelling: a constant is added to the score of forest, the one under which the places that the recipe
holds out have the largest pooled mean IoU; what it is worth is told with each place left out of its choice in turn. Val takes
no part. The temperature is fitted to the held-out places again.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from bench_accuracy import DATA, RECIPES
from numpy.typing import NDArray
from torch import nn

from geoseg.calibration.fitting import fit
from geoseg.calibration.pixel_sample import PixelSample
from geoseg.evaluation.confusion import ConfusionMatrix
from geoseg.inference.symmetries import SYMMETRIES, turn, turn_back
from geoseg.models.card import Card
from geoseg.models.model_folder import CARD, Model, load_model
from geoseg.models.networks.build import build_network
from geoseg.models.networks.config import NetworkConfig
from geoseg.models.networks.pretrained import load_weights
from geoseg.models.saving import save_model
from geoseg.training.augment.intensity import Radiometry
from geoseg.training.data.chips import Chip
from pipeline.config.document import read_toml

Floats = NDArray[np.float32]
FOREST = DATA / "amazon_forest"
RECIPE: dict[str, Any] = read_toml(RECIPES / "amazon_forest.toml")
LEVELS = np.arange(-16, 41) / 16
"""Constants that are tried."""
CHIP, BATCH, KEPT = 256, 4, 0.95
MEASURED = {"architecture", "framework_version", "total_parameters", "stride", "receptive_field", "global_context", "files"}
"""What a card has from saving, not from training."""


def opened(model: Model) -> tuple[nn.Module, NetworkConfig]:
    """The network of a model folder."""
    config = NetworkConfig.from_json(model.config)
    network = build_network(config)
    names = [entry.name for entry in model.card.classes]
    load_weights(network, str(model.path), config=config, bands=model.card.bands, classes=names, least=1.0)
    return network.eval(), config


def read(path: Path) -> Floats:
    """(C, h, w) the pixels of an image."""
    with rasterio.open(path) as image:
        return np.asarray(image.read(), np.float32)


def scores(network: nn.Module, image: Floats, card: Card) -> Floats:
    """(2, h, w) the scores of an image."""
    with torch.inference_mode():
        return np.asarray(network(prepared([image], card))[0].numpy())


def prepared(images: Sequence[Floats], card: Card) -> torch.Tensor:
    """(N, C, h, w): normalized."""
    mean, stddev = (np.array([getattr(s, key) for s in card.scaling], np.float32)[:, None, None] for key in ("mean", "stddev"))
    return torch.from_numpy(np.ascontiguousarray((np.stack(images) - mean) / stddev, np.float32))


def turned_mean(network: nn.Module, image: Floats, card: Card) -> Floats:
    """(h, w) the probability of forest, mean over eight turns."""
    total = np.zeros(image.shape[1:], np.float32)
    for turns, mirrored in SYMMETRIES:
        found = turn_back(scores(network, turn(image, turns, mirrored), card), turns, mirrored)
        total += 1 / (1 + np.exp(found[0] - found[1])) / len(SYMMETRIES)
    return total


def distilled(network: nn.Module, card: Card, held: Sequence[str], steps: int, rate: float) -> nn.Module:
    """The network after some steps towards its own mean over eight turns."""
    paths = [path for path in sorted((FOREST / "train" / "images").glob("*.tif")) if path.stem not in held]
    images = [read(path) for path in (*paths, *sorted((FOREST / "unlabelled").glob("*.tif")))]
    targets = [turned_mean(network, image, card) for image in images]
    print(f"{len(images)} scenes, {time.process_time():.0f} s", flush=True)
    light = Radiometry(tuple(s.stddev for s in card.scaling), value_range=card.value_range, **RECIPE["augment"])
    student, average = copy.deepcopy(network), copy.deepcopy(network)
    optimizer = torch.optim.AdamW(student.parameters(), rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps)
    rng = np.random.default_rng(0)
    for step in range(steps):
        chips, wanted = [], []
        for k in rng.integers(len(images), size=BATCH):
            row, col = (int(rng.integers(side - CHIP + 1)) for side in targets[k].shape)
            here = (..., slice(row, row + CHIP), slice(col, col + CHIP))
            how = SYMMETRIES[rng.integers(len(SYMMETRIES))]
            chip = Chip(images[k][here], np.ones((CHIP, CHIP), bool), np.zeros((CHIP, CHIP), np.uint8))
            chips.append(turn(light(chip, rng).image, *how))
            wanted.append(turn(targets[k][here], *how))
        found = student(prepared(chips, card))
        loss = nn.functional.binary_cross_entropy_with_logits(found[:, 1] - found[:, 0], torch.from_numpy(np.stack(wanted)))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            for kept, new in zip(average.parameters(), student.parameters(), strict=True):
                kept.lerp_(new, 1 - min(KEPT, (step + 1) / (step + 11)))
        if step % 10 == 9:
            print(f"step {step + 1}: loss {loss.item():.4f}, {time.process_time():.0f} s", flush=True)
    return average


def level(found: Sequence[tuple[Floats, NDArray[np.uint8]]]) -> float:
    """The constant for the score of forest that is best for some places; says what it is worth."""
    counts = np.array(
        [
            [ConfusionMatrix.tally(truth, (s[1] - s[0] + add > 0).astype(np.uint8), 2).counts for add in LEVELS]
            for s, truth in found
        ]
    )

    def best(parts: NDArray[np.int64]) -> int:
        return int(np.argmax([ConfusionMatrix(c).miou() for c in parts.sum(axis=0)]))

    chosen, before = best(counts), int(np.flatnonzero(LEVELS == 0)[0])
    left_out = sum(one[best(np.delete(counts, k, axis=0))] for k, one in enumerate(counts))
    for title, total in (
        ("as it is", counts[:, before].sum(axis=0)),
        (f"{LEVELS[chosen]:+.4f} to forest", counts[:, chosen].sum(axis=0)),
        ("the same, chosen without the place", left_out),
    ):
        print(f"held-out places, {title}: mean IoU {ConfusionMatrix(total).miou():.4f}", flush=True)
    return float(LEVELS[chosen])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="A model folder, or the name of a shipped model.")
    parser.add_argument("--out", type=Path, required=True, help="The model folder to make.")
    parser.add_argument("--steps", type=int, default=60, help="Of the distillation. [default: 60]")
    parser.add_argument("--rate", type=float, default=3e-4, help="Largest learning rate. [default: 3e-4]")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    model = load_model(arguments.model)
    card = model.card
    network, config = opened(model)
    held = RECIPE["split"]["val"]
    if arguments.steps:
        network = distilled(network, card, held, arguments.steps, arguments.rate)
    found = []
    for name in held:
        with rasterio.open(FOREST / "train" / "masks" / f"{name}.tif") as mask:
            found.append((scores(network, read(FOREST / "train" / "images" / f"{name}.tif"), card), mask.read(1)))
    add = level(found)
    moved = np.array([-add / 2, add / 2], np.float32)
    with torch.no_grad():
        dict(network.named_parameters())["segmentation_head.bias"].add_(torch.from_numpy(moved))
    sample = PixelSample(2, 2, np.random.default_rng(0))
    for group, (score, truth) in enumerate(found):
        sample.add(score + moved[:, None, None], truth, group)
    facts = card.model_dump(mode="json", exclude=MEASURED | {"calibration"})
    saved = save_model(network, config, arguments.out, facts)
    calibrated = saved.card.model_copy(update={"calibration": fit("temperature", sample, softmax=True)})
    calibrated.write(saved.path / CARD)


if __name__ == "__main__":
    main()
