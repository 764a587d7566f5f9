"""torch on a GPU, and on a CPU for networks that do not export.

The raw data type travels to the device; normalization, the network (channels_last, 16-bit autocast and compiled on a
GPU), probabilities and the choice of classes run there, and one byte for each of class and confidence comes back. While
a batch computes, the next one is prepared and sent from pinned memory.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from numpy.typing import NDArray

from geoseg.arrays import F32
from geoseg.codes import NODATA
from geoseg.dialect import setting
from geoseg.errors import ChunkError, ConfigError, ModelError
from geoseg.inference.decision import Curves, Decision
from geoseg.inference.engine import Classified, EngineName, TileBatch
from geoseg.inference.normalization import Normalization
from geoseg.models.model_folder import Model
from geoseg.models.networks.build import build_network
from geoseg.models.networks.config import NetworkConfig
from geoseg.models.networks.deploy import inference_form

__all__ = ["TorchEngine", "device_of_process"]

GPU_BATCH = 8


@dataclass(frozen=True, slots=True, eq=False)
class _Started:
    """A batch under way: the kept parts of its tiles, and when they are there."""

    parts: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
    done: torch.cuda.Event | None


class TorchEngine:
    """Runs ``model.safetensors``; see ``open_engine``."""

    name: EngineName = "torch"

    def __init__(
        self,
        model: Model,
        normalization: Normalization,
        *,
        threads: int = 0,
        batch: int = 0,
        device: str = "auto",
        compile_network: bool = True,
    ) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            self._device = torch.device(device)
        except RuntimeError as error:
            raise ConfigError(f"device: {device!r} is not a torch device; use cpu, cuda or cuda:1") from error
        self._cuda = self._device.type == "cuda"
        if self._cuda and not torch.cuda.is_available():
            raise ConfigError(f"device: {device}, but torch finds no CUDA device; use {setting('device', 'cpu')}")
        if threads and not self._cuda:
            torch.set_num_threads(threads)
        self.device = torch.cuda.get_device_name(self._device) if self._cuda else "cpu"
        self.batch = batch or (GPU_BATCH if self._cuda else 1)
        self._turn = threading.Lock()
        self._scores = model.card.scores
        self._network = load_network(model).to(self._device).to(memory_format=torch.channels_last)
        self._compiled = torch.compile(self._network, dynamic=False) if self._cuda and compile_network else None
        self._compiled_shape: tuple[int, ...] | None = None
        scale, shift, low, high = (torch.from_numpy(v).view(1, -1, 1, 1) for v in normalization.arrays)
        self._scale, self._shift = scale.to(self._device), shift.to(self._device)
        clips = bool(torch.isfinite(low).all()) and bool(torch.isfinite(high).all())
        self._clip = (low.to(self._device), high.to(self._device)) if clips else None

    def stop(self) -> None:
        """Nothing: its networks are those of this package, which have no loops."""

    def scores(self, batch: TileBatch) -> F32:
        """Scores (N, K, H, W) of whole tiles."""
        return self.channels(batch)[:, : self._scores]

    @torch.inference_mode()
    def channels(self, batch: TileBatch) -> F32:
        """All that the network gives (N, K + R, H, W)."""
        with self._turn:
            channels, _ = self._forward(batch)
        result: F32 = channels.cpu().numpy()
        return result

    def classify(self, batches: Iterable[TileBatch], decision: Decision) -> Iterator[list[Classified]]:
        """Class and confidence of the kept part of each tile, batch by batch in order."""
        pending: _Started | None = None
        for batch in batches:
            started = self._start(batch, decision)
            if pending is not None:
                yield _finish(pending)
            pending = started
        if pending is not None:
            yield _finish(pending)

    @torch.inference_mode()
    def _start(self, batch: TileBatch, decision: Decision) -> _Started:
        """Send a batch on its way; on a GPU this returns before it is computed."""
        try:
            with self._turn:
                channels, valid = self._forward(batch)
                parts = []
                for i, (rows, cols) in enumerate(batch.keep):
                    kept = decide(channels[i, : self._scores, rows, cols], valid[i, rows, cols], decision)
                    parts.append(tuple(self._home(t) for t in kept))
                done = None
                if self._cuda:
                    done = torch.cuda.Event()  # type: ignore[no-untyped-call]
                    done.record()
                return _Started(parts, done)  # type: ignore[arg-type]  # three tensors each
        except torch.OutOfMemoryError as error:
            if len(batch.data) == 1:
                raise ChunkError(
                    f"out of memory on {self.device} for one tile of {batch.shape[0]} x {batch.shape[1]} px; use "
                    f"a smaller {setting('tile')}"
                ) from error
        # Outside of the except clause, whose error would keep the tensors alive.
        if self._cuda:
            torch.cuda.empty_cache()
        half = (len(batch.data) + 1) // 2
        self.batch = max(1, min(self.batch, half))
        first = self._start(_part(batch, slice(0, half)), decision)
        second = self._start(_part(batch, slice(half, None)), decision)
        return _Started(first.parts + second.parts, second.done)

    def _home(self, tensor: torch.Tensor) -> torch.Tensor:
        if not self._cuda:
            return tensor
        home = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        return home.copy_(tensor, non_blocking=True)

    def _forward(self, batch: TileBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """All channels (N, K + R, H, W) float32 and validity (N, H, W) bool, on the device."""
        count, bands, (height, width) = len(batch.data), batch.data[0].shape[0], batch.shape
        dtype = torch.from_numpy(batch.data[0][:0]).dtype
        raw = torch.empty((count, bands, height, width), dtype=dtype, pin_memory=self._cuda)
        valid = torch.empty((count, height, width), dtype=torch.bool, pin_memory=self._cuda)
        for i, (data, mask) in enumerate(zip(batch.data, batch.valid, strict=True)):
            _extend(data, raw[i].numpy())
            _extend(mask, valid[i].numpy())
        all_valid = bool(valid.numpy().all())
        image = raw.to(self._device, non_blocking=True).to(torch.float32, memory_format=torch.channels_last)
        on_device = valid.to(self._device, non_blocking=True)
        image.mul_(self._scale).add_(self._shift)
        if self._clip is not None:
            image = torch.minimum(torch.maximum(image, self._clip[0]), self._clip[1])
        if not all_valid:
            image.masked_fill_(~on_device.unsqueeze(1), 0.0)
        return self._run(image).float(), on_device

    def _run(self, image: torch.Tensor) -> torch.Tensor:
        if not self._cuda:
            return _as_tensor(self._network(image))
        shape = tuple(image.shape)
        if self._compiled_shape is None:
            # The first shape is that of whole tiles or close to it; shapes at the scene's border run uncompiled.
            self._compiled_shape = shape
        network = self._compiled if self._compiled is not None and shape == self._compiled_shape else self._network
        half = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        with torch.autocast("cuda", dtype=half):
            return _as_tensor(network(image))


def _as_tensor(scores: Any) -> torch.Tensor:
    """Networks with an auxiliary head give a pair."""
    tensor: torch.Tensor = scores[0] if isinstance(scores, tuple) else scores
    return tensor


def _extend(image: NDArray[Any], out: NDArray[Any]) -> None:
    """Copy (..., h, w) into (..., H, W), whose further rows and columns repeat the edge."""
    height, width = image.shape[-2:]
    out[..., :height, :width] = image
    if width < out.shape[-1]:
        out[..., :height, width:] = image[..., -1:]
    if height < out.shape[-2]:
        out[..., height:, :] = out[..., height - 1 : height, :]


def _part(batch: TileBatch, which: slice) -> TileBatch:
    return replace(batch, data=batch.data[which], valid=batch.valid[which], keep=batch.keep[which])


def _finish(started: _Started) -> list[Classified]:
    if started.done is not None:
        started.done.synchronize()
    return [Classified(classes.numpy(), confidence.numpy(), int(bad)) for classes, confidence, bad in started.parts]


def decide(scores: torch.Tensor, valid: torch.Tensor, decision: Decision) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Decide as ``Decision.decide``, on the device of the tensors: scores (K, h, w), valid (h, w)."""
    shape = (-1, 1, 1)
    if any(g != 1 for g in decision.gain):
        scores = scores * scores.new_tensor(decision.gain).view(shape)
    if any(o != 0 for o in decision.offset):
        scores = scores + scores.new_tensor(decision.offset).view(shape)
    bad = (~torch.isfinite(scores).all(dim=0) & valid).sum()
    thresholds = scores.new_tensor(decision.thresholds_or(0.5)).view(shape)
    if decision.curves is not None:
        best, p = _bent(scores, decision.curves, decision, thresholds)
    elif decision.softmax and decision.thresholds is None:
        top, best = scores.max(dim=0)
        p = 1 / torch.exp(scores - top).sum(dim=0)
    elif not decision.softmax and scores.shape[0] == 1:
        positive = torch.sigmoid(scores[0])
        best = (positive >= thresholds[0]).long()
        p = torch.where(best == 1, positive, 1 - positive)
    else:
        every = torch.softmax(scores, dim=0) if decision.softmax else torch.sigmoid(scores)
        best = torch.where(every >= thresholds, every, -1.0).argmax(dim=0)
        best = torch.where((every >= thresholds).any(dim=0), best, 0)
        p = every.gather(0, best.unsqueeze(0))[0]
    nodata = torch.tensor(NODATA, dtype=torch.uint8, device=scores.device)
    classes = torch.where(valid, best.to(torch.uint8), nodata)
    confidence = torch.where(valid, (100 * p + 0.5).to(torch.uint8), nodata)
    return classes, confidence, bad


def _bent(
    scores: torch.Tensor, curves: Curves, decision: Decision, thresholds: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Class and its probability (h, w), where curves calibrate the probabilities."""
    every = torch.softmax(scores, dim=0) if decision.softmax else torch.sigmoid(scores)
    rows = []
    for k, p in enumerate(every):
        x, y, slope = (torch.from_numpy(v[k]).to(p.device) for v in (curves.x, curves.y, curves.slope))
        # NaN sorts behind all corners; it is counted elsewhere.
        i = (torch.searchsorted(x, p.contiguous(), right=True) - 1).clamp_(0, len(x) - 1)
        rows.append(y[i] + slope[i] * (p - x[i]))
    every = torch.stack(rows)
    if not decision.softmax and len(every) == 1:
        best = (every[0] >= thresholds[0]).long()
        return best, torch.where(best == 1, every[0], 1 - every[0])
    if decision.softmax:
        every = every / every.sum(dim=0)
    reached = (
        every >= thresholds
        if not decision.softmax or decision.thresholds is not None
        else torch.ones_like(every, dtype=torch.bool)
    )
    best = torch.where(reached, every, -1.0).argmax(dim=0)
    best = torch.where(reached.any(dim=0), best, 0)
    return best, every.gather(0, best.unsqueeze(0))[0]


def device_of_process(device: str, number: int) -> str:
    """The device of one of several processes, where none was named: process k takes GPU k.

    Where the environment shows one GPU only, that one is meant.
    """
    if device not in ("auto", "cuda"):
        return device
    count = torch.cuda.device_count()
    return f"cuda:{number % count}" if count > 1 else device


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
