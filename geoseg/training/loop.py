"""The loop: Lightning's trainer with callbacks that make a training exact to resume, averaged, watched and checkpointed."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, TQDMProgressBar, WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger

from geoseg.dialect import setting
from geoseg.errors import ConfigError, GeosegError, ModelError
from geoseg.scenes.files.muting import muted
from geoseg.training.data.check_windows import Loaders
from geoseg.training.data.loaders import Epochs
from geoseg.training.module import TrainingModule
from geoseg.training.training_plan import LoopSettings, Precision

__all__ = ["BEST", "LAST", "Average", "Deadline", "OutOfTimeError", "Watching", "fit", "weights_of"]

LAST, BEST = "last.ckpt", "best.ckpt"
PRECISIONS: dict[Precision, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "32": "32-true",
    "bf16": "bf16-mixed",
    "16": "16-mixed",
}


class Average(WeightAveraging):
    """Exponential moving average of the weights, with which is validated; it warms up, so that it soon forgets the start.

    The decay at the nth update is ``min(decay, n / (n + 10))``. Statistics of batch normalization are averaged, too.
    """

    def __init__(self, decay: float) -> None:
        def average(kept: list[torch.Tensor], new: list[torch.Tensor], count: torch.Tensor | int) -> None:
            # All at once: a kernel a tensor would take longer than a step.
            if not kept[0].is_floating_point():
                torch._foreach_copy_(kept, new)
                return
            n = float(count if self._average_model is None else self._average_model.n_averaged)
            torch._foreach_lerp_(kept, new, 1 - min(decay, n / (n + 10)))

        super().__init__(multi_avg_fn=average)

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Keep the average where the weights will be, which are not there yet, and its count where asking does not wait."""
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:
            self._average_model.n_averaged = self._average_model.n_averaged.cpu()


class _Checkpoints(ModelCheckpoint):
    """Checkpoints that know which was the best also where their folder was moved to another place since."""

    @property
    def state_key(self) -> str:
        """Under the name under which Lightning's own are kept."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where a checkpoint was."""
        was, now = str(state_dict.get("dirpath")), str(self.dirpath)

        def here(value: object) -> object:
            if isinstance(value, dict):
                return {here(key): entry for key, entry in value.items()}
            return now + value.removeprefix(was) if isinstance(value, str) and value.startswith(was) else value

        super().load_state_dict({key: here(value) for key, value in state_dict.items()})


class OutOfTimeError(GeosegError):
    """A training stopped because its time is over; it goes on from its last checkpoint."""


class Deadline(Callback):
    """Stops a training in time: before an interval between two checks that would not end in time, and anyhow when time is over.

    Args:
        seconds: From now.

    Raises:
        OutOfTimeError: In training, when it is time.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._began, self._longest = 0.0, 0.0

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """A checkpoint has just been written, or nothing been done."""
        del pl_module
        now = time.monotonic()
        if self._began:
            self._longest = max(self._longest, now - self._began)
        self._began = now
        self._stop(trainer, now + self._longest)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Stop when time is over; steps since the last checkpoint are lost."""
        del pl_module, outputs, batch, batch_idx
        self._stop(trainer, time.monotonic())

    def _stop(self, trainer: lightning.Trainer, then: float) -> None:
        if then > self._end:
            raise OutOfTimeError(
                f"time is over after {trainer.global_step} steps; start it again to go on from its last checkpoint"
            )


class _LastCheck(Callback):
    """Checks after the last step, wherever that lies between two checks: else what was learned since the one before were lost."""

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """A trainer that is asked to stop validates before it does."""
        del pl_module, outputs, batch, batch_idx
        if trainer.global_step >= trainer.max_steps:
            trainer.should_stop = True


class _Seeds(Callback):
    """Seeds torch anew at each epoch, so that dropout after a resume is what it would have been; the chips likewise.

    The epoch of the chips follows from the steps done: the trainer's own count is another after a resume. Workers read ahead
    as soon as there is an iterator, which after a resume is before the first epoch starts.
    """

    def __init__(self, seed: int, steps: int, samplers: Sequence[Epochs]) -> None:
        self._seed, self._steps, self._samplers = seed, steps, samplers

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        del pl_module, stage
        for sampler in self._samplers:
            sampler.take_part(trainer.global_rank, trainer.world_size)

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        del trainer, pl_module
        self._begin(checkpoint["global_step"])

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        del pl_module
        torch.manual_seed(self._seed * 1_000_003 + trainer.current_epoch * 1009 + trainer.global_rank)
        self._begin(trainer.global_step)

    def _begin(self, step: int) -> None:
        for sampler in self._samplers:
            sampler.set_epoch(step // self._steps)


@dataclass(frozen=True, slots=True, eq=False)
class Watching:
    """Onlookers of a training."""

    callbacks: Sequence[Callback] = ()
    """Called by the trainer."""
    progress: bool = True
    """Show a bar on standard error."""


def fit(module: TrainingModule, loaders: Loaders, folder: Path, settings: LoopSettings, watching: Watching = Watching()) -> Path:
    """Train until the steps are done or nothing gets better; goes on from ``last.ckpt`` where the folder holds one.

    A checkpoint is written after every check and the last step, whole or not at all; killed at any time, a training that is
    started again gives the weights that it would have given.

    Args:
        module: The network, its loss and its learning rates.
        loaders: Batches by name, and windows of validation.
        folder: For checkpoints and the TensorBoard log.
        settings: Length, precision and device.
        watching: Further callbacks, and the bar.

    Returns:
        The best checkpoint.

    Raises:
        ConfigError: The loss became NaN or infinite, or the device is not there.
    """
    samplers = [loader.batch_sampler for loader in loaders.training.values() if isinstance(loader.batch_sampler, Epochs)]
    own = [_Seeds(settings.seed, settings.epoch // settings.accumulate, samplers), _LastCheck(), *watching.callbacks]
    progress = watching.progress
    last = folder / LAST
    # Advice on workers and on loggers that are chosen on purpose.
    with muted(module=r"lightning\..*"):
        for name in ("lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.WARNING)
        trainer = _trainer(settings, folder, _hooks(settings, folder, own, progress=progress), progress=progress)
        trainer.fit(module, loaders.training, loaders.checks, ckpt_path=str(last) if last.is_file() else None, weights_only=True)
    return folder / BEST


def _hooks(settings: LoopSettings, folder: Path, own: Sequence[Callback], *, progress: bool) -> list[Callback]:
    """Callbacks in their order; ``own`` lie between the average and the checkpoints."""
    monitor, mode = f"val/{settings.figure}", "min" if settings.figure == "loss" else "max"
    best = _Checkpoints(
        folder,
        filename=BEST.removesuffix(".ckpt"),
        monitor=monitor,
        mode=mode,
        save_top_k=1,
        enable_version_counter=False,
        auto_insert_metric_name=False,
    )
    # One of its own: with save_last, the last one would be written only where it is the best, too. After the best one, so that
    # a resumed training knows which that was.
    every = _Checkpoints(folder, filename=LAST.removesuffix(".ckpt"), save_top_k=1, enable_version_counter=False)
    # The average comes first: checkpoints and pictures are then of what was validated.
    hooks: list[Callback] = [Average(settings.average)] if settings.average else []
    hooks += own
    if settings.patience:
        hooks.append(EarlyStopping(monitor, mode=mode, patience=settings.patience, min_delta=0.0))
    hooks += [best, every]
    if progress:
        hooks.append(TQDMProgressBar(refresh_rate=1))
    return hooks


def _trainer(settings: LoopSettings, folder: Path, hooks: list[Callback], *, progress: bool) -> lightning.Trainer:
    device, devices = settings.device, settings.devices
    try:
        return lightning.Trainer(
            accelerator=device,
            devices=devices,
            strategy="auto" if devices == 1 else "ddp_find_unused_parameters_true",
            precision=PRECISIONS[settings.precision],
            max_steps=settings.steps,
            max_epochs=-1,
            limit_train_batches=settings.epoch,
            accumulate_grad_batches=settings.accumulate,
            gradient_clip_val=settings.clip or None,
            callbacks=hooks,
            logger=TensorBoardLogger(folder, name="", version="tensorboard"),
            default_root_dir=folder,
            enable_progress_bar=progress,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            # Normalization by the batches of all devices is for GPUs alone.
            sync_batchnorm=devices > 1 and device != "cpu",
            deterministic="warn",
            benchmark=False,
            log_every_n_steps=10,
        )
    except (lightning.fabric.utilities.exceptions.MisconfigurationException, ValueError, RuntimeError) as error:
        raise ConfigError(f"loop.device: {device} with {devices} devices: {str(error).splitlines()[0]}") from error


def weights_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The network's weights of a checkpoint: the average where one was kept.

    Raises:
        ModelError: It can't be read.
    """
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    except Exception as error:  # unpickling fails in many ways
        raise ModelError(
            f"{checkpoint}: can't be read: {str(error).splitlines()[0]}; start again with {setting('overwrite')}"
        ) from error
    prefix = "network."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
