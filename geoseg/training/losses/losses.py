"""Losses of scores against labels, alone and together. Pixels without a label take no part in any."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch uses
from torch import Tensor

from geoseg.codes import UNLABELLED
from geoseg.errors import ConfigError, ModelError

__all__ = ["TERMS", "CombinedLoss", "build_loss"]

SMALL = 1e-7


@dataclass(frozen=True, slots=True, eq=False)
class _Flat:
    """The n pixels that count. Others are left out before anything is computed, so that not even their NaN gets in."""

    scores: Tensor
    """(n, K)."""
    labels: Tensor
    """(n,) int64."""
    log_p: Tensor
    """(K, n): logarithms of the probabilities."""
    p: Tensor
    """(K, n)."""
    hot: Tensor
    """(K, n): 1 for the class of the label, else 0."""
    w: Tensor
    """(n,): weights above 0, in the mean 1."""

    @classmethod
    def of(cls, scores: Tensor, labels: Tensor, weights: Tensor | None) -> _Flat:
        known = labels != UNLABELLED
        if weights is not None:
            known &= weights > 0
        chosen, wanted = scores.movedim(1, -1)[known], labels[known]
        log_p = chosen.log_softmax(1).T
        hot = F.one_hot(wanted, scores.shape[1]).T.to(scores.dtype)
        w = weights[known].to(scores.dtype) if weights is not None else torch.ones_like(log_p[0])
        if wanted.numel():
            w = w / w.mean()
        return cls(chosen, wanted, log_p, log_p.exp(), hot, w)


def _cross_entropy(flat: _Flat, smoothing: float, by_class: Tensor | None) -> Tensor:
    """The mean of the cross-entropy weighted by w(x); weights are relative: were they all doubled, nothing would change."""
    each = F.cross_entropy(flat.scores, flat.labels, weight=by_class, reduction="none", label_smoothing=smoothing)
    share = flat.w if by_class is None else flat.w * by_class[flat.labels]
    return (each * flat.w).sum() / share.sum().clamp(min=SMALL)


def _overlap(flat: _Flat, alpha: float, beta: float, weights: Tensor | None) -> Tensor:
    """One minus the Tversky index, mean over the classes that are labelled (Salehi et al. 2017, arXiv:1706.05721).

    ``alpha`` weighs what is found wrongly, ``beta`` what is missed: both 0.5 is Dice, both 1 Jaccard.
    """
    p, hot, w = flat.p, flat.hot, flat.w
    there = hot.sum(1) > 0
    hit = (w * p * hot).sum(1)
    wrong, missed = (w * p * (1 - hot)).sum(1), (w * (1 - p) * hot).sum(1)
    index = hit / (hit + alpha * wrong + beta * missed + SMALL)
    return _mean(1 - index, there, weights)


def _mean(values: Tensor, there: Tensor, weights: Tensor | None) -> Tensor:
    share = there.to(values.dtype) if weights is None else there * weights.to(values)
    return (values * share).sum() / share.sum().clamp(min=SMALL)


def _lovasz(flat: _Flat, weights: Tensor | None) -> Tensor:
    """Lovasz-softmax, the convex extension of the Jaccard loss (Berman et al. 2018, arXiv:1705.08790, algorithm 1)."""
    p, hot = flat.p, flat.hot
    there = hot.sum(1) > 0
    errors, order = (hot - p).abs().sort(dim=1, descending=True)
    truth = hot.gather(1, order)
    remaining = truth.sum(1, keepdim=True) - truth.cumsum(1)
    union = truth.sum(1, keepdim=True) + (1 - truth).cumsum(1)
    jaccard = 1 - remaining / union.clamp(min=SMALL)
    steps = torch.cat([jaccard[:, :1], jaccard[:, 1:] - jaccard[:, :-1]], dim=1)
    return _mean((errors * steps).sum(1), there, weights)


def _focal(flat: _Flat, gamma: float, weights: Tensor | None) -> Tensor:
    """Cross-entropy that counts pixels less the better they are known (Lin et al. 2017, arXiv:1708.02002)."""
    # Not the logarithm of a probability, which is 0 for what is quite wrong, and would teach nothing there.
    log_right = flat.log_p.gather(0, flat.labels[None])[0]
    share = flat.w if weights is None else flat.w * weights[flat.labels]
    return (share * (1 - log_right.exp()) ** gamma * -log_right).sum() / share.sum().clamp(min=SMALL)


def _mcc(flat: _Flat, weights: Tensor | None) -> Tensor:
    """One minus Matthews' correlation of each class against the rest (Abhishek and Hamarneh 2021, arXiv:2010.13454).

    It is not defined, and 0, where all pixels have the same label.
    """
    p, hot, w = flat.p, flat.hot, flat.w
    there = (hot.sum(1) > 0) & ((1 - hot).sum(1) > 0)
    tp, fp = (w * p * hot).sum(1), (w * p * (1 - hot)).sum(1)
    fn, tn = (w * (1 - p) * hot).sum(1), (w * (1 - p) * (1 - hot)).sum(1)
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return _mean(1 - (tp * tn - fp * fn) / product.clamp(min=SMALL).sqrt(), there, weights)


OVERLAPS: Mapping[str, Callable[[_Flat, Tensor | None], Tensor]] = {
    "dice": lambda flat, weights: _overlap(flat, 0.5, 0.5, weights),
    "jaccard": lambda flat, weights: _overlap(flat, 1.0, 1.0, weights),
    "tversky": lambda flat, weights: _overlap(flat, 0.3, 0.7, weights),
    "lovasz": _lovasz,
    "focal": lambda flat, weights: _focal(flat, 2.0, weights),
    "mcc": _mcc,
}
TERMS = ("cross-entropy", *OVERLAPS)
"""The losses by name; Tversky's counts what is missed 0.7, what is found wrongly 0.3; the focal one has a gamma of 2."""
ACTIVATIONS = ("softmax", "sigmoid")


@dataclass(frozen=True, slots=True)
class CombinedLoss:
    """A weighted sum of losses; made by ``build_loss``.

    segmentation-models-pytorch has such losses, too, but none takes weights of pixels; and where nothing is labelled, its
    focal loss is NaN and its Lovasz loss raises.
    """

    weights: Mapping[str, float]
    """Above 0, by name, of ``TERMS``."""
    classes: int
    """Number of classes."""
    sigmoid: bool
    """Whether there is one score, which tells class 1 from class 0."""
    class_weights: tuple[float, ...] | None
    """Of each class."""
    smoothing: float
    """Of the labels in the cross-entropy: the share that is spread over all classes evenly."""

    def __call__(self, scores: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """The sum, a scalar; 0, with gradients of 0, where no pixel is labelled. Arguments as in ``terms``."""
        total = torch.zeros((), device=scores.device)
        for name, value in self.terms(scores, labels, weights).items():
            total = total + self.weights[name] * value
        return total

    def terms(self, scores: Tensor, labels: Tensor, weights: Tensor | None = None) -> dict[str, Tensor]:
        """Each loss by name, before it is weighted: scalars in float32, or in the type of the scores if that is finer.

        Args:
            scores: (N, K, H, W), or (N, 1, H, W) with sigmoid.
            labels: (N, H, W) int64: class codes, or UNLABELLED.
            weights: (N, H, W) of pixels, relative to each other. Pixels of weight 0 are as if they had no label; other
                weights count in all losses but Lovasz's, which has no place for them.

        Raises:
            ModelError: There are not as many scores as classes, or they are not of the size of the labels.
        """
        wanted = (labels.shape[0], 1 if self.sigmoid else self.classes, *labels.shape[1:])
        if tuple(scores.shape) != wanted:
            raise ModelError(f"the loss of {self.classes} classes needs scores of shape {wanted}, not {tuple(scores.shape)}")
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        if self.sigmoid:
            scores = torch.cat([-scores / 2, scores / 2], dim=1)
        flat = _Flat.of(scores, labels, weights)
        if not flat.labels.numel():
            # The sum of nothing, not a constant: backward passes through it.
            return dict.fromkeys(self.weights, flat.scores.sum())
        by_class = None if self.class_weights is None else torch.tensor(self.class_weights).to(scores)
        return {
            name: _cross_entropy(flat, self.smoothing, by_class) if name == "cross-entropy" else OVERLAPS[name](flat, by_class)
            for name in self.weights
        }


def build_loss(
    terms: Mapping[str, float],
    *,
    classes: int,
    activation: str = "softmax",
    class_weights: Sequence[float] | None = None,
    smoothing: float = 0.0,
) -> CombinedLoss:
    """A loss by the names and weights of its terms.

    Args:
        terms: Weight by name: cross-entropy, dice, jaccard, tversky, lovasz, focal, mcc.
        classes: Number of classes.
        activation: ``softmax`` over the classes, or ``sigmoid`` of one score that tells class 1 from class 0.
        class_weights: Of each class.
        smoothing: Label smoothing of the cross-entropy (Szegedy et al. 2016, arXiv:1512.00567), from 0 to below 1.

    Raises:
        ConfigError: A name is not known, no weight is above 0, or a value can't work.
    """
    unknown = [name for name in terms if name not in TERMS]
    if unknown:
        raise ConfigError(f"loss.terms: {', '.join(unknown)} is not known; choose of {', '.join(TERMS)}")
    if not all(0 <= weight < math.inf for weight in terms.values()) or not any(terms.values()):
        raise ConfigError(f"loss.terms: the weights have to be numbers above 0, not {dict(terms)}; 0 leaves a term out")
    if activation not in ACTIVATIONS:
        raise ConfigError(f"activation: {activation!r} is not known; choose one of {', '.join(ACTIVATIONS)}")
    if activation == "sigmoid" and classes != 2:
        raise ConfigError(f"activation: one score with sigmoid distinguishes 2 classes, not {classes}; use softmax")
    if not 0 <= smoothing < 1:
        raise ConfigError(f"loss.smoothing: {smoothing} is not from 0 to below 1")
    if class_weights is not None:
        if len(class_weights) != classes:
            raise ConfigError(f"loss.balance: {len(class_weights)} weights for {classes} classes")
        if not all(0 <= weight < math.inf for weight in class_weights):
            raise ConfigError(f"loss.balance: the weights of classes have to be 0 or more, not {list(class_weights)}")
    return CombinedLoss(
        {name: weight for name, weight in terms.items() if weight > 0},
        classes,
        activation == "sigmoid",
        None if class_weights is None else tuple(class_weights),
        smoothing,
    )
