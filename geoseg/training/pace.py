"""The pace of a training: seconds a step and a check, and the memory that it takes, measured while it trains."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from geoseg.inference.choice import gpu_count
from geoseg.training.training_plan import LoopSettings

__all__ = ["Pace", "Paced", "computes_bf16", "device_line", "peak_bytes", "precision_line"]

WARM_UP, TIMED = 2, 5
"""Steps that are left out, since kernels and caches are being made, and steps that are measured."""


@dataclass(frozen=True, slots=True)
class Paced:
    """What a training takes."""

    step_s: float
    """Seconds of a step of the optimizer, reading its chips included."""
    check_s: float | None
    """Seconds of a check; None until there was one."""
    memory_bytes: int
    """Largest memory so far: of the GPU where it trains on one, else of this process."""
    on_gpu: bool


class Pace(Callback):
    """Measures steps after the first few, and the first check, and tells of each; changes nothing of the training.

    Args:
        tell: Called when steps have been measured, and again after the first check.
    """

    def __init__(self, tell: Callable[[Paced], None]) -> None:
        self._tell = tell
        self._steps = 0
        self._begun = self._check_begun = 0.0
        self._step_s: float | None = None
        self._check_s: float | None = None

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Measure."""
        del pl_module, outputs, batch, batch_idx
        if self._step_s is not None:
            return
        self._steps += 1
        batches = trainer.accumulate_grad_batches
        if self._steps == WARM_UP * batches:
            self._begun = _now(trainer)
        elif self._steps == (WARM_UP + TIMED) * batches:
            self._step_s = (_now(trainer) - self._begun) / TIMED
            self._told(trainer)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """A check begins; where checks are close together, the steps so far are all that is measured."""
        del pl_module
        self._check_begun = _now(trainer)
        steps = self._steps // trainer.accumulate_grad_batches - WARM_UP
        if self._step_s is None and steps > 0:
            self._step_s = (self._check_begun - self._begun) / steps

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """A check is over."""
        del pl_module
        took = _now(trainer) - self._check_begun
        if self._step_s is None:
            self._begun += took
        elif self._check_s is None:
            self._check_s = took
            self._told(trainer)

    def _told(self, trainer: lightning.Trainer) -> None:
        if self._step_s is not None and trainer.is_global_zero:
            device = trainer.strategy.root_device
            self._tell(Paced(self._step_s, self._check_s, peak_bytes(device), device.type == "cuda"))


def _now(trainer: lightning.Trainer) -> float:
    if trainer.strategy.root_device.type == "cuda":
        # Kernels run on while the processor asks for the next ones.
        torch.cuda.synchronize(trainer.strategy.root_device)
    return time.perf_counter()


def peak_bytes(device: torch.device) -> int:
    """Largest memory so far: that which torch holds of a GPU, or that of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def precision_line(loop: LoopSettings) -> str:
    """The precision, and whether 16 bits would be computed faster here."""
    faster = loop.precision == "32" and computes_bf16(loop)
    return f"precision {loop.precision}" + ("; this device computes bf16 faster: loop.precision = bf16" if faster else "")


def computes_bf16(loop: LoopSettings) -> bool:
    """Whether the device that trains has instructions for bf16; those of CPUs are AVX512_BF16 and AMX."""
    if loop.device in ("auto", "gpu") and torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if loop.device == "mps" or (loop.device == "auto" and torch.backends.mps.is_available()):
        return False
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def device_line(loop: LoopSettings) -> str:
    """The device that trains, and why no GPU does where one is there."""
    count, wanted = gpu_count(), loop.device
    usable = torch.cuda.is_available()
    if wanted in ("auto", "gpu") and usable:
        names = ", ".join(
            dict.fromkeys(torch.cuda.get_device_name(k) for k in range(min(loop.devices, torch.cuda.device_count())))
        )
        rest = f" of {count}; loop.devices takes more" if count > loop.devices else ""
        return f"GPU: {loop.devices} x {names}{rest}"
    if wanted in ("auto", "mps") and torch.backends.mps.is_available():
        return "GPU of this Mac (mps)"
    if not count:
        why = "no CUDA device is there"
    elif wanted == "cpu":
        why = "a GPU is there and not used: loop.device is cpu"
    else:
        cure = (
            "install torch with CUDA, see pytorch.org"
            if torch.version.cuda is None
            else "its driver may be too old for this torch"
        )
        why = f"a GPU is there and not used: torch {torch.__version__} can't use it; {cure}"
    return f"CPU: {len(os.sched_getaffinity(0))} cores, {torch.get_num_threads()} threads of torch; {why}"
