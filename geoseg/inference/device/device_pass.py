"""What a batch goes through on its device: normalization, mask, network, and the choice of classes if that is wanted."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from geoseg.inference.decision import Decision
from geoseg.inference.normalization import Normalization
from geoseg.inference.torch_decision import TorchDecision

__all__ = ["Batch", "NetworkPass", "Work"]

COMPILED = "TORCHINDUCTOR_CACHE_DIR"
_OURS: set[str] = set()
"""Folders that were set here, which another network may replace."""


@dataclass(frozen=True, slots=True)
class Work:
    """What tiles have in common that pass through the network together."""

    bands: int
    shape: tuple[int, int]
    """``(H, W)`` of the network's input."""
    dtype: torch.dtype
    """Of the scene."""
    decision: Decision | None
    """How scores become classes; None where all that the network gives is wanted."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Tiles of one work on the device. Some places may be empty: they hold whatever was there before."""

    raw: torch.Tensor
    """(N, C, H, W) in the scene's data type."""
    valid: torch.Tensor
    """(N, H, W) bool."""
    keep: torch.Tensor
    """(N, 4) int64: first and last-plus-one row, then column, that are kept of each tile."""
    all_valid: bool
    """Whether all tiles hold data everywhere."""
    box: tuple[int, int, int, int]
    """What holds the kept part of every tile, in the order of ``keep``."""
    is_kept_whole: bool
    """Whether the kept part of every tile is the box."""


class NetworkPass:
    """A network on a device, with what comes before and after it.

    Where it is compiled, all of it is one graph for each shape and decision. It is compiled for the first shape alone: where
    others come, they are those of borders.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        scores: int,
        normalization: Normalization,
        device: torch.device,
        *,
        half: torch.dtype | None,
        compile_in: Path | None,
    ) -> None:
        """Take a network that is on the device already.

        Args:
            network: Gives (N, K + R, H, W).
            scores: K, of what it gives.
            normalization: Of its input.
            device: Where it is.
            half: 16 bits that it computes in; None for 32.
            compile_in: The folder that keeps what was compiled, of this network on this device; None does not compile it.
        """
        self._whole = _Whole(network, normalization, half).to(device)
        self._scores, self._device, self._compile_in = scores, device, compile_in
        self._decisions: dict[Decision, TorchDecision] = {}
        self._compiled: dict[Decision | None, tuple[tuple[int, ...], Callable[..., Any]]] = {}

    def __call__(self, batch: Batch, decision: Decision | None) -> tuple[torch.Tensor, ...]:
        """All channels (N, K + R, H, W) float32 if there is no decision.

        Else class and confidence (N, 2, h, w) of ``batch.box``, of the whole tiles where it is compiled; and by tile (N,)
        int64 how many kept pixels have no finite score.
        """
        run = self._run_of(decision, tuple(batch.raw.shape))
        if run is not None:
            if decision is None:
                return (run(batch.raw, batch.valid),)
            return tuple(run(batch.raw, batch.valid, batch.keep))
        channels = self._whole(batch.raw, batch.valid, masked=not batch.all_valid)
        if decision is None:
            return (channels,)
        top, bottom, left, right = batch.box
        scores, valid = channels[:, : self._scores, top:bottom, left:right], batch.valid[:, top:bottom, left:right]
        both, bad = self._decision(decision)(scores, valid)
        if not batch.is_kept_whole:
            bad = bad & _inside(batch.keep, batch.box)
        return both, bad.sum(dim=(1, 2))

    def _decision(self, decision: Decision) -> TorchDecision:
        found = self._decisions.get(decision)
        if found is None:
            found = self._decisions[decision] = TorchDecision(decision).to(self._device)
        return found

    def _run_of(self, decision: Decision | None, shape: tuple[int, ...]) -> Callable[..., Any] | None:
        """The compiled pass, where this shape is the one that it was compiled for."""
        if self._compile_in is None:
            return None
        if decision not in self._compiled:
            _keep_compiled_in(self._compile_in)
            module = self._whole if decision is None else _Deciding(self._whole, self._decision(decision), self._scores)
            self._compiled[decision] = shape, torch.compile(module, dynamic=False)
        own, run = self._compiled[decision]
        return run if own == shape else None


def _keep_compiled_in(folder: Path) -> None:
    """Have torch.compile keep its files in a folder, unless the user says where."""
    given = os.environ.get(COMPILED)
    if given is None or given in _OURS:
        _OURS.add(str(folder))
        os.environ[COMPILED] = str(folder)


class _Whole(torch.nn.Module):
    """Normalization and the network."""

    scale: torch.Tensor
    shift: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor

    def __init__(self, network: torch.nn.Module, normalization: Normalization, half: torch.dtype | None) -> None:
        super().__init__()
        self.network, self._half = network, half
        scale, shift, low, high = (torch.from_numpy(v).view(1, -1, 1, 1) for v in normalization.arrays)
        self._clips = bool(torch.isfinite(low).all()) and bool(torch.isfinite(high).all())
        for name, value in (("scale", scale), ("shift", shift), ("low", low), ("high", high)):
            self.register_buffer(name, value)

    def forward(self, raw: torch.Tensor, valid: torch.Tensor, *, masked: bool = True) -> torch.Tensor:
        """All channels (N, K + R, H, W) float32."""
        # A copy also of 32-bit images: their buffer is kept for another try.
        image = raw.to(torch.float32, memory_format=torch.channels_last, copy=True)
        image.mul_(self.scale).add_(self.shift)
        if self._clips:
            image = torch.minimum(torch.maximum(image, self.low), self.high)
        if masked:
            image = image.masked_fill(~valid.unsqueeze(1), 0.0)
        if self._half is None:
            return _as_tensor(self.network(image)).float()
        with torch.autocast(image.device.type, dtype=self._half):
            channels = _as_tensor(self.network(image))
        return channels.float()


class _Deciding(torch.nn.Module):
    """The same with the choice of classes behind it, for whole tiles: one graph whatever is kept of them."""

    def __init__(self, whole: _Whole, decision: TorchDecision, scores: int) -> None:
        super().__init__()
        self.whole, self.decision, self._scores = whole, decision, scores

    def forward(self, raw: torch.Tensor, valid: torch.Tensor, keep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Class and confidence (N, 2, H, W), and counts (N,)."""
        both, bad = self.decision(self.whole(raw, valid)[:, : self._scores], valid)
        inside = _inside(keep, (0, bad.shape[1], 0, bad.shape[2]))
        return both, (bad & inside).sum(dim=(1, 2))


def _inside(keep: torch.Tensor, box: tuple[int, int, int, int]) -> torch.Tensor:
    """Which pixels (N, h, w) of a box are kept, by tile."""
    top, bottom, left, right = box
    rows = torch.arange(top, bottom, device=keep.device).view(1, -1, 1)
    cols = torch.arange(left, right, device=keep.device).view(1, 1, -1)
    first_row, last_row, first_col, last_col = (keep[:, k].view(-1, 1, 1) for k in range(4))
    return (rows >= first_row) & (rows < last_row) & (cols >= first_col) & (cols < last_col)


def _as_tensor(scores: Any) -> torch.Tensor:
    """Networks with an auxiliary head give a pair."""
    tensor: torch.Tensor = scores[0] if isinstance(scores, tuple) else scores
    return tensor
