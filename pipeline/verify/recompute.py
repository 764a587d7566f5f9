"""Recompute: chunks drawn by chance are computed anew from their source and compared with what was published.

Results are exact, so that two computations are compared by equality, and a simple random sample of chunks bounds how many of all
can differ (hypergeometric distribution: Johnson, Kotz and Kemp, Univariate Discrete Distributions, chapter 6).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from geoseg.dialect import number_of
from geoseg.documents import Json
from geoseg.errors import GeosegError
from geoseg.scenes.sources import SceneRef
from pipeline.files.run_folder import CHUNKS
from pipeline.publish.chunk_list import ChunkLine, ChunkList, read_chunks
from pipeline.verify.again import SceneAgain, Told
from pipeline.verify.mosaic_again import MosaicAgain
from pipeline.verify.run import Verified, VerifiedFolder

__all__ = ["CONFIDENCE", "Audit", "lines_of", "most_differing", "recompute"]

CONFIDENCE = 0.95
"""Of the bound, one-sided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Outcome of a sample of chunks."""

    seed: int
    """The sample is that of NumPy's default generator with this seed."""
    population: int
    """Chunks of the scenes that could be computed anew."""
    compared: int
    """Of these, those that were drawn and computed."""
    differing: tuple[str, ...]
    """A sentence for each that differs, where the same software made it."""
    rounding: tuple[str, ...]
    """A sentence for each that differs, where other software or another type of machine made it."""
    missed: tuple[str, ...]
    """A sentence for each scene that could not be computed anew."""
    notes: tuple[str, ...]
    """What is other than it was when the chunks were made."""

    @property
    def most(self) -> int:
        """The largest number of chunks of the population that can differ, at 95 %."""
        return most_differing(self.population, self.compared, len(self.differing) + len(self.rounding))

    def sentence(self) -> str:
        """Sentence on what follows from the sample."""
        if not self.compared:
            return "no chunk was recomputed"
        unequal = len(self.differing) + len(self.rounding)
        told = "all equal" if not unequal else f"{unequal} {'differs' if unequal == 1 else 'differ'}"
        drawn = f"{self.compared:,} of {number_of(self.population, 'chunk')} recomputed, {told} (seed {self.seed})"
        if self.compared == self.population:
            return f"{drawn}: these are all"
        if self.most + 1 >= self.population:
            return f"{drawn}: too few to say how many of all differ"
        return f"{drawn}: 95 % sure that fewer than {_percent(self.most + 1, self.population)} differ"

    def to_json(self) -> dict[str, Json]:
        """For programs."""
        return {
            "seed": self.seed,
            "population": self.population,
            "compared": self.compared,
            "differing": list(self.differing),
            "rounding": list(self.rounding),
            "missed": list(self.missed),
            "notes": list(self.notes),
            "at_most": self.most,
            "confidence": CONFIDENCE,
            "sentence": self.sentence(),
        }


def most_differing(population: int, drawn: int, differing: int) -> int:
    """The largest number of differing chunks in a population with which a sample shows so few with more than 5 % chance.

    Args:
        population: Chunks in all.
        drawn: Chunks drawn without replacement.
        differing: Of these, those that differ.
    """
    from scipy.stats import hypergeom

    low, high = differing, population - (drawn - differing)
    while low < high:
        middle = (low + high + 1) // 2
        if hypergeom.cdf(differing, population, middle, drawn) > 1 - CONFIDENCE:
            low = middle
        else:
            high = middle - 1
    return low


def recompute(
    verified: Verified,
    count: int,
    seed: int,
    *,
    sources: Mapping[str, SceneRef] | None = None,
    models: Sequence[str] = (),
    on_chunk: Callable[[], None] = lambda: None,
) -> Audit:
    """Compute chunks of all scenes of an output folder anew, and compare them with what was published.

    Args:
        verified: The output folder.
        count: How many chunks are drawn, of all that were analysed.
        seed: Of the sample.
        sources: Scenes by name, for those that are no longer where they were.
        models: The models, for those that are no longer where they were.
        on_chunk: Is told of each.
    """
    scenes = [(found, chunks) for found in verified.folders if (chunks := _chunks(found)) is not None]
    place = [(k, line) for k, (_, chunks) in enumerate(scenes) for line in chunks.chunks if line.status == "done"]
    picked = np.random.default_rng(seed).choice(len(place), min(count, len(place)), replace=False) if place else ()
    drawn: dict[int, list[ChunkLine]] = defaultdict(list)
    for number in sorted(int(n) for n in picked):
        drawn[place[number][0]].append(place[number][1])
    population = compared = 0
    told = Told([], [], [], [])
    for k, lines in drawn.items():
        found, chunks = scenes[k]
        kind = MosaicAgain if found.document.get("mosaic") is not None else SceneAgain
        try:
            again = kind.of(found, chunks, sources or {}, models)
        except (GeosegError, OSError) as error:
            told.missed.append(f"{found.name}: can't be computed anew: {error}")
            continue
        told.notes.extend(again.notes)
        population += sum(line.status == "done" for line in chunks.chunks)
        compared += len(lines)
        again.compare(lines, told, on_chunk)
    return Audit(
        seed=seed,
        population=population,
        compared=compared,
        differing=tuple(told.differing),
        rounding=tuple(told.rounding),
        missed=tuple(told.missed),
        notes=tuple(dict.fromkeys(told.notes)),
    )


def _chunks(found: VerifiedFolder) -> ChunkList | None:
    """The chunks that ``chunks.json`` lists; None where there is none that the record lists."""
    return read_chunks(found.folder) if found.record is not None and CHUNKS in found.record.files else None


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2g} %"


def lines_of(audit: Audit) -> Iterator[str]:
    """Lines that people read of an audit."""
    yield audit.sentence()
    yield from audit.notes
    for sentence in audit.differing:
        yield f"DIFFERS: {sentence}"
    for sentence in audit.rounding:
        yield f"differs, by other software or another type of machine: {sentence}"
    yield from audit.missed
