"""Training of networks that regress one quantity: the loss of values, and figures of validation in their unit."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geoseg.errors import ConfigError
from geoseg.training.data.check_windows import Check
from geoseg.training.data.chips import Batch
from geoseg.training.losses.value_losses import ValueLoss
from geoseg.training.module import Descent, TrainingModule, centre, scores_of

__all__ = ["VALUE_FIGURES", "ValueModule"]

VALUE_FIGURES = ("val/rmse", "val/mae", "val/bias")
"""Figures of validation, in the unit of the values."""


class ValueModule(TrainingModule):
    """A network that gives one raster of values, with all that changes it.

    Args:
        network: Maps (N, C, H, W) to (N, 1, h, w).
        dense: The form of the same network whose output is as large as its input, for validation.
        loss: Of outputs and values.
        descent: How its weights change.
    """

    def __init__(self, network: nn.Module, dense: nn.Module, *, loss: ValueLoss, descent: Descent) -> None:
        # What is said of classes is not used: values have a loss and figures of their own.
        super().__init__(network, dense, classes=2, sigmoid=True, loss=_no_loss, descent=descent)
        self._values = loss
        self._totals = torch.zeros(5, dtype=torch.float64)
        """Pixels; sums of losses, squared errors, their sizes, errors."""

    def training_step(self, batch: dict[str, Batch | None], number: int) -> Tensor:
        """The loss of a step."""
        del number
        labelled = batch["labelled"]
        assert labelled is not None
        if self._descent.before_step is not None:
            self._descent.before_step(self.network, self.global_step)
        output = scores_of(self.network(labelled.image)).float()
        known = centre(_values_of(labelled.rasters), output.shape[-2], output.shape[-1])
        total = self._values(output, known)
        self.log("loss", total.detach(), prog_bar=True)
        self._refuse_not_finite(total)
        return total

    def validation_step(self, batch: Check, number: int) -> None:
        """Add a window to the sums; only its core counts."""
        del number
        rows, cols = batch["core"]
        output = scores_of(self.dense(batch["image"]))[:, :1, rows, cols].float()
        values = _values_of(batch.get("rasters"))[:, :1, rows, cols]
        known = ~values.isnan()
        count = int(known.sum())
        if count:
            error = (self._values.values(output) - values)[known].double()
            loss = self._values(output, values).double() * count
            parts = [torch.tensor(float(count)), loss, error.square().sum(), error.abs().sum(), error.sum()]
            self._totals += torch.stack([part.detach().cpu().double() for part in parts])

    def on_validation_epoch_end(self) -> None:
        """Log the figures of the whole validation set."""
        count, loss, square, size, error = self._totals.unbind()
        count = count.clamp(min=1)
        self.log("val/loss", (loss / count).float(), prog_bar=True, sync_dist=True)
        self.log("val/rmse", (square / count).sqrt().float(), prog_bar=True, sync_dist=True)
        self.log("val/mae", (size / count).float(), sync_dist=True)
        self.log("val/bias", (error / count).float(), sync_dist=True)
        self._totals = torch.zeros(5, dtype=torch.float64)


def _no_loss(scores: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    del labels, weights
    return scores.sum() * 0


def _values_of(rasters: Tensor | None) -> Tensor:
    """(N, 1, H, W) values, NaN where not known.

    Raises:
        ConfigError: There are none.
    """
    if rasters is None:
        raise ConfigError("data.labels: the chips come without values; name rasters of numbers")
    return rasters[:, :1]
