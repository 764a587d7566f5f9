"""Consistency: how a checkpoint is chosen for a region that has no labels."""

from __future__ import annotations

from collections.abc import Sequence

import lightning
import torch
from torch import Tensor

from geoseg.training.module import TrainingModule
from geoseg.training.transfer.self_training import Light

__all__ = ["CONSISTENCY", "Consistency", "agreement"]

CONSISTENCY = "val/consistency"
"""Name of the figure."""
STRENGTH = 0.3
"""Of the changes of light where the recipe names none."""
DRAWS = 2
"""Changes of light that each chip is seen in."""


def agreement(first: Tensor, second: Tensor, classes: int) -> float:
    """Mean over the classes of the intersection over union of two maps of the same pixels.

    A class that is in neither counts 0, so that a network which finds one class everywhere is not taken for steady.

    Args:
        first: Class codes, int64 of any shape.
        second: The same pixels again.
        classes: Number of classes.
    """
    matrix = torch.bincount((first * classes + second).flatten(), minlength=classes * classes).view(classes, classes).double()
    hit = matrix.diagonal()
    union = matrix.sum(0) + matrix.sum(1) - hit
    return float((hit / union.clamp(min=1)).mean())


class Consistency(lightning.Callback):
    """Measures at each check whether the classes of images without labels stay what they are in another light.

    A network that is led by colours which the region does not share changes its mind with them. The figure is ``agreement``
    between chips as they are and under changes of light, the same ones at each check: a validator of unsupervised adaptation,
    of which Musgrave et al. 2022 (arXiv:2208.07360) compare many.

    Args:
        images: Batches (N, C, H, W) float32 of chips of the region, normalized.
        strength: Of the changes, as ``Light`` has it; 0 takes ``STRENGTH``.
    """

    def __init__(self, images: Sequence[Tensor], strength: float) -> None:
        light = Light(strength or STRENGTH)
        self._images = tuple(images)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self._changed = tuple(tuple(light(batch) for _ in range(DRAWS)) for batch in self._images)

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Measure, with the weights that are being validated."""
        if trainer.sanity_checking:
            return
        assert isinstance(pl_module, TrainingModule)
        found = []
        with torch.inference_mode():
            for batch, changed in zip(self._images, self._changed, strict=True):
                plain = pl_module.classes_in(batch)
                found += [agreement(plain, pl_module.classes_in(other), pl_module.count) for other in changed]
        pl_module.log(CONSISTENCY, sum(found) / len(found))
