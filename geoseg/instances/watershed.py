"""Objects from classes, boundaries and distances: flooded from seeds, so that touching objects stay apart.

The answer to touching objects that needs little data: a network tells the class of each pixel, how sure it is that the pixel
lies on a border between objects, and how far it is from it. Seeds are the inner parts of objects; from each of them the
foreground is flooded in the order of falling distance (Vincent and Soille 1991, doi:10.1109/34.87344; for learned distances,
Bai and Urtasun 2017, arXiv:1611.08303).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

from geoseg.arrays import F32, I32, Bools
from geoseg.instances.found import Found, measured
from geoseg.models.card import Card
from geoseg.models.card_values import InstanceFacts

__all__ = ["flooded", "watershed_objects"]

SMOOTHED = 1.0
"""Standard deviation in pixels by which distances are smoothed, so that ripples make no seeds."""


def flooded(foreground: F32, boundary: F32, distance: F32, facts: InstanceFacts) -> I32:
    """Number the objects (h, w) int32 from 1 on, 0 for none.

    Args:
        foreground: (h, w) probability of all classes of objects together.
        boundary: (h, w) probability of a border between objects.
        distance: (h, w) distance to the border as a share of the largest that is told, negative outside.
        facts: Thresholds.
    """
    inside = foreground >= facts.foreground
    height = ndimage.gaussian_filter(distance, SMOOTHED)
    inner = inside & (height >= facts.seed) & (boundary <= facts.boundary)
    seeds, count = ndimage.label(inner)
    # What is inside and reaches no seed is too small or too narrow for one: it is an object of its own.
    regions, _ = ndimage.label(inside)
    with_seed = np.zeros(int(regions.max()) + 1, np.bool_)
    with_seed[regions[inner]] = True
    alone = inside & ~with_seed[regions]
    seeds[alone] = regions[alone] + count
    # Through corners as well, so that the corner of an object is reached from its own inside first.
    labels: I32 = watershed(-distance, seeds, connectivity=2, mask=inside).astype(np.int32)
    return labels


def watershed_objects(channels: F32, probabilities: F32, valid: Bools, card: Card) -> Found:
    """The objects in what a network gave for a tile.

    Args:
        channels: (K + 2, h, w): scores, then the score of a boundary, then the distance.
        probabilities: (classes, h, w) calibrated.
        valid: (h, w): where there is data; objects lie there alone.
        card: The model's card.
    """
    facts = card.instances
    assert facts is not None
    of_objects = list(card.object_classes)
    foreground = probabilities[of_objects].sum(axis=0)
    foreground[~valid] = 0
    boundary = 1 / (1 + np.exp(-np.clip(channels[card.scores], -30, 30)))
    labels = flooded(foreground, boundary, channels[card.scores + 1], facts)
    return measured(labels, foreground, probabilities[of_objects], np.array(of_objects, np.uint8), facts)
