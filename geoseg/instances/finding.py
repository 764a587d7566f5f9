"""The objects of a tile, from what a network of any kind gave for it."""

from __future__ import annotations

import numpy as np

from geoseg.arrays import F32, Bools
from geoseg.instances.found import Found, measured
from geoseg.instances.watershed import watershed_objects
from geoseg.models.card import Card

__all__ = ["found_objects"]


def found_objects(channels: F32, probabilities: F32, valid: Bools, card: Card) -> Found:
    """The objects of a tile.

    Args:
        channels: (K + R, h, w): scores, then what distinguishes objects (``InstanceFacts.kind``).
        probabilities: (classes, h, w) calibrated.
        valid: (h, w): where there is data; objects lie there alone.
        card: The model's card, which knows objects.
    """
    assert card.instances is not None
    return KINDS[card.instances.kind](channels, probabilities, valid, card)


def region_objects(channels: F32, probabilities: F32, valid: Bools, card: Card) -> Found:
    """The objects that a detector has painted, each as it gave it, less the pixels of those that are surer."""
    facts = card.instances
    assert facts is not None
    numbers, probability, score = channels[card.scores :]
    labels = np.where(valid, np.rint(numbers), 0).astype(np.int32)
    of_objects = list(card.object_classes)
    return measured(labels, probability, probabilities[of_objects], np.array(of_objects, np.uint8), facts, score)


KINDS = {"watershed": watershed_objects, "regions": region_objects}
