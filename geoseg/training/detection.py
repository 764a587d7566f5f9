"""Training of detectors: objects of chips as boxes and masks, and the losses of Faster and Mask R-CNN."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from geoseg.codes import UNLABELLED
from geoseg.errors import ConfigError
from geoseg.training.data.chips import Batch
from geoseg.training.module import Descent, Loss, TrainingModule

__all__ = ["DetectionModule", "targets_of"]


def targets_of(batch: Batch, codes: Sequence[int], *, least: int = 1) -> list[dict[str, Tensor]]:
    """The objects of each chip, as torchvision's detectors take them.

    Args:
        batch: With objects.
        codes: Codes of the classes of objects; the first gets label 1.
        least: Pixels of the smallest object; smaller ones, such as those that the border of the chip has cut, are ignored.

    Returns:
        For each chip ``boxes`` (M, 4) float32 as left, top, right, bottom along pixel edges, ``labels`` (M,) int64,
        ``masks`` (M, H, W) uint8, and ``ignore`` (H, W) bool: pixels that are not labelled, or of objects that are too small.

    Raises:
        ConfigError: The batch has no objects.
    """
    if batch.objects is None:
        raise ConfigError("instances: the chips come without objects; name their classes")
    table = torch.zeros(UNLABELLED + 1, dtype=torch.int64)
    table[torch.tensor(list(codes))] = torch.arange(1, len(codes) + 1)
    return [_targets(objects, labels, table, least) for objects, labels in zip(batch.objects, batch.labels, strict=True)]


def _targets(objects: Tensor, labels: Tensor, table: Tensor, least: int) -> dict[str, Tensor]:
    numbers, counts = torch.unique(objects[objects > 0], return_counts=True)
    ignore = (labels == UNLABELLED) | torch.isin(objects, numbers[counts < least])
    numbers = numbers[counts >= least]
    masks = objects[None] == numbers[:, None, None]
    if not len(numbers):
        empty = torch.zeros((0, 4), device=objects.device)
        return {"boxes": empty, "labels": numbers.long(), "masks": masks.to(torch.uint8), "ignore": ignore}
    rows, cols = masks.any(2), masks.any(1)
    height, width = rows.shape[1], cols.shape[1]
    top, left = rows.int().argmax(1), cols.int().argmax(1)
    bottom, right = height - rows.flip(1).int().argmax(1), width - cols.flip(1).int().argmax(1)
    boxes = torch.stack([left, top, right, bottom], 1).float()
    # An object has one class: that of its first pixel.
    first = masks.flatten(1).int().argmax(1)
    classes = table.to(labels.device)[labels.flatten()[first]]
    return {"boxes": boxes, "labels": classes, "masks": masks.to(torch.uint8), "ignore": ignore}


class DetectionModule(TrainingModule):
    """A detector with all that changes it; validated by the mean IoU of its objects painted over the background.

    Args:
        network: Gives losses of images and targets.
        dense: The form that gives scores, for validation.
        codes: Codes of the classes of objects.
        least: Pixels of the smallest object.
        classes: Number of classes.
        loss: For figures of validation.
        descent: How its weights change.
    """

    def __init__(
        self,
        network: nn.Module,
        dense: nn.Module,
        *,
        codes: Sequence[int],
        least: int,
        classes: int,
        loss: Loss,
        descent: Descent,
    ) -> None:
        super().__init__(network, dense, classes=classes, sigmoid=False, loss=loss, descent=descent)
        self._codes, self._least = tuple(codes), least

    def training_step(self, batch: dict[str, Batch | None], number: int) -> Tensor:
        """The sum of the losses of proposals, classes, boxes and masks; logs each."""
        del number
        labelled = batch["labelled"]
        assert labelled is not None
        if self._descent.before_step is not None:
            self._descent.before_step(self.network, self.global_step)
        losses: dict[str, Tensor] = self.network(labelled.image, targets_of(labelled, self._codes, least=self._least))
        for name, value in losses.items():
            self.log(f"loss/{name.removeprefix('loss_')}", value.detach())
        total = torch.stack(list(losses.values())).sum()
        self.log("loss", total.detach(), prog_bar=True)
        self._refuse_not_finite(total)
        return total
