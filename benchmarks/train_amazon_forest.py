"""Train the shipped model ``amazon-forest`` from labelled Sentinel-2 scenes.

    python benchmarks/train_amazon_forest.py ../shared/data/amazon_forest --out geoseg/models/shipped/amazon-forest

The folder holds ``train`` and ``val``, each with ``images`` and ``masks`` (1 forest, 0 other, 255 unlabelled) of
512 x 512 pixels. Every nth scene of ``train`` is left out of training: these inner scenes choose between the weights that
a round began with and those that it ended with, and the offset between the two scores. ``val`` is measured once, at the
end. The shipped weights took two rounds, of about an hour each on two cores; what the second one leaves out, the first
one has left out too::

    ... --hold-out 5 --steps 1500 --checkpoint first.pt
    ... --hold-out 10 --steps 1400 --lr 1e-3 --init first.pt
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch uses
from numpy.typing import NDArray

from geoseg.models.networks import NetworkConfig, build_network
from geoseg.models.saving import round_weights, save_model

CROP, BATCH, IGNORE = 256, 8, 255
MEAN, STDDEV = (47.0, 56.0, 59.0), (30.0, 18.0, 14.0)
AIR = (45.0, 62.0, 72.0)
"""Colour that haze tends to."""
NETWORK = NetworkConfig("unet", "mobilenet_v2", 3, 2, {"encoder_depth": 4, "decoder_channels": [128, 64, 32, 16]})
SOURCE = {
    "name": "Amazon and Atlantic Forest image datasets for semantic segmentation (Bragagnolo, da Silva, Grzybowski 2019)",
    "license": "CC-BY-4.0",
    "attribution": "Contains modified Copernicus Sentinel data",
}
README = """# amazon-forest

Forest and non-forest in true-colour Sentinel-2 images of the Amazon (RGB, uint8, 10 m).

| | |
|---|---|
| Network | U-Net on MobileNetV2, four levels; {parameters:.1f} M parameters, kept in 16 bits |
| Trained on | {scenes} scenes of 512 x 512 pixels by Bragagnolo, da Silva and Grzybowski (2019), CC BY 4.0; contains modified Copernicus Sentinel data |
| Held out of training | {inner_scenes} scenes, which chose the checkpoint and the offset between the scores: mean IoU {inner:.3f} |
| Test | {val_scenes} scenes that took no part in training nor in these choices: **mean IoU {val:.3f}** (forest {forest:.3f}, other {other:.3f}) |
| Receptive field | {reach} px to each side |
| Licence of the weights | CC-BY-4.0 |

Made by `benchmarks/train_amazon_forest.py` in two rounds of 1500 and {steps} steps.

## Limits

Pixels are digital numbers as the data set's authors stretched them, not reflectances: images that were stretched otherwise
need `--rescale`. Clouds were not in the training data. The labels are coarse near borders, and so is what was learned from
them. Confidence is that of the softmax, not calibrated.
"""

Scene = tuple[str, torch.Tensor, torch.Tensor]


def read_scenes(folder: Path) -> list[Scene]:
    """Name, (3, h, w) float32 image and (h, w) int64 codes of each labelled image."""
    scenes = []
    for path in sorted((folder / "images").glob("*.tif")):
        with rasterio.open(path) as image, rasterio.open(folder / "masks" / path.name) as mask:
            scenes.append((path.name, torch.from_numpy(image.read()).float(), torch.from_numpy(mask.read(1).astype(np.int64))))
    return scenes


def normalize(pixels: torch.Tensor) -> torch.Tensor:
    """(n, 3, h, w) digital numbers to what the network takes."""
    return (pixels - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STDDEV).view(1, 3, 1, 1)


def augment_colour(x: torch.Tensor, strength: float, rng: np.random.Generator) -> torch.Tensor:
    """Gain, offset, haze and noise: what the scenes differ in."""
    gain = np.exp(rng.normal(0, 0.12 * strength)) * np.exp(rng.normal(0, 0.05 * strength, 3))
    offset = rng.normal(0, 3 * strength) + rng.normal(0, 1.5 * strength, 3)
    x = x * torch.tensor(gain, dtype=torch.float32).view(3, 1, 1) + torch.tensor(offset, dtype=torch.float32).view(3, 1, 1)
    if rng.random() < 0.5:
        clear = float(rng.uniform(1 - 0.35 * strength, 1))
        x = x * clear + (torch.tensor(AIR) + float(rng.normal(0, 8))).view(3, 1, 1) * (1 - clear)
    if rng.random() < 0.5:
        x = x + torch.randn_like(x) * rng.uniform(0, 1.5)
    return x.clamp(0, 255)


def sample(scenes: list[Scene], strength: float, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """One random chip: scaled, turned, mirrored, recoloured."""
    _, image, mask = scenes[rng.integers(len(scenes))]
    side = min(image.shape[-1], int(CROP * math.exp(rng.uniform(-0.35, 0.35))))
    row, col = rng.integers(0, image.shape[-1] - side + 1, 2)
    x = F.interpolate(image[None, :, row : row + side, col : col + side], size=(CROP, CROP), mode="bilinear")[0]
    y = F.interpolate(mask[None, None, row : row + side, col : col + side].float(), size=(CROP, CROP), mode="nearest")[
        0, 0
    ].long()
    turns, mirror = int(rng.integers(4)), rng.random() < 0.5
    x, y = torch.rot90(x, turns, (1, 2)), torch.rot90(y, turns, (0, 1))
    if mirror:
        x, y = x.flip(2), y.flip(1)
    if rng.random() < 0.8:
        x = augment_colour(x, strength, rng)
    return x, y


def loss_of(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy with smoothed labels, and half of the soft Jaccard loss of both classes."""
    valid = labels != IGNORE
    loss = F.cross_entropy(scores, labels, ignore_index=IGNORE, label_smoothing=0.05)
    forest = scores.softmax(1)[:, 1]
    for p, t in ((forest, labels == 1), (1 - forest, labels == 0)):
        found, wanted = p * valid, (t & valid).float()
        loss = loss + 0.5 * (1 - (found * wanted).sum() / ((found + wanted - found * wanted).sum() + 1))
    return loss


def evaluate(network: torch.nn.Module, scenes: list[Scene]) -> NDArray[np.float64]:
    """IoU by class over all pixels of the scenes."""
    matrix = np.zeros((2, 2))
    with torch.inference_mode():
        for _, image, mask in scenes:
            guess = network(normalize(image[None])).argmax(1)[0]
            known = mask != IGNORE
            matrix += np.bincount((2 * mask + guess)[known].numpy(), minlength=4).reshape(2, 2)
    hit = matrix.diagonal()
    return np.asarray(hit / (matrix.sum(0) + matrix.sum(1) - hit))


def train(training: list[Scene], inner: list[Scene], args: argparse.Namespace) -> torch.nn.Module:
    """The moving average of the weights at the end, or those to begin with if these do better on the inner scenes."""
    rng = np.random.default_rng(args.seed)
    network: Any = build_network(NETWORK).to(memory_format=torch.channels_last)
    score = 0.0
    if args.init:
        network.load_state_dict(torch.load(args.init, weights_only=True))
    average = copy.deepcopy(network).eval()
    begun, begun_state = (float(evaluate(average, inner).mean()) if args.init else 0.0), copy.deepcopy(average.state_dict())
    optimizer = torch.optim.AdamW(network.parameters(), lr=args.lr, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=args.steps, pct_start=0.15)
    started = time.monotonic()
    for step in range(1, args.steps + 1):
        network.train()
        chips = [sample(training, args.colour, rng) for _ in range(BATCH)]
        x, y = normalize(torch.stack([c[0] for c in chips])), torch.stack([c[1] for c in chips])
        loss = loss_of(network(x.to(memory_format=torch.channels_last)), y)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            decay = min(0.995, step / (step + 10))
            for kept, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
                kept.lerp_(new, 1 - decay) if kept.dtype.is_floating_point else kept.copy_(new)
        if step % 100 == 0 or step == args.steps:
            score = float(evaluate(average, inner).mean())
            print(
                f"step {step}: loss {float(loss.detach()):.3f}, inner mean IoU {score:.4f}, {time.monotonic() - started:.0f} s",
                flush=True,
            )
    if score < begun:
        average.load_state_dict(begun_state)
    if args.checkpoint:
        torch.save(average.state_dict(), args.checkpoint)
    return average


def choose_offset(network: Any, scenes: list[Scene]) -> float:
    """The offset of the first score with which the mean IoU of some scenes is largest; added to the last layer's bias."""
    bias = network.segmentation_head[0].bias
    kept = bias.detach().clone()
    results = {}
    for offset in np.linspace(-1, 1, 41):
        with torch.no_grad():
            bias.copy_(kept)
            bias[0] += offset
        results[float(offset)] = float(evaluate(network, scenes).mean())
    chosen = max(results, key=results.__getitem__)
    with torch.no_grad():
        bias.copy_(kept)
        bias[0] += chosen
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--lr", type=float, default=2e-3, help="largest learning rate of the one-cycle schedule")
    parser.add_argument("--hold-out", type=int, default=5, help="leave every nth scene out of training")
    parser.add_argument("--init", type=Path, help="weights to go on from")
    parser.add_argument("--colour", type=float, default=2.0, help="strength of the colour augmentation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, help="keep the weights here, too")
    parser.add_argument("--resume", type=Path, help="save the model of these weights instead of training")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    scenes = read_scenes(args.data / "train")
    training = [scene for i, scene in enumerate(scenes) if i % args.hold_out != 2]
    inner = [scene for i, scene in enumerate(scenes) if i % args.hold_out == 2]
    val = read_scenes(args.data / "val")
    if args.resume:
        network = build_network(NETWORK)
        network.load_state_dict(torch.load(args.resume, weights_only=True))
    else:
        network = train(training, inner, args)
    network.eval()
    round_weights(network)
    print(f"offset {choose_offset(network, inner):+.2f}")
    on_inner, on_val = evaluate(network, inner), evaluate(network, val)
    print(f"inner {on_inner.mean():.4f}, val {on_val.mean():.4f} (other {on_val[0]:.4f}, forest {on_val[1]:.4f})")
    facts = {
        "name": "amazon-forest",
        "description": "Forest and non-forest in true-colour Sentinel-2 images of the Amazon",
        "license": "CC-BY-4.0",
        "data": [SOURCE],
        "bands": ["red", "green", "blue"],
        "scaling": [{"mean": m, "stddev": s} for m, s in zip(MEAN, STDDEV, strict=True)],
        "classes": [
            {"value": 0, "name": "non-forest", "color": "#e8d8a0", "description": "Anything but forest"},
            {"value": 1, "name": "forest", "color": "#1a7837", "description": "Closed tree cover"},
        ],
        "data_type": "uint8",
        "value_range": [0, 255],
        "gsd_m": 10.0,
    }
    model = save_model(network, NETWORK, args.out, facts)
    reach = model.card.receptive_field.reach if model.card.receptive_field else 0
    readme = README.format(
        parameters=model.card.total_parameters / 1e6, scenes=len(training), inner_scenes=len(inner), inner=on_inner.mean(),
        val_scenes=len(val), val=on_val.mean(), forest=on_val[1], other=on_val[0], reach=reach, steps=args.steps,
    )  # fmt: skip
    (args.out / "README.md").write_text(readme, encoding="utf-8")


if __name__ == "__main__":
    main()
