"""Models of the benchmarks: made once, kept in ``benchmarks/results/data``. torch is imported when one is missing."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import DATA, ROOT

if TYPE_CHECKING:
    import torch

BANDS = ("red", "green", "blue", "nir")
MEAN, STDDEV = (2000.0, 2000.0, 2000.0, 4000.0), (1200.0, 900.0, 800.0, 1200.0)
NAMES, COLORS = ("forest", "cleared", "water"), ("#1a7a34", "#e0b050", "#3060c0")
SEED = 3


def _facts(name: str, bands: int, classes: int, **more: Any) -> dict[str, Any]:
    return {
        "name": name, "description": "Made by the benchmarks, with random weights.", "license": "Apache-2.0",
        "bands": BANDS[:bands], "scaling": [{"mean": m, "stddev": s} for m, s in zip(MEAN, STDDEV, strict=True)][:bands],
        "data_type": "uint16", "value_range": (0, 65535), "gsd_m": 10.0,
        "classes": [{"value": i, "name": NAMES[i], "color": COLORS[i]} for i in range(classes)],
    } | more  # fmt: skip


def _folder(name: str) -> Path:
    """Where a model is kept; another one when the code that saves models has changed."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for module in ("saving", "card", "networks", "receptive_field"):
        digest.update((ROOT / "geoseg" / "models" / f"{module}.py").read_bytes())
    return DATA / f"{name}-{digest.hexdigest()[:8]}"


def unet_resnet18() -> Path:
    """A U-Net on ResNet-18 with random weights, whose batch normalization has seen the scene; 4 bands, 3 classes."""
    folder = _folder("unet-resnet18")
    if not (folder / "card.json").is_file():
        import torch
        from data import four_bands

        from geoseg.models.networks import NetworkConfig, build_network
        from geoseg.models.saving import save_model

        torch.manual_seed(SEED)
        config = NetworkConfig("unet", "resnet18", 4, 3, {})
        network = build_network(config)
        chips = _chips(four_bands())
        _settle(network, chips)
        save_model(network, config, folder, _facts("unet-resnet18", 4, 3))
    return folder


def _chips(scene: Path, side: int = 512) -> torch.Tensor:
    """Normalized samples (N, 4, side, side) of a scene."""
    import numpy as np
    import rasterio
    import torch
    from rasterio.windows import Window

    with rasterio.open(scene) as dataset:
        offsets = range(0, dataset.height - side + 1, (dataset.height - side) // 3)
        windows = [Window(col, row, side, side) for row in offsets for col in offsets]
        data = np.stack([dataset.read(window=window) for window in windows]).astype(np.float32)
    shape = (1, -1, 1, 1)
    return torch.from_numpy((data - np.reshape(MEAN, shape)) / np.reshape(STDDEV, shape)).float()


def _settle(network: torch.nn.Module, chips: torch.Tensor) -> None:
    """Give batch normalization the statistics of the scene, and the classes about equal shares."""
    import torch

    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    network.train()
    with torch.no_grad():
        for chip in chips.split(4):
            network(chip)
        network.eval()
        scores = torch.cat([network(chip) for chip in chips.split(4)])
        spread, mean = scores.std(dim=(0, 2, 3)), scores.mean(dim=(0, 2, 3))
        head = [m for m in network.segmentation_head.modules() if isinstance(m, torch.nn.Conv2d)][-1]
        head.weight /= spread.view(-1, 1, 1, 1)
        head.bias.copy_((head.bias - mean) / spread)
