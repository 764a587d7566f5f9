"""Choice of the engine that runs a network, and opening it."""

from __future__ import annotations

import ctypes
import importlib.util

from geoseg.dialect import setting
from geoseg.errors import ConfigError
from geoseg.inference.engine import CPU, TILE_SECONDS, Engine, EngineName, Execution
from geoseg.inference.normalization import Normalization
from geoseg.models.model_folder import Model

__all__ = ["choose_engine", "gpu_count", "open_engine", "uses_gpu"]


EXECUTION = Execution()


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


def uses_gpu(engine: EngineName, device: str) -> bool:
    """Whether a network runs on a GPU, and leaves the cores to others; ``device`` as of ``open_engine``."""
    return engine == "torch" and (device.startswith("cuda") or (device == "auto" and gpu_count() > 0))


def has_torch() -> bool:
    """Whether torch is installed."""
    return importlib.util.find_spec("torch") is not None


def choose_engine(model: Model, wanted: str = "auto", gpus: int | None = None, provider: str = CPU) -> EngineName:
    """Choose the engine of a model: torch on a GPU, ONNX Runtime otherwise, torch where the network does not export.

    Args:
        model: The model.
        wanted: ``auto``, ``onnx`` or ``torch``.
        gpus: GPUs of this machine; asked from the driver if that matters.
        provider: Execution provider of ONNX Runtime; another one than its CPU asks for ONNX Runtime.

    Raises:
        ConfigError: The engine asked for can't run this model here.
    """
    if provider.casefold() != CPU and wanted != "onnx":
        if wanted == "torch":
            raise ConfigError(f"provider: {provider} is one of ONNX Runtime, but {setting('engine', 'torch')} is set; drop one")
        wanted = "onnx"
    if wanted == "onnx":
        if model.onnx is None:
            raise ConfigError(f"engine: {model.path} has no model.onnx; use {setting('engine', 'torch')}")
        return "onnx"
    if wanted == "torch":
        if not has_torch():
            raise ConfigError(f"engine: torch is not installed; pip install 'geoseg[gpu]', or use {setting('engine', 'onnx')}")
        if model.weights is None:
            raise ConfigError(f"engine: {model.path} has no model.safetensors; use {setting('engine', 'onnx')}")
        return "torch"
    if wanted != "auto":
        raise ConfigError(f"engine: {wanted!r} is not one of auto, onnx, torch")
    can_torch = model.weights is not None and has_torch()
    if model.onnx is None:
        if not can_torch:
            raise ConfigError(f"engine: {model.path} has no model.onnx, and torch is not installed; pip install 'geoseg[gpu]'")
        return "torch"
    return "torch" if can_torch and (gpu_count() if gpus is None else gpus) else "onnx"


def open_engine(
    name: EngineName,
    model: Model,
    normalization: Normalization,
    *,
    threads: int = 0,
    batch: int = 0,
    device: str = "auto",
    tile_seconds: float = TILE_SECONDS,
    execution: Execution = EXECUTION,
) -> Engine:
    """Load a model into an engine.

    Args:
        name: Which engine.
        model: The model.
        normalization: How pixels become its input.
        threads: CPU threads; 0 for all.
        batch: Tiles a batch; 0 for what the device prefers.
        device: For torch: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, or ``cuda:all``, which is ``cuda`` to a process.
        tile_seconds: For ONNX Runtime, the longest time for a tile of 1024 pixels a side.
        execution: How it is executed.

    Raises:
        ModelError: The network can't be loaded, or does not give what its card says.
    """
    if name == "onnx":
        from geoseg.inference.onnx_engine import OnnxEngine

        return OnnxEngine(
            model, normalization, threads=threads, batch=batch, tile_seconds=tile_seconds, provider=execution.provider
        )
    from geoseg.inference.torch_engine import TorchEngine

    return TorchEngine.open(model, normalization, threads=threads, batch=batch, device=device, compiled=execution.compiled)
