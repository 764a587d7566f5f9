"""A sample of labelled pixels that does not grow with the scenes that it is drawn from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import F32, U8, Bools

__all__ = ["PixelSample"]

CAPACITY = 400_000


class PixelSample:
    """Scores and labels of pixels, each labelled pixel as likely as any other, at most ``capacity``.

    Every pixel gets a random key, and the pixels with the smallest keys are kept; so a sample can be drawn in one pass.

    Args:
        scores: Number of scores K that the network gives.
        classes: Number of classes; other codes are not labels.
        generator: Source of chance.
        capacity: Pixels kept.
    """

    def __init__(self, scores: int, classes: int, generator: np.random.Generator, *, capacity: int = CAPACITY) -> None:
        self._classes, self._generator, self._capacity = classes, generator, capacity
        self._groups = np.empty(0, np.int32)
        self._keys = np.empty(0)
        self._scores = np.empty((0, scores), np.float32)
        self._labels = np.empty(0, np.uint8)
        self._limit = 1.0

    def add(self, scores: F32, labels: U8, group: int = 0) -> None:
        """Take in pixels: ``scores`` (K, ...) before calibration, ``labels`` (...), the number of their scene."""
        at = np.flatnonzero(labels.ravel() < self._classes)
        keys = self._generator.random(at.size)
        few = keys < self._limit
        at, keys = at[few], keys[few]
        self._keys = np.concatenate([self._keys, keys])
        self._scores = np.concatenate([self._scores, scores.reshape(len(scores), -1)[:, at].T])
        self._labels = np.concatenate([self._labels, labels.ravel()[at]])
        self._groups = np.concatenate([self._groups, np.full(at.size, group, np.int32)])
        if len(self._keys) > self._capacity:
            kept = np.sort(np.argpartition(self._keys, self._capacity - 1)[: self._capacity])
            self._keep(kept)
            self._limit = float(self._keys.max())

    def _keep(self, at: NDArray[np.intp]) -> None:
        self._keys, self._groups = self._keys[at], self._groups[at]
        self._scores, self._labels = self._scores[at], self._labels[at]

    def folds(self, count: int) -> Iterator[tuple[PixelSample, PixelSample]]:
        """Divide it ``count`` times, or as often as there are scenes: all but one part, and that part.

        Scenes stay together; the pixels of a single one are divided in the order in which they came.
        """
        scenes, number = np.unique(self._groups, return_inverse=True)
        count = min(count, len(scenes)) if len(scenes) > 1 else count
        part = number % count if len(scenes) > 1 else np.arange(len(self)) * count // max(1, len(self))
        for held in range(count):
            yield self._only(part != held), self._only(part == held)

    def _only(self, mask: Bools) -> PixelSample:
        some = PixelSample(self._scores.shape[1], self._classes, self._generator, capacity=self._capacity)
        some._keys, some._groups, some._scores, some._labels = self._keys, self._groups, self._scores, self._labels
        some._keep(np.flatnonzero(mask))
        return some

    def __len__(self) -> int:
        """Number of entries."""
        return len(self._keys)

    @property
    def scores(self) -> F32:
        """(n, K)."""
        return self._scores

    @property
    def labels(self) -> U8:
        """(n,) class codes."""
        return self._labels
