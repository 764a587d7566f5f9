"""A network of single dates as an engine for several: the scores of first changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from geoseg.arrays import F32
from geoseg.dates.series import SeriesFacts, first_changes
from geoseg.inference.decision import Decision
from geoseg.inference.engine import Classified, Engine, TileBatch
from geoseg.inference.normalization import Normalization

if TYPE_CHECKING:
    from geoseg.inference.engine import EngineName

__all__ = ["SeriesEngine"]


class SeriesEngine:
    """Runs an engine on each date. Tiles hold the bands of all dates, then perhaps a band a date: 1 where it has data.

    Args:
        open_one: Opens the network with a normalization; called once for dates that share it.
        normalizations: By date.
        decision: Of the network: its calibration and its threshold count.
        facts: What is asked of it.
    """

    def __init__(
        self,
        open_one: Callable[[Normalization], Engine],
        normalizations: Sequence[Normalization],
        decision: Decision,
        facts: SeriesFacts,
    ) -> None:
        opened = {normalization: open_one(normalization) for normalization in dict.fromkeys(normalizations)}
        self._engines = [opened[normalization] for normalization in normalizations]
        self._decision, self._facts = decision, facts
        self._bands = len(normalizations[0].scale)
        first = self._engines[0]
        self.name: EngineName = first.name
        self.device = first.device

    @property
    def batch(self) -> int:
        """Preferred number of tiles in a batch."""
        return min(engine.batch for engine in self._engines)

    @property
    def notes(self) -> tuple[str, ...]:
        """What happened to its networks that its results may depend on."""
        return tuple(dict.fromkeys(note for engine in self._engines for note in engine.notes))

    def stop(self) -> None:
        """End what is under way soon, with Interrupted."""
        for engine in self._engines:
            engine.stop()

    def scores(self, batch: TileBatch) -> F32:
        """Logarithms of the probabilities of first changes (N, 2T, H, W)."""
        count, bands = len(self._engines), self._bands
        flagged = len(batch.data[0]) > count * bands
        probability = np.empty((len(batch.data), count, *batch.shape), np.float32)
        for t, engine in enumerate(self._engines):
            data = [tile[t * bands : (t + 1) * bands] for tile in batch.data]
            valid = list(batch.valid)
            if flagged:
                valid = [v & (tile[count * bands + t] != 0) for v, tile in zip(valid, batch.data, strict=True)]
            scores = engine.scores(TileBatch(data, valid, batch.shape, batch.keep))
            probability[:, t] = self._probability(scores)
            if flagged:
                for n, known in enumerate(valid):
                    height, width = known.shape
                    probability[n, t, :height, :width][~known] = 0.5
        return np.stack([first_changes(p, self._facts.rate) for p in probability])

    def _probability(self, scores: F32) -> F32:
        """Of the class (N, H, W), so that 0.5 is where the network's own decision turns."""
        found = self._decision.probabilities(scores)
        code, thresholds = self._facts.code, self._decision.thresholds
        single = found.shape[1] == 1
        p = found[:, 0] if single else found[:, code]
        if thresholds is not None:
            odds = (1 - thresholds[0 if single else code]) / thresholds[0 if single else code]
            p = p * odds / (p * odds + (1 - p))
        result: F32 = 1 - p if single and code == 0 else p
        return result

    def channels(self, batch: TileBatch) -> F32:
        """Scores alone: a series distinguishes no objects."""
        return self.scores(batch)

    def classify(self, batches: Iterable[TileBatch], decision: Decision) -> Iterator[list[Classified]]:
        """Class and confidence of the kept part of each tile, batch by batch in order."""
        for batch in batches:
            scores = self.scores(batch)
            yield [
                Classified(*decision.decide(np.ascontiguousarray(tile[:, rows, cols]), valid[rows, cols]))
                for tile, valid, (rows, cols) in zip(scores, batch.valid, batch.keep, strict=True)
            ]
