"""The mean of scenes' probabilities: sums of whole numbers, the same in whatever order they are added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import U8, U16, Bools
from geoseg.codes import MAX_CONFIDENCE
from geoseg.inference.decision import Decision
from geoseg.inference.fixed_point import ONE
from pipeline.mosaic.combine import UNCHOSEN, Part, choose, merged

__all__ = ["Mean"]

DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Mean:
    """The sums of probabilities over a window, and how many scenes they are of."""

    decision: Decision
    sums: NDArray[np.int64]
    """(K, h, w) sums of ``geoseg.inference.fixed_point``, by score."""
    count: NDArray[np.int64]
    """(h, w) scenes that were analysed there."""

    @classmethod
    def empty(cls, decision: Decision, shape: tuple[int, int]) -> Mean:
        """That of no scene."""
        return cls(decision, np.zeros((len(decision.gain), *shape), np.int64), np.zeros(shape, np.int64))

    def add(self, shares: U16, analysed: Bools, where: tuple[slice, slice]) -> None:
        """Add what a scene says of some rows and columns (K, h, w), where it was analysed (h, w)."""
        sums, count = self.sums[(slice(None), *where)], self.count[where]
        np.add(sums, shares, out=sums, where=analysed)
        count += analysed

    def by_class(self) -> NDArray[np.int64]:
        """(classes, h, w) sums: a single score is that of class 1, and class 0 has the rest."""
        return self.sums if len(self.sums) > 1 else np.concatenate([ONE * self.count[None] - self.sums, self.sums])

    def highest(self) -> Bools:
        """(classes, h, w), True for the class of the mean; for several that tie.

        It is what ``Decision`` says of probabilities; thresholds are rounded as these are.
        """
        decision, sums = self.decision, self.sums
        least = np.rint(ONE * np.asarray(decision.thresholds_or(DEFAULT_THRESHOLD))).astype(np.int64)
        able = sums >= least[:, None, None] * self.count
        if len(sums) == 1:
            return np.concatenate([~able, able])
        if decision.softmax and decision.thresholds is None:
            able[:] = True
        reached = np.where(able, sums, -1)
        found = able & (reached == reached.max(axis=0))
        found[0] |= ~able.any(axis=0)
        return np.asarray(found)

    def percents(self) -> U8:
        """(classes, h, w) probabilities in percent, halves rounded up; 0 where there is no scene."""
        whole = np.maximum(1, ONE * self.count)
        return np.asarray((2 * MAX_CONFIDENCE * self.by_class() + whole) // (2 * whole), np.uint8)

    def decide(self, parts: Sequence[Part], *, probabilities: bool = False) -> tuple[U8, U8]:
        """The bands (bands, h, w) of the mean, and (h, w) the index of the part that each pixel is of.

        The part is the first one, in the order, with the class of the mean; where classes tie, with one of these. Where no part
        has it, it is the first that was analysed, and of classes that tie the lowest code is taken. All bands but class and
        confidence are those of this part, and so are class and confidence where no other part was analysed.

        Args:
            parts: What was added, in the order in which it is preferred.
            probabilities: Whether the means, in percent, are to stand behind class and confidence.
        """
        highest, percents = self.highest(), self.percents()
        planes = np.arange(len(percents))[:, None, None]
        own = [Part(part.bands, part.depth, (highest & (planes == part.classes)).any(axis=0)) for part in parts]
        agreeing, first = choose(own, "mean"), choose(parts, "mean")
        chosen = np.where(agreeing == UNCHOSEN, first, agreeing)
        out, several = merged(parts, chosen), self.count > 1
        codes = np.where(agreeing == UNCHOSEN, highest.argmax(axis=0), out[0]).astype(np.uint8)
        out[0] = np.where(several, codes, out[0])
        taken = np.take_along_axis(percents, np.minimum(codes, len(percents) - 1)[None].astype(np.intp), axis=0)[0]
        out[1] = np.where(several, taken, out[1])
        if probabilities:
            # Where there is no class, all bands say why.
            means = np.where(self.count > 0, percents, out[0])
            out = np.concatenate([out[:2], means, out[2:]])
        return out, np.asarray(chosen, np.uint8)
