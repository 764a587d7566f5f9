"""Checkpoint files: the tensors in them by name, and what a safetensors file says of them. No code of a file is run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geoseg.errors import ModelError

__all__ = ["metadata_of", "read_checkpoint", "scaling_of"]

NESTS = ("state_dict", "model_state_dict", "model", "module", "network", "net", "encoder", "weights", "params")
"""Keys under which programs keep the tensors among other things, the most telling first."""


def scaling_of(weights: str, bands: int) -> tuple[list[float], list[float]] | None:
    """Means and deviations in steps of 8 bits that a file of weights says its network was trained with; None where it says none.

    They stand in the metadata of a safetensors file as ``mean`` and ``std``, a number a band of images between 0 and 1.
    """
    said = metadata_of(Path(weights))
    try:
        mean, deviation = ([255 * float(part) for part in said[key].split()] for key in ("mean", "std"))
    except (KeyError, ValueError):
        return None
    return (mean, deviation) if len(mean) == len(deviation) == bands and min(deviation) > 0 else None


def metadata_of(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; none of another or of none."""
    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return dict(file.metadata() or {})


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, from below ``state_dict``, ``model`` or the like where they are nested.

    Nothing but tensors and plain values is read from files of torch: one that needs code to run is refused.

    Raises:
        ModelError: It can't be read, needs code to run, or holds no tensors.
    """
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except (OSError, SafetensorError, ValueError) as error:
            raise ModelError(f"{path}: can't be read as safetensors: {_first_line(error)}") from error
    from pickle import UnpicklingError

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ModelError(
            f"{path}: holds more than tensors, and reading that could run code, or is damaged; save the state_dict as safetensors"
        ) from error
    except Exception as error:  # torch raises many kinds for files that are not its own
        raise ModelError(f"{path}: can't be read as a checkpoint of torch: {_first_line(error)}") from error
    state = _tensors(content)
    if not state:
        raise ModelError(f"{path}: holds no tensors by name; save the state_dict of the network")
    return state


def _tensors(content: Any) -> dict[str, Tensor]:
    """The tensors of a mapping, or of the most telling mapping in it."""
    if not isinstance(content, Mapping):
        return {}
    found = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    inner = {str(key): _tensors(value) for key, value in content.items() if isinstance(value, Mapping)}
    inner = {key: value for key, value in inner.items() if value}
    for key in NESTS:
        if key in inner:
            return inner[key]
    return found or max(inner.values(), key=len, default={})


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
