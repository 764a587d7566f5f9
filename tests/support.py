"""Helpers of the tests: small models, patchy rasters, the command line in this process and in one of its own."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from geoseg.models.model_folder import Model

ROOT = Path(__file__).parent.parent
UTM = "EPSG:32720"
TRANSFORM = rasterio.Affine(10.0, 0.0, 430_000.0, 0.0, -10.0, 8_930_000.0)
WriteRaster = Callable[..., Path]
LIMIT_S = 1200
"""Seconds that a process may take, or that something is waited for: ten times what the longest need on an idle machine. It ends
what hangs, and nothing that is merely slow; tests/unit/test_time_limits.py sees to it that no test has a shorter one."""


def save(network: Any, bands: int, count: int, folder: Path, /, **facts: Any) -> Model:
    """A model folder of a plain torch module."""
    from geoseg.models.networks.config import NetworkConfig
    from geoseg.models.saving import save_model

    names = ("red", "green", "blue", "nir")[:bands] if bands > 1 else ("gray",)
    given = {
        "name": folder.name,
        "description": "made by a test",
        "license": "Apache-2.0",
        "architecture": "plain",
        "bands": names,
        "scaling": [{"mean": 0.0, "stddev": 1.0}] * bands,
        "value_range": (0, 255),
        "stride": 1,
        "classes": [{"value": i, "name": f"class {i}", "color": f"#{40 * i + 20:02x}8040"} for i in range(count)],
    } | facts
    config = NetworkConfig("unet", "resnet18", bands, count, {})
    return save_model(network, config, folder, given, half=False, with_weights=False)


def save_values(network: Any, bands: int, folder: Path, /, scale: float, offset: float = 0.0, **facts: Any) -> Model:
    """A model folder of a plain torch module that regresses the height of a canopy in metres."""
    names = ("slope", "intercept")
    quantity = {"name": "canopy height", "unit": "m", "scale": scale, "offset": offset}
    quantity |= {name: facts.pop(name) for name in names if name in facts}
    classes = [{"value": 0, "name": "canopy height", "color": "#1a7837", "background": True}]
    return save(network, bands, 1, folder, classes=classes, activation="identity", quantity=quantity, **facts)


def damage_by_red(folder: Path, bands: int = 3) -> Model:
    """A model that maps damage: the class of which the number, from 1, times 50 is the first band of the image after."""
    import torch

    from geoseg.damage.scale import CLASSES

    network = torch.nn.Conv2d(bands, 5, 1)
    with torch.no_grad():
        network.weight.zero_()
        for k in range(5):
            network.weight[k, 0], network.bias[k] = 2 * k / 50, -float(k**2)
    names = ("background", *CLASSES)
    classes = [{"value": k, "name": n, "color": f"#{40 * k + 20:02x}8040", "background": k == 0} for k, n in enumerate(names)]
    return save(network, bands, 5, folder, classes=classes)


def patchy(height: int, width: int, classes: int, seed: int = 0, size: float = 2.0) -> np.ndarray:
    """(h, w) uint8 class codes in patches of some pixels."""
    from scipy import ndimage

    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random((height, width)), size)
    return np.digitize(noise, np.quantile(noise, np.linspace(0, 1, classes + 1)[1:-1])).astype(np.uint8)


def run_cli(args: Sequence[str | Path], **kwargs: Any) -> subprocess.CompletedProcess[str]:
    """``geoseg`` in a process of its own."""
    command = [sys.executable, "-m", "pipeline", *map(str, args)]
    env = {**os.environ, **kwargs.pop("env", {})}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, timeout=LIMIT_S, check=False, **kwargs)


@contextlib.contextmanager
def own_logging() -> Iterator[None]:
    """No handlers, as at the start of a process: those of pytest would keep from the console what it shows there."""
    loggers = [logging.getLogger(name) for name in ("", "geoseg", "pipeline")]
    before = [(logger.handlers, logger.level) for logger in loggers]
    for logger in loggers:
        logger.handlers = []
    try:
        yield
    finally:
        for logger, (handlers, level) in zip(loggers, before, strict=True):
            logger.handlers = handlers
            logger.setLevel(level)


def call_cli(args: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    """The same in this process, where a process of its own adds nothing to what is shown: libraries are imported once."""
    from pipeline.cli import run

    handler, out, err = signal.getsignal(signal.SIGTERM), io.StringIO(), io.StringIO()
    try:
        with own_logging(), contextlib.chdir(ROOT), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run([str(arg) for arg in args])
    finally:
        signal.signal(signal.SIGTERM, handler)
    return subprocess.CompletedProcess(list(args), code, out.getvalue(), err.getvalue())


FINALS = (
    "classes.tif",
    "classes.qml",
    "classes.tif.aux.xml",
    "confidence.tif",
    "polygons.geojson",
    "polygons.gpkg",
    "polygons.qml",
    "coverage.geojson",
    "preview.png",
    "item.json",
    "model.json",
)
"""Final files, which have the same bytes in every run."""


def contents(folder: Path) -> dict[str, bytes]:
    """The final files of a scene."""
    return {name: (folder / name).read_bytes() for name in FINALS}
