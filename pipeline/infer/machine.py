"""Type of machine and engine: bytes are promised to be the same on one kind of processor, with one version of the engine."""

from __future__ import annotations

import importlib.metadata
import platform
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

__all__ = ["made_on"]

PACKAGES = {"onnx": "onnxruntime", "torch": "torch"}


@lru_cache(maxsize=8)
def made_on(engine: str, device: str) -> str:
    """The engine with its version, the kind of processor, and the device where it is none: short, for people and to compare."""
    package = PACKAGES.get(engine, engine)
    version = ""
    with suppress(importlib.metadata.PackageNotFoundError):
        version = f" {importlib.metadata.version(package)}"
    return f"{package}{version}, {platform.machine()} {_processor()}{'' if device == 'cpu' else f', {device}'}"


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor()
