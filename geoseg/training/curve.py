"""Progress of a training: the curve as CSV, a line a check, pictures of predictions."""

from __future__ import annotations

import csv
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from geoseg.formats.text import csv_line, write_table
from geoseg.training.data.chips import Chip
from geoseg.training.data.samplers import HardSampler
from geoseg.training.module import TrainingModule

__all__ = ["Curve", "HardExamples", "Pictures"]

log = logging.getLogger(__name__)
CHECK_COLUMNS = ("step", "loss", "rate", "val/loss", "val/miou", "seconds")


class Curve(lightning.Callback):
    """Writes a row a check to ``curve.csv``; a resumed training goes on where its checkpoint was.

    Args:
        path: The CSV file.
        classes: Names of the classes, for the columns of their IoU.
        figures: Further figures of validation, by their names.
    """

    def __init__(self, path: Path, classes: Sequence[str], figures: Sequence[str] = ()) -> None:
        self._path = path
        self._of_classes = {f"iou/{name}": f"val/iou_{k}" for k, name in enumerate(classes)}
        self._figures = tuple(figures)
        # Without classes there is no IoU.
        own = [name for name in CHECK_COLUMNS if classes or name != "val/miou"]
        self._columns = [*own, *self._of_classes, *self._figures]
        # As they are: asking a GPU for its numbers at every step would make it wait.
        self._losses: list[torch.Tensor] = []
        self._seconds = 0.0
        self._since = time.monotonic()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Drop what an interrupted training wrote after its last checkpoint."""
        del pl_module
        self._since = time.monotonic()
        if not trainer.is_global_zero:
            return
        kept = []
        if self._path.is_file() and trainer.global_step:
            with self._path.open(newline="", encoding="utf-8") as file:
                kept = [row for row in csv.DictReader(file) if int(row["step"]) <= trainer.global_step]
        self._seconds = float(kept[-1]["seconds"]) if kept else 0.0
        write_table(self._path, self._columns, kept)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remember the loss of a step."""
        del trainer, pl_module, batch, batch_idx
        self._losses.append((outputs["loss"] if isinstance(outputs, dict) else outputs).detach())

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write the row of a check."""
        del pl_module
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        now = time.monotonic()
        self._seconds, self._since = self._seconds + now - self._since, now
        found = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("val/")}
        row: dict[str, int | str] = {
            "step": trainer.global_step,
            "loss": _short(np.mean(torch.stack(self._losses).tolist()) if self._losses else float("nan")),
            "rate": _short(trainer.optimizers[0].param_groups[0]["lr"]),
            "seconds": f"{self._seconds:.1f}",
        }
        row |= {key: _short(found.get(key, float("nan"))) for key in ("val/loss", "val/miou", *self._figures)}
        row |= {column: _short(found.get(key, float("nan"))) for column, key in self._of_classes.items()}
        self._losses = []
        with self._path.open("a", newline="", encoding="utf-8") as file:
            file.write(csv_line(row.get(name) for name in self._columns))
            file.flush()
            os.fsync(file.fileno())
        log.info("step %d: %s", row["step"], ", ".join(f"{key} {row[key]}" for key in self._columns[1:]))


def _short(value: float | np.floating) -> str:
    return f"{float(value):.6g}"


class HardExamples(lightning.Callback):
    """Tells a sampler the losses of its chips before each check, and keeps its state in checkpoints.

    Args:
        sampler: The sampler.
    """

    def __init__(self, sampler: HardSampler) -> None:
        self._sampler = sampler

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Hand over what was met since the last check, by all processes that train together."""
        assert isinstance(pl_module, TrainingModule)
        losses = torch.cat(pl_module.chip_losses) if pl_module.chip_losses else torch.empty(0)
        if trainer.world_size > 1:
            # Each has every nth chip: in their order they are those that the sampler has drawn.
            gathered = pl_module.all_gather(losses)
            assert isinstance(gathered, torch.Tensor)
            losses = gathered.T.flatten()
        self._sampler.update(losses.tolist())
        pl_module.chip_losses.clear()

    def state_dict(self) -> dict[str, Any]:
        """The sampler's."""
        return self._sampler.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The sampler's."""
        self._sampler.load_state_dict(state_dict)


class Pictures(lightning.Callback):
    """Draws fixed chips at every check: image, truth, prediction, side by side, a row a chip.

    Args:
        folder: Where ``step-000100.png`` and so on go.
        chips: Whole chips, not normalized, of one size that the network takes.
        inputs: (C, H, W) float32 each, the same chips normalized.
        colors: (K, 3) uint8, of the classes.
    """

    def __init__(self, folder: Path, chips: Sequence[Chip], inputs: Sequence[torch.Tensor], colors: NDArray[np.uint8]) -> None:
        self._folder, self._chips, self._inputs = folder, chips, inputs
        self._palette = np.full((256, 3), 128, np.uint8)
        self._palette[: len(colors)] = colors

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Draw, with the weights that are being validated."""
        if trainer.sanity_checking or not trainer.is_global_zero or not self._chips:
            return
        assert isinstance(pl_module, TrainingModule)
        with torch.inference_mode():
            guesses = [pl_module.classes_in(image[None])[0].to("cpu", torch.uint8).numpy() for image in self._inputs]
        rows = [
            np.concatenate([natural_colors(chip), self._palette[chip.labels], self._palette[guess]], axis=1)
            for chip, guess in zip(self._chips, guesses, strict=True)
        ]
        picture = np.concatenate(rows)
        self._folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(self._folder / f"step-{trainer.global_step:06d}.png")
        for logger in trainer.loggers:
            if isinstance(logger, lightning.pytorch.loggers.TensorBoardLogger):
                logger.experiment.add_image("chips", picture, trainer.global_step, dataformats="HWC")


def natural_colors(chip: Chip) -> NDArray[np.uint8]:
    """(h, w, 3) uint8 of a chip's first three bands, or its first thrice, stretched to their 2nd and 98th percentile."""
    bands = chip.image[:3] if len(chip.image) >= 3 else chip.image[:1].repeat(3, axis=0)
    picture = np.zeros((*chip.valid.shape, 3), np.uint8)
    if chip.valid.any():
        for k, band in enumerate(bands):
            low, high = np.percentile(band[chip.valid], (2, 98))
            picture[..., k] = np.where(chip.valid, np.clip((band - low) / max(high - low, 1e-6) * 255, 0, 255), 0)
    return picture
