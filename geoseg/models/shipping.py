"""Models on their way to other machines: as bytes by name, and in a cache on disk by their sha256."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from geoseg.errors import ModelError
from geoseg.models.model_folder import CARD, CONFIG, ONNX, WEIGHTS, Model, model_hash

__all__ = ["cache_folder", "cached", "pack", "unpack"]


def pack(model: Model) -> dict[str, bytes]:
    """The files of a model folder by name."""
    paths = (model.path / name for name in (CARD, CONFIG, ONNX, WEIGHTS))
    return {path.name: path.read_bytes() for path in paths if path.is_file()}


def cached(sha256: str) -> Path | None:
    """The folder of a model in this machine's cache; None where it is not there or damaged."""
    folder = _cache() / sha256
    return folder if folder.is_dir() and model_hash(folder) == sha256 else None


def unpack(sha256: str, files: Mapping[str, bytes]) -> Path:
    """Put a model into the cache, whole or not at all, unless it is there; gives its folder.

    Raises:
        ModelError: The files are not those of the model.
    """
    found = cached(sha256)
    if found is not None:
        return found
    cache = _cache()
    cache.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{sha256[:12]}.", dir=cache))
    try:
        for name, data in files.items():
            if name not in (CARD, CONFIG, ONNX, WEIGHTS):
                raise ModelError(f"{name!r} is not a file of a model folder")
            (temporary / name).write_bytes(data)
        if model_hash(temporary) != sha256:
            raise ModelError(f"model {sha256[:12]}…: the files that came are not those of this model")
        folder = cache / sha256
        # What is there did not verify; or another worker of this machine has just put it there, which is as good.
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    found = cached(sha256)
    if found is None:
        raise ModelError(f"model {sha256[:12]}…: can't be kept in {cache}; set GEOSEG_CACHE to a folder that can be written")
    return found


def _cache() -> Path:
    return cache_folder() / "models"


def cache_folder() -> Path:
    """The folder of what this machine keeps from run to run: GEOSEG_CACHE, or one below the user's cache."""
    given = os.environ.get("GEOSEG_CACHE")
    if given:
        return Path(given)
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    base = home if os.access(home if home.is_dir() else home.parent, os.W_OK) else Path(tempfile.gettempdir())
    return base / "geoseg"
