"""When a small U-Net is enough: encoders by the share of labels that they learn from, as a table in Markdown.

    python benchmarks/imagenet_weights.py
    python benchmarks/bench_encoders.py
    python benchmarks/bench_encoders.py --steps 150 --precision bf16
    python benchmarks/bench_encoders.py --every --steps 400

Scenes and labels are those of amazon_forest: 30 of train, 512 x 512 px each, judged on the 8 of val, which choose nothing: the
last step is kept. 100 % are all labels of train; 10 % those of three scenes; 1 % a square of 280 px of one scene, whose classes
are about as frequent as those of all. Every row learns from as many chips. Seconds are those of ONNX Runtime for a scene of
1024 x 1024 px in one pass, of as many threads as OMP_NUM_THREADS says. With ``--every``, rows whose weights have to come from the
hub are trained, too; without, and where the hub can't be reached, their networks are only timed, with weights of chance.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import rasterio
import torch

from geoseg.errors import GeosegError
from geoseg.models.networks.build import build_network
from geoseg.models.networks.config import NetworkConfig
from pipeline.train.recipe import Recipe
from pipeline.train.run import train

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data" / "amazon_forest"
WORK = ROOT / "build" / "encoders"
LITE0 = ROOT / "build" / "weights" / "efficientnet_lite0.safetensors"
SHARES = {"1 %": 1, "10 %": 3, "100 %": 30}
"""Scenes of train whose labels are used."""
SQUARE, WANTED = 280, 0.535
"""Side of the part of the one scene, of whose pixels so many are to be forest."""
SIDE = 1024


@dataclass(frozen=True)
class Row:
    """A network with weights to begin from."""

    name: str
    network: Mapping[str, Any]
    init: Mapping[str, Any] = field(default_factory=dict)
    from_hub: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)


NARROW = [64, 48, 32, 24, 16]
ROWS = (
    Row(
        "small U-Net, `unet-2015` of width 8",
        {"architecture": "unet-2015", "parameters": {"width": 8, "depth": 4, "padding": "same", "batch_norm": True}},
    ),
    Row(
        "EfficientNet-Lite0, ImageNet",
        {
            "architecture": "unet-fine",
            "encoder": "tu-tf_efficientnet_lite0",
            "parameters": {"encoder_depth": 4, "decoder_channels": [128, 64, 32, 16], "width": 16},
        },
        {"weights": str(LITE0), "encoder_rate": 0.25},
    ),
    Row(
        "EfficientNet-Lite0, by chance",
        {
            "architecture": "unet-fine",
            "encoder": "tu-tf_efficientnet_lite0",
            "parameters": {"encoder_depth": 4, "decoder_channels": [128, 64, 32, 16], "width": 16},
        },
    ),
    Row("ConvNeXt-Atto, by chance", {"encoder": "tu-convnext_atto", "parameters": {"decoder_channels": NARROW}}),
    Row(
        "ConvNeXt-Atto, ImageNet",
        {"encoder": "tu-convnext_atto", "parameters": {"decoder_channels": NARROW}},
        {"weights": "imagenet", "encoder_rate": 0.25},
        from_hub=True,
        changes={"normalize": "weights"},
    ),
    Row(
        "ResNet-18, SSL4EO-S12",
        {"encoder": "resnet18", "parameters": {"decoder_channels": NARROW}},
        {"weights": "SENTINEL2_RGB_MOCO", "encoder_rate": 0.25},
        from_hub=True,
        changes={"normalize": "data"},
    ),
    Row(
        "Swin-V2-Tiny, SatlasPretrain",
        {"encoder": "tu-swinv2_tiny_window8_256", "parameters": {"decoder_channels": NARROW}},
        {"weights": "SENTINEL2_SI_RGB_SATLAS", "encoder_rate": 0.25},
        from_hub=True,
    ),
    Row(
        "ViT-Small, DINOv3",
        {"architecture": "dpt", "encoder": "tu-vit_small_patch16_dinov3"},
        {"weights": "lvd1689m", "encoder_rate": 0.25},
        from_hub=True,
        changes={"normalize": "weights"},
    ),
)


def labelled(folder: Path, scenes: int) -> list[str]:
    """Write the masks of a share of the labels; the names of its scenes."""
    names = sorted(path.name for path in (DATA / "train" / "masks").iterdir())
    chosen = [names[round((k + 0.5) * len(names) / scenes - 0.5)] for k in range(scenes)]
    best = None
    for name in chosen if scenes > 1 else names:
        with rasterio.open(DATA / "train" / "masks" / name) as file:
            mask, profile = file.read(1), file.profile
        if scenes == 1:
            at = (mask.shape[0] - SQUARE) // 2
            part = mask[at : at + SQUARE, at : at + SQUARE].copy()
            distance = abs(float((part == 1).mean()) - WANTED)
            if best is None or distance < best[0]:
                mask[:] = 255
                mask[at : at + SQUARE, at : at + SQUARE] = part
                best = (distance, name, mask, profile)
            continue
        with rasterio.open(folder / name, "w", **profile) as file:
            file.write(mask, 1)
    if best is not None:
        chosen = [best[1]]
        with rasterio.open(folder / best[1], "w", **best[3]) as file:
            file.write(best[2], 1)
    return chosen


def recipe_of(row: Row, masks: Path, names: Sequence[str], steps: int, precision: str) -> Recipe:
    classes = [{"name": "non-forest", "color": "#e8d8a0", "background": True}, {"name": "forest", "color": "#1a7837"}]
    document: dict[str, Any] = {
        "name": "bench-encoders",
        "description": "Forest in true-colour Sentinel-2 images",
        "bands": ["red", "green", "blue"],
        "value_range": [0, 255],
        "gsd_m": 10.0,
        "classes": classes,
        "data": [
            {
                "images": [str(DATA / "train" / "images")],
                "labels": str(masks),
                "only": [Path(name).stem for name in names],
                "role": "train",
            },
            {"images": [str(DATA / "val" / "images")], "labels": str(DATA / "val" / "masks"), "role": "val"},
        ],
        "network": dict(row.network),
        "init": dict(row.init),
        "sample": {"chip": 256, "batch": 4},
        "augment": {"gain": 0.06, "band_gain": 0.025, "offset": 0.1, "band_offset": 0.05, "haze": 0.15},
        "loop": {"steps": steps, "check": steps, "choose": "last", "rate": 2e-3, "average": 0.9, "precision": precision},
        "calibrate": {"method": "none"},
    }
    return Recipe.parse({**document, **row.changes})


def figure(row: Row, share: str, steps: int, precision: str) -> float:
    """Return the mIoU on val after a training; it is kept."""
    kept = WORK / f"{row.name}, {share}, {steps}, {precision}.json"
    if not kept.is_file():
        WORK.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            masks = Path(folder) / "masks"
            masks.mkdir()
            names = labelled(masks, SHARES[share])
            begun = time.process_time()
            train(recipe_of(row, masks, names, steps, precision), Path(folder) / "model", progress=False, engine="onnx")
            found = json.loads((Path(folder) / "model" / "training" / "validation.json").read_text())
        kept.write_text(json.dumps({"miou": found["miou"], "cpu_s": time.process_time() - begun}))
    return float(json.loads(kept.read_text())["miou"])


def seconds(row: Row) -> tuple[float, float]:
    """Seconds for a scene by ONNX Runtime, the better of two runs, and millions of parameters."""
    facts = dict(row.network)
    config = NetworkConfig(facts.get("architecture", "unet"), facts.get("encoder", ""), 3, 2, facts.get("parameters", {}))
    torch.manual_seed(0)
    network = build_network(config).eval()
    axes = {0: "n", 2: "h", 3: "w"}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "n.onnx")
        names = {"input_names": ["image"], "output_names": ["scores"], "dynamic_axes": {"image": axes, "scores": axes}}
        torch.onnx.export(network, (torch.zeros(1, 3, 512, 512),), path, dynamo=False, opset_version=18, **names)
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    image, took = np.zeros((1, 3, SIDE, SIDE), np.float32), []
    for _ in range(2):
        begun = time.process_time() if options.intra_op_num_threads == 1 else time.perf_counter()
        session.run(None, {"image": image})
        took.append((time.process_time() if options.intra_op_num_threads == 1 else time.perf_counter()) - begun)
    return min(took), sum(p.numel() for p in network.parameters()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40, help="Steps of each training.")
    parser.add_argument("--precision", choices=("32", "bf16"), default="32", help="Numbers that networks learn with.")
    parser.add_argument("--every", action="store_true", help="Train what needs weights of the hub, too.")
    parser.add_argument("--only", type=int, nargs="*", help="Numbers of the rows. [default: all]")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"| encoder, weights | parameters | seconds | {' | '.join(f'mIoU, {share}' for share in SHARES)} |")
    print(f"|---|---|---|{'---|' * len(SHARES)}", flush=True)
    for number, row in enumerate(ROWS):
        if arguments.only is not None and number not in arguments.only:
            continue
        took, millions = seconds(row)
        cells = ["not measured"] * len(SHARES)
        if arguments.every or not row.from_hub:
            for place, share in enumerate(SHARES):
                try:
                    cells[place] = f"{figure(row, share, arguments.steps, arguments.precision):.3f}"
                except GeosegError as error:
                    cells[place] = f"{error}"[:60]
        print(f"| {row.name} | {millions:.1f} M | {took:.1f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
