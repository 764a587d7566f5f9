"""Models of the benchmarks: made once, kept in ``benchmarks/results/data``; torch is imported only then."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import DATA, ROOT

if TYPE_CHECKING:
    import torch

BANDS = ("red", "green", "blue", "nir")
MEAN, STDDEV = (2000.0, 2000.0, 2000.0, 4000.0), (1200.0, 900.0, 800.0, 1200.0)
NAMES, COLORS = ("forest", "cleared", "cloud"), ("#1a7a34", "#e0b050", "#f0f0f0")
SEED = 3
SIDE = 4096
"""Rows of the scene whose statistics and truth networks are fitted to."""
OBJECTS = 12
"""Objects of the detector in 256 x 256 pixels."""
STEPS, BATCH, CROP, LEARNING_RATE = 400, 4, 256, 2e-3
"""How the trained network is trained."""


def _facts(name: str, bands: int, classes: int) -> dict[str, Any]:
    return {
        "name": name,
        "description": "Made by the benchmarks, with random weights.",
        "license": "Apache-2.0",
        "bands": BANDS[:bands],
        "scaling": [{"mean": m, "stddev": s} for m, s in zip(MEAN, STDDEV, strict=True)][:bands],
        "data_type": "uint16",
        "value_range": (0, 65535),
        "gsd_m": 10.0,
        "classes": [{"value": i, "name": NAMES[i], "color": COLORS[i]} for i in range(classes)],
    }


def folder_of(name: str) -> Path:
    """Where a model is kept; another one when the code that saves models has changed."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for module in ("saving", "card", "networks/build", "networks/config", "receptive_field"):
        digest.update((ROOT / "geoseg" / "models" / f"{module}.py").read_bytes())
    return DATA / f"{name}-{digest.hexdigest()[:8]}"


def unet_resnet18(scene: int = SIDE) -> Path:
    """A U-Net on ResNet-18 with 4 bands and 3 classes.

    Its weights are random, batch normalization has seen the scene of so many rows, and the last layer is fitted to the scene's
    truth: as many patches as from a trained network, without the hours of training.
    """
    folder = folder_of("unet-resnet18" if scene == SIDE else f"unet-resnet18-{scene}")
    # Beside a small scene, a small network.
    parameters = {} if scene == SIDE else {"encoder_depth": 3, "decoder_channels": [32, 16, 16]}
    if not (folder / "card.json").is_file():
        import torch

        from geoseg.models.networks.build import build_network
        from geoseg.models.networks.config import NetworkConfig
        from geoseg.models.saving import save_model

        torch.manual_seed(SEED)
        config = NetworkConfig("unet", "resnet18", 4, 3, parameters)
        network = build_network(config)
        chips, truth = _samples(scene, scene // 8)
        _settle(network, chips)
        head = [m for m in network.segmentation_head.modules() if isinstance(m, torch.nn.Conv2d)][-1]
        _fit(network, head, chips, truth)
        save_model(network, config, folder, _facts("unet-resnet18", 4, 3))
    return folder


def unet_resnet50() -> Path:
    """A U-Net on ResNet-50 with 4 bands and 3 classes, with random weights throughout: for its time alone."""
    folder = folder_of("unet-resnet50")
    if not (folder / "card.json").is_file():
        import torch

        from geoseg.models.networks.build import build_network
        from geoseg.models.networks.config import NetworkConfig
        from geoseg.models.saving import save_model

        torch.manual_seed(SEED)
        config = NetworkConfig("unet", "resnet50", 4, 3, {})
        save_model(build_network(config), config, folder, _facts("unet-resnet50", 4, 3))
    return folder


def mask_rcnn(*, small: bool = False) -> Path:
    """A Mask R-CNN on ResNet-50 for one class of objects in 3 bands of 8 bits; with random weights, for its time alone.

    Of what it takes for objects, it keeps so many in each 256 x 256 pixels, as a trained one finds in a town.
    """
    folder = folder_of("mask-rcnn-small" if small else "mask-rcnn")
    encoder, narrow = ("resnet18", {"width": 32, "hidden": 64, "proposals": 100}) if small else ("resnet50", {})
    if not (folder / "card.json").is_file():
        import torch

        from geoseg.models.networks.build import build_network
        from geoseg.models.networks.config import NetworkConfig
        from geoseg.models.saving import save_model

        torch.manual_seed(SEED)
        parameters = {"detections": OBJECTS, "anchors": [16, 32, 64, 128, 256], **narrow}
        config = NetworkConfig("mask-rcnn", encoder, 3, 2, parameters)
        network = build_network(config)
        # Of masks at random, only pieces that are too small would be left.
        torch.nn.init.constant_(network.network.roi_heads.mask_predictor.mask_fcn_logits.bias, 4.0)
        facts = {
            "scaling": [{"mean": 60.0, "stddev": 30.0}] * 3,
            "data_type": "uint8",
            "value_range": (0, 255),
            "classes": [
                {"value": 0, "name": "ground", "color": COLORS[0], "background": True},
                {"value": 1, "name": "object", "color": COLORS[1]},
            ],
            "instances": {"kind": "regions", "largest_px": 64, "score": 0.0},
        }
        save_model(network, config, folder, _facts("mask-rcnn", 3, 2) | facts)
    return folder


def trained_unet_resnet18() -> Path:
    """The same network, all of its layers trained from scratch on crops of the 16-bit scene; takes minutes, once."""
    folder = folder_of("trained-unet-resnet18")
    if not (folder / "card.json").is_file():
        import torch

        from geoseg.models.networks.build import build_network
        from geoseg.models.networks.config import NetworkConfig
        from geoseg.models.saving import save_model

        torch.manual_seed(SEED)
        config = NetworkConfig("unet", "resnet18", 4, 3, {})
        network = build_network(config)
        _train(network, *_samples())
        save_model(network, config, folder, _facts("trained-unet-resnet18", 4, 3) | {"description": "Trained by the benchmarks."})
    return folder


def integer_unet_resnet18(scene: Path) -> Path:
    """The U-Net on ResNet-18 in 8-bit integers, with ranges of the scene."""
    folder = folder_of("integer-unet-resnet18")
    if not (folder / "card.json").is_file():
        from geoseg.models.model_folder import load_model
        from pipeline.calibrate.calibrate_settings import QuantizationSettings
        from pipeline.calibrate.integer_model import quantize
        from pipeline.config.sections import Config

        model = load_model(str(unet_resnet18()))
        quantize(model, [str(scene)], folder, Config(), QuantizationSettings(crops=16))
    return folder


def two_layers() -> Path:
    """A network of two convolutions, which costs next to nothing; 4 bands, 3 classes."""
    folder = folder_of("two-layers")
    if not (folder / "card.json").is_file():
        network = two_layer_network()
        _fit(network, network[2], *_samples())
        _save_plain(network, folder, _facts("two-layers", 4, 3))
    return folder


def one_band() -> Path:
    """The same for one band of 8 bits; bright and dark."""
    folder = folder_of("one-band")
    if not (folder / "card.json").is_file():
        import torch

        network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 1))
        with torch.no_grad():
            network[0].weight.fill_(1 / 9)
            network[0].bias.zero_()
            network[2].weight.copy_(torch.tensor([-0.25, 0.25]).view(2, 1, 1, 1).expand(2, 4, 1, 1))
            network[2].bias.copy_(torch.tensor([1.0, -1.0]))
        one = {"bands": ("gray",), "scaling": [{"mean": 0.0, "stddev": 50.0}], "data_type": "uint8", "value_range": (0, 255)}
        _save_plain(network, folder, _facts("one-band", 1, 2) | one)
    return folder


def red_forest() -> Path:
    """One convolution of one pixel: forest is dark in red; three bands of 8 bits."""
    folder = folder_of("red-forest")
    if not (folder / "card.json").is_file():
        import torch

        network = torch.nn.Conv2d(3, 2, 1)
        with torch.no_grad():
            network.weight.zero_()
            network.weight[1, 0], network.bias[1], network.bias[0] = -0.2, 10.4, 0.0
        names = enumerate(("non-forest", "forest"))
        _save_plain(
            network,
            folder,
            _facts("red-forest", 3, 2)
            | {
                "scaling": [{"mean": 0.0, "stddev": 1.0}] * 3,
                "data_type": "uint8",
                "value_range": (0, 255),
                "classes": [{"value": k, "name": n, "color": COLORS[1 - k]} for k, n in names],
            },
        )
    return folder


def two_layer_network() -> torch.nn.Sequential:
    """The network of ``two_layers``, before it is fitted."""
    import torch

    torch.manual_seed(SEED)
    return torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 3, 1)).eval()


def _save_plain(network: torch.nn.Module, folder: Path, facts: dict[str, Any]) -> None:
    from geoseg.models.networks.config import NetworkConfig
    from geoseg.models.saving import save_model

    bands, classes = len(facts["bands"]), len(facts["classes"])
    # The folder's config.json stands for no network that the library builds: such a model runs on ONNX Runtime only.
    config = NetworkConfig("unet", "resnet18", bands, classes, {})
    save_model(network, config, folder, {"architecture": "plain", "stride": 1, **facts}, half=False, with_weights=False)


def _samples(rows: int = SIDE, side: int = 512) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalized samples (N, 4, side, side) of the 16-bit scene of so many rows, and (N, side, side) classes.

    Forest is 0, cleared 1, cloud 2.
    """
    import numpy as np
    import rasterio
    import torch
    from data import four_bands

    from geoseg.procedural import FOREST, OTHER, Frontier
    from geoseg.windows import Window

    scene = Frontier(rows, rows, collar=False)
    offsets = range(0, rows - side + 1, (rows - side) // 3)
    windows = [Window.at((row, col), (side, side)) for row in offsets for col in offsets]
    with rasterio.open(four_bands(rows)) as dataset:
        areas = [w.for_rasterio() for w in windows]
        data = np.stack([dataset.read(window=area) for area in areas]).astype(np.float32)
    known = np.stack([scene.window(window)[1] for window in windows])
    truth = np.select([known == FOREST, known == OTHER], [0, 1], 2)
    shape = (1, -1, 1, 1)
    normalized = (data - np.reshape(MEAN, shape)) / np.reshape(STDDEV, shape)
    return torch.from_numpy(normalized).float(), torch.from_numpy(truth).long()


def _train(network: torch.nn.Module, chips: torch.Tensor, truth: torch.Tensor) -> None:
    """``STEPS`` steps of AdamW on random crops, the learning rate in one cycle."""
    import torch

    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS)
    network.train()
    for _ in range(STEPS):
        picks = torch.randint(len(chips), (BATCH,)).tolist()
        rows, cols = (torch.randint(chips.shape[-1] - CROP + 1, (BATCH,)).tolist() for _ in range(2))
        areas = [(pick, slice(r, r + CROP), slice(c, c + CROP)) for pick, r, c in zip(picks, rows, cols, strict=True)]
        scores = network(torch.stack([chips[pick, :, r, c] for pick, r, c in areas]))
        loss = torch.nn.functional.cross_entropy(scores, torch.stack([truth[area] for area in areas]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()


def _settle(network: torch.nn.Module, chips: torch.Tensor) -> None:
    """Give batch normalization the statistics of the scene."""
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


def _fit(network: torch.nn.Module, last: torch.nn.Conv2d, chips: torch.Tensor, truth: torch.Tensor) -> None:
    """Fit the last layer to the truth by least squares."""
    import torch

    features: list[torch.Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    size, classes = last.kernel_size[0], last.out_channels
    width = last.in_channels * size**2 + 1
    square, product = torch.zeros(width, width, dtype=torch.float64), torch.zeros(width, classes, dtype=torch.float64)
    with torch.no_grad():
        for chip, known in zip(chips.split(1), truth, strict=True):
            network(chip)
            columns = torch.nn.functional.unfold(features.pop(), size, padding=size // 2)[0].double()
            columns = torch.cat([columns, columns.new_ones(1, columns.shape[1])])
            square += columns @ columns.T
            product += columns @ torch.nn.functional.one_hot(known.flatten(), classes).double()
        hook.remove()
        square += 1e-3 * square.diagonal().mean() * torch.eye(width, dtype=torch.float64)
        weights = torch.linalg.solve(square, product).T.float()
        last.weight.copy_(weights[:, :-1].reshape(last.weight.shape))
        last.bias.copy_(weights[:, -1])
