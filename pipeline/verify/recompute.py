"""Recompute: chunks drawn by chance are computed anew from their source and compared with what was published.

Results are exact, so that two computations are compared by equality, and a simple random sample of chunks bounds how many of all
can differ (hypergeometric distribution: Johnson, Kotz and Kemp, Univariate Discrete Distributions, chapter 6).
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from geoseg.documents import Json
from geoseg.errors import GeosegError, ModelError
from geoseg.inference.chunks import ChunkLayers
from geoseg.models.ensemble import AnyModel, load_models
from geoseg.scenes.gdal import gdal_env, open_written
from geoseg.scenes.sources import SceneRef
from geoseg.windows import Window
from pipeline.config.sections import Config
from pipeline.files.identity import RunIdentity
from pipeline.files.run_folder import CHUNKS
from pipeline.files.scene_record import GivenScene, ModelFacts
from pipeline.files.version import code_version
from pipeline.infer.chunk import ChunkWorker
from pipeline.infer.machine import made_on
from pipeline.infer.storage import open_storage
from pipeline.join.rules import Rules
from pipeline.plan.engine_choice import Placement
from pipeline.plan.make import make_plan
from pipeline.plan.plan import Plan
from pipeline.plan.result_layers import LayerName
from pipeline.publish.chunk_list import ChunkLine, ChunkList, read_chunks
from pipeline.verify.run import Verified, VerifiedFolder

__all__ = ["CONFIDENCE", "Audit", "lines_of", "most_differing", "recompute"]

CONFIDENCE = 0.95
"""Of the bound, one-sided."""
SETTINGS = ("config", "grid", "chunk", "area", "dates", "clouds")


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
        drawn = f"{self.compared:,} of {self.population:,} chunks recomputed, {told} (seed {self.seed})"
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
    told = _Told([], [], [], [])
    for k, lines in drawn.items():
        found, chunks = scenes[k]
        try:
            again = _Again.of(found, chunks, sources or {}, models)
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


@dataclass(frozen=True, slots=True)
class _Told:
    differing: list[str]
    rounding: list[str]
    missed: list[str]
    notes: list[str]


def _chunks(found: VerifiedFolder) -> ChunkList | None:
    """The chunks that ``chunks.json`` lists; None where there is none that the record lists."""
    return read_chunks(found.folder) if found.record is not None and CHUNKS in found.record.files else None


@dataclass(frozen=True, slots=True)
class _Again:
    """A scene that can be computed anew."""

    found: VerifiedFolder
    machines: Sequence[str]
    plan: Plan
    config: Config
    other_code: bool
    notes: tuple[str, ...]

    @classmethod
    def of(cls, found: VerifiedFolder, chunks: ChunkList, sources: Mapping[str, SceneRef], models: Sequence[str]) -> _Again:
        """Plan it as it was planned.

        Raises:
            SceneError: The source can't be read, or is another by now.
            ModelError: The model is not there, or is another by now.
        """
        record, then = found.scene, chunks.identity
        if record is None:
            raise GeosegError("its record is not that of a map")
        if found.document.get("mosaic") is not None:
            raise GeosegError("it is a mosaic: map one of its scenes alone to compare chunks")
        config = _config(record.config)
        ref = sources.get(record.scene) or (None if record.given is None else _ref(record.given))
        if ref is None:
            raise GeosegError("its record does not say from which files it was made; give them by --source")
        model = _model(record.model, models)
        if model.sha256 != then.model:
            raise ModelError(f"the model is another by now ({model.sha256[:12]}, it was {then.model[:12]}); give it by --model")
        plan = make_plan(ref, model, config, chunk=then.chunk, placement=Placement.of(then))
        now = RunIdentity.model_validate(plan.identity(config))
        if now.scene != then.scene:
            raise GeosegError(
                f"{plan.scene.path}: has changed since it was mapped; a scene at another place is given by --source"
            )
        other = [key for key in SETTINGS if getattr(now, key) != getattr(then, key)]
        if other:
            raise GeosegError(f"this version of geoseg understands its settings otherwise ({', '.join(other)})")
        code = then.code
        notes = [] if code == code_version() else [f"made by geoseg {code}, computed anew by {code_version()}"]
        return cls(found, chunks.machines, plan, config, bool(notes), tuple(notes))

    def compare(self, lines: Sequence[ChunkLine], told: _Told, on_chunk: Callable[[], None]) -> None:
        """Compute chunks anew and compare them with their hashes, and with the published rasters."""
        rasters = self._rasters()
        with (
            tempfile.TemporaryDirectory(prefix="geoseg-verify-") as folder,
            closing(ChunkWorker(self.plan, open_storage(folder), expect=[line.number for line in lines])) as worker,
            ThreadPoolExecutor(self.plan.in_flight, thread_name_prefix="geoseg-verify") as pool,
        ):
            machine = made_on(self.plan.engine, worker.device)
            for line, (content, layers) in zip(lines, pool.map(worker.anew, [line.number for line in lines]), strict=True):
                made = self.machines[line.machine]
                if made != machine:
                    told.notes.append(f"made by {made}, computed anew by {machine}")
                faults = [] if content == line.sha256 else ["its pixels are others"]
                if not faults:
                    faults = [f"{name}.tif holds others there" for name in rasters if not self._holds(name, line.window, layers)]
                if faults:
                    rows, cols = line.row_off, line.col_off
                    where = f"rows {rows}..{rows + line.height}, cols {cols}..{cols + line.width}"
                    sentence = f"{self.found.name}: chunk {line.number} ({where}): {faults[0]}"
                    (told.rounding if made != machine or self.other_code else told.differing).append(sentence)
                on_chunk()

    def _rasters(self) -> list[LayerName]:
        """The published rasters whose pixels are those of the chunks: objects and rules of changes make others."""
        if self.plan.task != "semantic" or Rules.of(self.plan, self.config) is not None:
            return []
        return [
            name for name, _ in self.plan.layers if self.found.record is not None and f"{name}.tif" in self.found.record.files
        ]

    def _holds(self, name: LayerName, window: Window, layers: ChunkLayers) -> bool:
        with gdal_env(), open_written(self.found.folder / f"{name}.tif") as dataset:
            there = dataset.read(window=((window.row_off, window.row_stop), (window.col_off, window.col_stop)))
        return bool(np.array_equal(there, getattr(layers, name).reshape(there.shape)))


def _config(settings: Mapping[str, Mapping[str, object]]) -> Config:
    """The settings of a run, but for those that hold secrets or say where it ran."""
    sections = {name: facts for name, facts in settings.items() if name not in ("watch", "stac")}
    run = {key: value for key, value in sections.get("run", {}).items() if key not in ("scheduler", "scratch")}
    return Config.parse({**sections, "run": run})


def _ref(given: GivenScene) -> SceneRef:
    later = tuple(map(_ref, given.later))
    return SceneRef(given.name, given.paths, given.band_names, later=later, area=given.area, told=given.told)


def _model(facts: ModelFacts, models: Sequence[str]) -> AnyModel:
    if models:
        return load_models(models)
    try:
        return load_models([member.path for member in facts.members])
    except ModelError:
        # A shipped one has its name in every installation.
        return load_models([facts.name])


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
