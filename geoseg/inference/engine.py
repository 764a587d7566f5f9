"""What runs a network: the interface of engines, and the rule that chooses one."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import ConfigError
from geoseg.inference.values import Decision, Normalization
from geoseg.models.folder import Model

__all__ = ["Batch", "Classified", "Engine", "EngineName", "choose_engine", "gpu_count", "open_engine"]

EngineName = Literal["onnx", "torch"]
TILE_SECONDS = 600.0
"""Longest time for a tile of 1024 pixels a side; the slowest network on the slowest machine takes a tenth of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Tiles of one shape that pass through the network together."""

    data: Sequence[NDArray[Any]]
    """By tile (C, h, w), in the scene's data type."""
    valid: Sequence[NDArray[np.bool_]]
    """By tile (h, w), True where there is data."""
    shape: tuple[int, int]
    """``(H, W)`` of the network's input; rows and columns past (h, w) repeat the edge."""
    keep: Sequence[tuple[slice, slice]]
    """By tile, the rows and columns of the output that are kept."""


@dataclass(frozen=True, slots=True, eq=False)
class Classified:
    """The kept part of one tile."""

    classes: NDArray[np.uint8]
    """(h, w)."""
    confidence: NDArray[np.uint8]
    """(h, w), percent."""
    not_finite: int
    """Number of pixels whose score is NaN or infinite."""


class Engine(Protocol):
    """Runs one network. May be called by several threads; it serves one at a time."""

    name: EngineName
    device: str
    """Where it computes, for the report."""
    batch: int
    """Tiles that it likes to get together."""

    def stop(self) -> None:
        """End what is under way soon, with Interrupted, as far as the engine can."""
        ...

    def scores(self, batch: Batch) -> NDArray[np.float32]:
        """Scores (N, K, H, W) of whole tiles."""
        ...

    def channels(self, batch: Batch) -> NDArray[np.float32]:
        """All that the network gives (N, K + R, H, W): scores, then what tells objects apart."""
        ...

    def classify(self, batches: Iterable[Batch], decision: Decision) -> Iterator[list[Classified]]:
        """Class and confidence of the kept part of each tile, batch by batch in order."""
        ...


def gpu_count() -> int:
    """Number of CUDA devices, asked from the driver: importing torch to know it would take seconds."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def has_torch() -> bool:
    """Whether torch is installed."""
    return importlib.util.find_spec("torch") is not None


def choose_engine(model: Model, wanted: str = "auto") -> EngineName:
    """Which engine runs a model: torch on a GPU, ONNX Runtime otherwise, torch where the network does not export.

    Raises:
        ConfigError: The engine asked for can't run this model here.
    """
    if wanted == "onnx":
        if model.onnx is None:
            raise ConfigError(f"engine: {model.path} has no model.onnx; use --engine torch")
        return "onnx"
    if wanted == "torch":
        if not has_torch():
            raise ConfigError("engine: torch is not installed; pip install 'geoseg[gpu]', or use --engine onnx")
        if model.weights is None:
            raise ConfigError(f"engine: {model.path} has no model.safetensors; use --engine onnx")
        return "torch"
    if wanted != "auto":
        raise ConfigError(f"engine: {wanted!r} is not one of auto, onnx, torch")
    can_torch = model.weights is not None and has_torch()
    if model.onnx is None:
        if not can_torch:
            raise ConfigError(f"engine: {model.path} has no model.onnx, and torch is not installed; pip install 'geoseg[gpu]'")
        return "torch"
    return "torch" if can_torch and gpu_count() else "onnx"


def open_engine(
    name: EngineName, model: Model, normalization: Normalization, *, threads: int = 0, batch: int = 0, device: str = "auto",
    tile_seconds: float = TILE_SECONDS,
) -> Engine:  # fmt: skip
    """Load a model into an engine.

    Args:
        name: Which engine.
        model: The model.
        normalization: How pixels become its input.
        threads: CPU threads; 0 for all.
        batch: Tiles a batch; 0 for what the device likes.
        device: For torch: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        tile_seconds: For ONNX Runtime, the longest time for a tile of 1024 pixels a side.

    Raises:
        ModelError: The network can't be loaded, or does not give what its card says.
    """
    if name == "onnx":
        from geoseg.inference.onnx_engine import OnnxEngine

        return OnnxEngine(model, normalization, threads=threads, batch=batch, tile_seconds=tile_seconds)
    from geoseg.inference.torch_engine import TorchEngine

    return TorchEngine(model, normalization, threads=threads, batch=batch, device=device)
