"""What is made small: losses of scores against labels, alone and together. Pixels without a label take no part in any."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch uses
from torch import Tensor

from geoseg.errors import ConfigError
from geoseg.training.chips import UNLABELLED

__all__ = ["TERMS", "CombinedLoss", "build_loss"]

Flat = tuple[Tensor, Tensor, Tensor]
"""Probabilities (K, n) of the n labelled pixels, their labels as 0 or 1 (K, n), and their weights (n,)."""
SMALL = 1e-7


def _flat(probabilities: Tensor, labels: Tensor, weights: Tensor | None) -> Flat:
    known = labels != UNLABELLED
    p = probabilities.movedim(1, 0)[:, known]
    hot = F.one_hot(labels[known], p.shape[0]).T.to(p.dtype)
    return p, hot, weights[known] if weights is not None else torch.ones_like(p[0])


def _overlap(flat: Flat, alpha: float, beta: float, weights: Tensor | None) -> Tensor:
    """One minus the Tversky index, mean over the classes that are labelled (Salehi et al. 2017, arXiv:1706.05721).

    ``alpha`` weighs what is found wrongly, ``beta`` what is missed: both 0.5 is Dice, both 1 Jaccard.
    """
    p, hot, w = flat
    there = hot.sum(1) > 0
    hit = (w * p * hot).sum(1)
    wrong, missed = (w * p * (1 - hot)).sum(1), (w * (1 - p) * hot).sum(1)
    index = hit / (hit + alpha * wrong + beta * missed + SMALL)
    return _mean(1 - index, there, weights)


def _mean(values: Tensor, there: Tensor, weights: Tensor | None) -> Tensor:
    share = there.to(values.dtype) if weights is None else there * weights.to(values)
    return (values * share).sum() / share.sum().clamp(min=SMALL)


def _lovasz(flat: Flat, weights: Tensor | None) -> Tensor:
    """Lovasz-softmax, the convex extension of the Jaccard loss (Berman et al. 2018, arXiv:1705.08790, algorithm 1)."""
    p, hot, _ = flat
    there = hot.sum(1) > 0
    errors, order = (hot - p).abs().sort(dim=1, descending=True)
    truth = hot.gather(1, order)
    remaining = truth.sum(1, keepdim=True) - truth.cumsum(1)
    union = truth.sum(1, keepdim=True) + (1 - truth).cumsum(1)
    jaccard = 1 - remaining / union.clamp(min=SMALL)
    steps = torch.cat([jaccard[:, :1], jaccard[:, 1:] - jaccard[:, :-1]], dim=1)
    return _mean((errors * steps).sum(1), there, weights)


def _focal(flat: Flat, gamma: float, weights: Tensor | None) -> Tensor:
    """Cross-entropy that counts pixels less the better they are known (Lin et al. 2017, arXiv:1708.02002)."""
    p, hot, w = flat
    right = (p * hot).sum(0).clamp(SMALL, 1)
    share = w if weights is None else w * (weights.to(p)[:, None] * hot).sum(0)
    return (share * (1 - right) ** gamma * -right.log()).sum() / share.sum().clamp(min=SMALL)


def _mcc(flat: Flat, weights: Tensor | None) -> Tensor:
    """One minus Matthews' correlation of each class against the rest (Abhishek and Hamarneh 2021, arXiv:2010.13454)."""
    p, hot, w = flat
    there = (hot.sum(1) > 0) & ((1 - hot).sum(1) > 0)
    tp, fp = (w * p * hot).sum(1), (w * p * (1 - hot)).sum(1)
    fn, tn = (w * (1 - p) * hot).sum(1), (w * (1 - p) * (1 - hot)).sum(1)
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return _mean(1 - (tp * tn - fp * fn) / product.clamp(min=SMALL).sqrt(), there, weights)


OVERLAPS: Mapping[str, Callable[[Flat, Tensor | None], Tensor]] = {
    "dice": lambda flat, weights: _overlap(flat, 0.5, 0.5, weights),
    "jaccard": lambda flat, weights: _overlap(flat, 1.0, 1.0, weights),
    "tversky": lambda flat, weights: _overlap(flat, 0.3, 0.7, weights),
    "lovasz": _lovasz,
    "focal": lambda flat, weights: _focal(flat, 2.0, weights),
    "mcc": _mcc,
}
TERMS = ("cross-entropy", *OVERLAPS)
"""The losses by name; Tversky's counts what is missed 0.7, what is found wrongly 0.3."""


class CombinedLoss:
    """A weighted sum of losses.

    Args:
        terms: Weight by name, of ``TERMS``.
        classes: Number of classes.
        sigmoid: Whether there is one score, which tells class 1 from class 0.
        class_weights: Of each class.
        smoothing: Of the labels in the cross-entropy: the share that is spread over all classes evenly.
    """

    def __init__(
        self, terms: Mapping[str, float], classes: int, *, sigmoid: bool, class_weights: Sequence[float] | None, smoothing: float
    ) -> None:
        self._weights = dict(terms)
        self._classes, self._sigmoid, self._smoothing = classes, sigmoid, smoothing
        self._class_weights = None if class_weights is None else torch.tensor(list(class_weights), dtype=torch.float32)

    def __call__(self, scores: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """The sum, a scalar float32; 0, with gradients of 0, where no pixel is labelled."""
        total = torch.zeros((), device=scores.device)
        for name, value in self.terms(scores, labels, weights).items():
            total = total + self._weights[name] * value
        return total

    def terms(self, scores: Tensor, labels: Tensor, weights: Tensor | None = None) -> dict[str, Tensor]:
        """Each loss by name, before it is weighted.

        Args:
            scores: (N, K, H, W), or (N, 1, H, W) with sigmoid.
            labels: (N, H, W) int64: class codes, or UNLABELLED.
            weights: (N, H, W) of pixels; they count in all losses but Lovasz's, which has no place for them.
        """
        scores = scores.float()
        if self._sigmoid:
            scores = torch.cat([-scores / 2, scores / 2], dim=1)
        if not (labels != UNLABELLED).any():
            # Not a constant: backward passes through it.
            return dict.fromkeys(self._weights, (scores * 0).sum())
        by_class = self._class_weights.to(scores.device) if self._class_weights is not None else None
        found: dict[str, Tensor] = {}
        flat: Flat | None = None
        for name in self._weights:
            if name == "cross-entropy":
                found[name] = self._cross_entropy(scores, labels, weights, by_class)
                continue
            if flat is None:
                flat = _flat(scores.softmax(1), labels, weights)
            found[name] = OVERLAPS[name](flat, by_class)
        return found

    def _cross_entropy(self, scores: Tensor, labels: Tensor, weights: Tensor | None, by_class: Tensor | None) -> Tensor:
        """The mean of w(x) times the cross-entropy, relative to the mean class weight, as in the U-Net paper."""
        each = F.cross_entropy(
            scores, labels, weight=by_class, ignore_index=UNLABELLED, reduction="none", label_smoothing=self._smoothing
        )
        known = labels != UNLABELLED
        share = known.float() if by_class is None else by_class[labels.clamp(max=self._classes - 1)] * known
        if weights is None:
            return each.sum() / share.sum().clamp(min=SMALL)
        # Weights are relative: were they all the same, they would change nothing.
        return (each * weights * known).sum() / (share * weights).sum().clamp(min=SMALL)


def build_loss(
    terms: Mapping[str, float], *, classes: int, activation: str = "softmax", class_weights: Sequence[float] | None = None,
    smoothing: float = 0.0,
) -> CombinedLoss:  # fmt: skip
    """A loss by the names and weights of its terms.

    Args:
        terms: Weight by name: cross-entropy, dice, jaccard, tversky, lovasz, focal, mcc.
        classes: Number of classes.
        activation: ``softmax`` over the classes, or ``sigmoid`` of one score that tells class 1 from class 0.
        class_weights: Of each class.
        smoothing: Label smoothing of the cross-entropy (Szegedy et al. 2016, arXiv:1512.00567).

    Raises:
        ConfigError: A name is not known, or no weight is above 0.
    """
    unknown = [name for name in terms if name not in TERMS]
    if unknown:
        raise ConfigError(f"loss.terms: {', '.join(unknown)} is not known; choose of {', '.join(TERMS)}")
    if not any(weight > 0 for weight in terms.values()) or any(weight < 0 for weight in terms.values()):
        raise ConfigError(f"loss.terms: the weights have to be above 0, not {dict(terms)}")
    if class_weights is not None and len(class_weights) != classes:
        raise ConfigError(f"loss.balance: {len(class_weights)} weights for {classes} classes")
    make = partial(CombinedLoss, sigmoid=activation == "sigmoid", class_weights=class_weights, smoothing=smoothing)
    return make({name: weight for name, weight in terms.items() if weight > 0}, classes)
