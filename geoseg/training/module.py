"""One step of training: the network, its loss, further terms, the optimizer and its schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torchmetrics.classification import MulticlassConfusionMatrix

from geoseg.codes import UNLABELLED
from geoseg.errors import ConfigError
from geoseg.training.data.check_windows import Check
from geoseg.training.data.chips import Batch
from geoseg.training.training_plan import LearningRates

__all__ = ["Descent", "Group", "Loss", "Output", "Step", "Term", "TrainingModule", "centre", "scores_of"]

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Of scores (N, K, H, W), labels (N, H, W) and weights (N, H, W) or None; a scalar."""
Output = Tensor | Mapping[str, Tensor] | tuple[Tensor, ...] | list[Tensor]
"""Of a network: scores, or several outputs with the scores first or under "scores"."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One step, for the terms that are added to the loss."""

    network: nn.Module
    """The network being trained."""
    output: Output
    """Of the labelled chips: scores, or the outputs of its heads."""
    batch: Batch
    """The labelled chips."""
    target: Batch | None
    """Chips without labels of the region to adapt to."""
    number: int
    """Steps of the optimizer so far."""


Term = Callable[[Step], Mapping[str, Tensor]]
"""Further losses by name, already weighted; modules among them are saved in checkpoints, their parameters trained."""


def scores_of(output: Output) -> Tensor:
    """The scores (N, K, H, W) among what a network gave: alone, first of a tuple, or under "scores"; (N, K) is one pixel each."""
    if isinstance(output, Mapping):
        output = output["scores"]
    elif isinstance(output, tuple | list):
        output = output[0]
    return output[:, :, None, None] if output.ndim == 2 else output


def centre(values: Tensor, height: int, width: int) -> Tensor:
    """The middle (..., height, width) of (..., H, W): what networks without padding give scores for."""
    row, col = (values.shape[-2] - height) // 2, (values.shape[-1] - width) // 2
    return values[..., row : row + height, col : col + width]


class Group(TypedDict):
    """Parameters of one learning rate."""

    name: NotRequired[str]
    params: list[nn.Parameter]
    factor: float
    """Of the largest learning rate."""


@dataclass(frozen=True, slots=True, eq=False)
class Descent:
    """Gradient descent: parameters, learning rates, weight decay."""

    groups: Sequence[Group]
    """Parameters with learning rates relative to the largest."""
    rates: LearningRates
    """Over the steps."""
    weight_decay: float
    """Of AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101); not on values of one dimension."""
    before_step: Callable[[nn.Module, int], None] | None = None
    """Called with the network and the number of steps done before every step, as for unfreezing."""


class TrainingModule(lightning.LightningModule):
    """A network with all that changes it.

    Args:
        network: Maps (N, C, H, W) to scores (N, K, h, w), or to a mapping or tuple that holds them.
        dense: The form of the same network whose scores are as large as its input, for validation.
        classes: Number of classes.
        sigmoid: Whether there is one score, which tells class 1 from class 0.
        loss: Of scores, labels and weights.
        descent: How its weights change.
        terms: Further losses.
        follow: Keep the loss of every chip, for samplers of hard examples.
    """

    def __init__(
        self,
        network: nn.Module,
        dense: nn.Module,
        *,
        classes: int,
        sigmoid: bool,
        loss: Loss,
        descent: Descent,
        terms: Sequence[Term] = (),
        follow: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        # The same parameters in another form; registered once, or they would be saved twice.
        self._dense = (dense,)
        self._loss = loss
        self._descent = descent
        self._terms = tuple(terms)
        self.term_modules = nn.ModuleList(term for term in terms if isinstance(term, nn.Module))
        self._sigmoid = sigmoid
        self.count = 1 if sigmoid else classes
        self.confusion = MulticlassConfusionMatrix(classes, ignore_index=UNLABELLED, validate_args=False)
        self._sums = torch.zeros(2)
        self._follow = follow
        self.chip_losses: list[Tensor] = []
        """Losses of chips in order, one (N,) a step, until somebody takes them."""

    @property
    def dense(self) -> nn.Module:
        """The form whose scores are as large as its input."""
        return self._dense[0]

    def classes_in(self, image: Tensor) -> Tensor:
        """(N, H, W) int64: the classes that the dense form finds in normalized images (N, C, H, W), on the module's device."""
        return self._decided(scores_of(self.dense(image.to(self.device)))[:, : self.count])

    def _decided(self, scores: Tensor) -> Tensor:
        return (scores[:, 0] > 0).long() if self._sigmoid else scores.argmax(1)

    def training_step(self, batch: dict[str, Batch | None], number: int) -> Tensor:
        """The loss of a step; logs it with its parts."""
        del number
        labelled = batch["labelled"]
        assert labelled is not None
        if self._descent.before_step is not None:
            self._descent.before_step(self.network, self.global_step)
        output = self.network(labelled.image)
        # Where the network computes in 16 bits, sums over pixels still need 32.
        scores = scores_of(output).float()
        size = scores.shape[-2], scores.shape[-1]
        labels = centre(labelled.labels, *size)
        weights = centre(labelled.weights, *size) if labelled.weights is not None else None
        total = self._loss(scores, labels, weights)
        self.log("loss", total.detach(), prog_bar=True)
        step = Step(self.network, output, labelled, batch.get("target"), self.global_step)
        for term in self._terms:
            for name, value in term(step).items():
                self.log(f"loss/{name}", value.detach())
                total = total + value
        if self._terms:
            self.log("loss/total", total.detach())
        if self._follow:
            each = [self._loss(scores[i : i + 1], labels[i : i + 1], None).detach().cpu() for i in range(len(scores))]
            self.chip_losses.append(torch.stack(each))
        self._refuse_not_finite(total)
        return total

    def _refuse_not_finite(self, total: Tensor) -> None:
        if not torch.isfinite(total):
            raise ConfigError(
                f"loop.rate: the loss is {float(total)} after {self.global_step} steps; lower the learning rate "
                f"({self._descent.rates.rate:g}), or clip the gradients"
            )

    def validation_step(self, batch: Check, number: int) -> None:
        """Add a window to the confusion matrix and to the loss; only its core counts."""
        del number
        # The channels after the scores distinguish objects.
        scores = scores_of(self.dense(batch["image"]))[:, : self.count].float()
        rows, cols = batch["core"]
        scores, labels = scores[:, :, rows, cols], batch["labels"][:, rows, cols]
        known = int((labels != UNLABELLED).sum())
        if known:
            self.confusion.update(self._decided(scores), labels)
            self._sums += torch.stack([self._loss(scores, labels, None).detach().cpu() * known, torch.tensor(float(known))])

    def on_validation_epoch_end(self) -> None:
        """Log the figures of the whole validation set."""
        matrix = self.confusion.compute().double()
        self.confusion.reset()
        hit = matrix.diagonal()
        union = matrix.sum(0) + matrix.sum(1) - hit
        iou = hit / union
        self.log("val/miou", iou[union > 0].mean().float(), prog_bar=True, sync_dist=True)
        for k, value in enumerate(iou.tolist()):
            self.log(f"val/iou_{k}", value, sync_dist=True)
        self.log("val/loss", self._sums[0] / self._sums[1].clamp(min=1), sync_dist=True)
        self._sums = torch.zeros(2)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW with a rate of its own for each group of parameters, changed every step."""
        groups: list[dict[str, object]] = []
        extra = [p for module in self.term_modules for p in module.parameters() if p.requires_grad]
        further: list[Group] = [{"params": extra, "factor": 1.0}] if extra else []
        for group in (*self._descent.groups, *further):
            for decays in (True, False):
                params = [p for p in group["params"] if (p.ndim > 1) == decays]
                if params:
                    decay = self._descent.weight_decay if decays else 0.0
                    groups.append({"params": params, "lr": self._descent.rates.rate * group["factor"], "weight_decay": decay})
        optimizer = torch.optim.AdamW(groups)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._descent.rates.factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
