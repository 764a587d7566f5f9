"""torch on a GPU, and on a CPU for networks that do not export.

The raw data type travels to the device; normalization, the network (channels_last, in 16 bits and compiled on a GPU),
probabilities and the choice of classes run there, and one byte for each of class and confidence comes back. All threads send
their tiles to one loop, which owns the device (``DeviceLoop``).
"""

from __future__ import annotations

import re
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Self, cast

import numpy as np
import torch

from geoseg.arrays import F32
from geoseg.dialect import setting
from geoseg.errors import ConfigError, ModelError
from geoseg.inference.decision import Decision
from geoseg.inference.device.device_loop import UNDER_WAY, DeviceLoop
from geoseg.inference.device.device_pass import NetworkPass, Work
from geoseg.inference.device.device_slots import Result
from geoseg.inference.engine import ALL_GPUS, Classified, EngineName, TileBatch
from geoseg.inference.normalization import Normalization
from geoseg.models.model_folder import Model
from geoseg.models.networks.build import build_network
from geoseg.models.networks.config import NetworkConfig
from geoseg.models.networks.deploy import inference_form
from geoseg.models.shipping import cache_folder

__all__ = ["TorchEngine", "device_of_process", "half_of_device", "load_network"]

GPU_BATCH = 8


class TorchEngine:
    """Runs ``model.safetensors``; see ``open_engine``."""

    name: EngineName = "torch"

    def __init__(
        self,
        network: torch.nn.Module,
        scores: int,
        normalization: Normalization,
        *,
        batch: int = 0,
        device: str = "auto",
        half_precision: bool = True,
        compile_in: Path | None = None,
    ) -> None:
        """Take a network that gives (N, K + R, H, W).

        Args:
            network: The network; it is brought to the device.
            scores: K, of what it gives.
            normalization: Of its input.
            batch: Tiles a batch; 0 for what the device prefers.
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
            half_precision: Whether a GPU may compute in 16 bits.
            compile_in: The folder in which a GPU keeps what it compiles of it; None does not compile it.
        """
        place = _device(device)
        cuda = place.type == "cuda"
        self.device = torch.cuda.get_device_name(place) if cuda else "cpu"
        self._scores = scores
        there = network.to(place).to(memory_format=torch.channels_last)
        half = half_of_device() if cuda and half_precision else None
        run = NetworkPass(there, scores, normalization, place, half=half, compile_in=compile_in if cuda else None)
        self._loop = DeviceLoop(run, place, batch=batch or (GPU_BATCH if cuda else 1), name=self.device)
        # The loop's threads don't know of the engine, and end with it, or with the interpreter.
        weakref.finalize(self, _end, self._loop)

    @classmethod
    def open(
        cls,
        model: Model,
        normalization: Normalization,
        *,
        threads: int = 0,
        batch: int = 0,
        device: str = "auto",
        compiled: bool = False,
    ) -> Self:
        """Load the network of a model folder.

        Raises:
            ModelError: It can't be loaded.
            ConfigError: There is no such device.
        """
        place, card = _device(device), model.card
        if threads and place.type == "cpu":
            torch.set_num_threads(threads)
        compile_in = None
        if compiled and place.type == "cuda":
            name = re.sub(r"\W+", "-", torch.cuda.get_device_name(place))
            compile_in = cache_folder() / "compiled" / f"{model.sha256[:12]}-{name}"
        return cls(
            load_network(model),
            card.scores,
            normalization,
            batch=batch,
            device=device,
            half_precision=card.half_precision,
            compile_in=compile_in,
        )

    @property
    def batch(self) -> int:
        """Tiles of a batch; fewer once the memory did not hold them."""
        return self._loop.batch

    @property
    def notes(self) -> tuple[str, ...]:
        """What became of the promise of equal bytes."""
        return tuple(self._loop.notes)

    def stop(self) -> None:
        """End what is under way soon, with Interrupted; for good."""
        self._loop.close()

    def scores(self, batch: TileBatch) -> F32:
        """Scores (N, K, H, W) of whole tiles."""
        return self.channels(batch)[:, : self._scores]

    def channels(self, batch: TileBatch) -> F32:
        """All that the network gives (N, K + R, H, W)."""
        with self._loop.sending():
            sent = self._send(batch, None)
        return np.stack([cast("F32", future.result()) for future in sent])

    def classify(self, batches: Iterable[TileBatch], decision: Decision) -> Iterator[list[Classified]]:
        """Class and confidence of the kept part of each tile, batch by batch in order."""
        waiting: deque[list[Future[Result]]] = deque()
        with self._loop.sending():
            for batch in batches:
                waiting.append(self._send(batch, decision))
                # As much as keeps the device busy where this thread is the only one.
                if sum(map(len, waiting)) > (UNDER_WAY + 1) * self.batch:
                    with self._loop.away():
                        yield _classified(waiting.popleft())
        while waiting:
            yield _classified(waiting.popleft())

    def _send(self, batch: TileBatch, decision: Decision | None) -> list[Future[Result]]:
        work = Work(len(batch.data[0]), batch.shape, torch.from_numpy(batch.data[0][:0]).dtype, decision)
        return [self._loop.send(work, *tile) for tile in zip(batch.data, batch.valid, batch.keep, strict=True)]


def _end(loop: DeviceLoop) -> None:
    loop.close()
    loop.join()


def _classified(sent: list[Future[Result]]) -> list[Classified]:
    return [cast("Classified", future.result()) for future in sent]


def _device(name: str) -> torch.device:
    """A device by its name; ``auto`` is a GPU where there is one, ``cuda:all`` the first one to a process alone."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == ALL_GPUS:
        name = "cuda"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device: {name!r} is not a torch device; use cpu, cuda or cuda:1") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device: {name}, but torch finds no CUDA device; use {setting('device', 'cpu')}")
    return device


def half_of_device() -> torch.dtype:
    """In what a CUDA device computes where a model's card allows 16 bits: where bf16 is emulated, fp16 is faster."""
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def device_of_process(device: str, number: int) -> str:
    """The device of one of several processes, where none was named: process k takes GPU k.

    Where the environment shows one GPU only, that one is meant.
    """
    if device not in ("auto", "cuda", ALL_GPUS):
        return device
    count = torch.cuda.device_count()
    if count > 1:
        return f"cuda:{number % count}"
    return "cuda" if device == ALL_GPUS else device


def load_network(model: Model) -> torch.nn.Module:
    """Build the network of a model folder and load its weights, in 32 bits and in the form that scores every pixel.

    Raises:
        ModelError: The weights are missing, damaged, NaN, or of another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if model.weights is None:
        raise ModelError(f"{model.path}: no model.safetensors, which torch needs")
    config = NetworkConfig.from_json(model.config)
    card = model.card
    if config.in_channels != len(card.bands) or config.classes != card.scores:
        raise ModelError(
            f"{model.path}: config.json builds a network of {config.in_channels} bands and {config.classes} scores, "
            f"but its card lists {len(card.bands)} bands and {card.scores} scores"
        )
    try:
        state = {key: value.float() if value.is_floating_point() else value for key, value in load_file(model.weights).items()}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{model.weights}: damaged: {error}") from error
    if not all(bool(torch.isfinite(value).all()) for value in state.values() if value.is_floating_point()):
        raise ModelError(f"{model.weights}: holds NaN or infinite weights")
    network = build_network(config)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(f"{model.weights}: weights of another network: {str(error).splitlines()[-1].strip()}") from error
    return inference_form(network).eval()
