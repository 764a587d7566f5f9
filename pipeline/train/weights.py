"""Weights of classes, by the recipe."""

from __future__ import annotations

from geoseg.training.data.statistics import Statistics
from pipeline.train.recipe import Recipe

__all__ = ["class_weights_of"]


def class_weights_of(recipe: Recipe, statistics: Statistics) -> tuple[float, ...] | None:
    """Weights of classes: those of the balance, times the factors."""
    from geoseg.training.losses.weights import class_weights

    given = recipe.loss
    weights = None if given.balance == "none" else class_weights(given.balance, statistics.counts)
    if not given.factors:
        return weights
    return tuple(
        weight * given.factors.get(c.name, 1.0)
        for c, weight in zip(recipe.classes, weights or (1.0,) * len(recipe.classes), strict=True)
    )
