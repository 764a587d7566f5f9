"""Again: the chunks of a map computed anew from its source, and held against what was published."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import GeosegError, ModelError
from geoseg.inference.chunks import ChunkLayers
from geoseg.inference.value_chunks import from_bytes
from geoseg.models.ensemble import AnyModel, load_models
from geoseg.scenes.gdal import gdal_env, open_written
from geoseg.scenes.sources import SceneRef
from pipeline.config.sections import Config
from pipeline.files.identity import RunIdentity
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
from pipeline.publish.chunk_list import ChunkLine, ChunkList
from pipeline.verify.run import VerifiedFolder

__all__ = ["SceneAgain", "Then", "Told", "refuse_others"]

SETTINGS = ("config", "grid", "chunk", "area", "dates", "clouds")


@dataclass(frozen=True, slots=True)
class Told:
    """What came of computing chunks anew: a sentence each."""

    differing: list[str]
    rounding: list[str]
    missed: list[str]
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Then:
    """How a map was made, and what makes it anew."""

    found: VerifiedFolder
    chunks: ChunkList
    config: Config
    ref: SceneRef
    model: AnyModel

    @classmethod
    def of(cls, found: VerifiedFolder, chunks: ChunkList, sources: Mapping[str, SceneRef], models: Sequence[str]) -> Then:
        """Read its record.

        Raises:
            GeosegError: It is not that of a map, or does not say of which files.
            ModelError: The model is not there, or is another by now.
        """
        record = found.scene
        if record is None:
            raise GeosegError("its record is not that of a map")
        config = _config(record.config)
        ref = sources.get(record.scene) or (None if record.given is None else _ref(record.given))
        if ref is None:
            raise GeosegError("its record does not say from which files it was made; give them by --source")
        model, then = _model(record.model, models), chunks.identity
        if model.sha256 != then.model:
            raise ModelError(f"the model is another by now ({model.sha256[:12]}, it was {then.model[:12]}); give it by --model")
        return cls(found, chunks, config, ref, model)

    @property
    def identity(self) -> RunIdentity:
        """What its chunks depend on."""
        return self.chunks.identity

    @property
    def notes(self) -> tuple[str, ...]:
        """What is other than it was: the version of the code."""
        code = self.identity.code
        return () if code == code_version() else (f"made by geoseg {code}, computed anew by {code_version()}",)

    def judge(self, line: ChunkLine, machine: str, faults: Sequence[str], told: Told) -> None:
        """Say what is wrong with a chunk, and whether other software or another machine may be the reason.

        Args:
            line: The chunk.
            machine: What computed it anew.
            faults: What is wrong, the first thing first; nothing where it is equal.
            told: Is told.
        """
        made = self.chunks.machines[line.machine]
        if made != machine:
            told.notes.append(f"made by {made}, computed anew by {machine}")
        if faults:
            rows, cols = line.row_off, line.col_off
            where = f"rows {rows}..{rows + line.height}, cols {cols}..{cols + line.width}"
            sentence = f"{self.found.name}: chunk {line.number} ({where}): {faults[0]}"
            (told.rounding if made != machine or self.notes else told.differing).append(sentence)

    def published(self, layers: Collection[LayerName]) -> list[LayerName]:
        """Of layers those that have a raster."""
        record = self.found.record
        return [name for name in layers if record is not None and f"{name}.tif" in record.files]

    def holds(self, name: LayerName, line: ChunkLine, pixels: NDArray[np.generic], band: int | None = None) -> bool:
        """Whether the published raster of a layer, or a band of it from 0, has these pixels where a chunk is."""
        window = line.window
        rows, cols = (window.row_off, window.row_stop), (window.col_off, window.col_stop)
        with gdal_env(), open_written(self.found.folder / f"{name}.tif") as dataset:
            there = dataset.read(None if band is None else band + 1, window=(rows, cols))
        return bool(np.array_equal(there, pixels.reshape(there.shape)))


def refuse_others(plan: Plan, config: Config, then: RunIdentity) -> None:
    """Refuse a plan whose chunks would be others.

    Raises:
        GeosegError: The source has changed, or this version understands the settings otherwise.
    """
    now = RunIdentity.model_validate(plan.identity(config))
    if now.scene != then.scene:
        raise GeosegError(f"{plan.scene.path}: has changed since it was mapped; a scene at another place is given by --source")
    other = [key for key in SETTINGS if getattr(now, key) != getattr(then, key)]
    if other:
        raise GeosegError(f"this version of geoseg understands its settings otherwise ({', '.join(other)})")


@dataclass(frozen=True, slots=True)
class SceneAgain:
    """A scene that can be computed anew."""

    then: Then
    plan: Plan

    @classmethod
    def of(cls, found: VerifiedFolder, chunks: ChunkList, sources: Mapping[str, SceneRef], models: Sequence[str]) -> SceneAgain:
        """Plan it as it was planned.

        Raises:
            SceneError: The source can't be read, or is another by now.
            ModelError: The model is not there, or is another by now.
        """
        then = Then.of(found, chunks, sources, models)
        own = then.identity
        plan = make_plan(then.ref, then.model, then.config, chunk=own.chunk, placement=Placement.of(own))
        refuse_others(plan, then.config, own)
        return cls(then, plan)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is other than it was."""
        return self.then.notes

    def compare(self, lines: Sequence[ChunkLine], told: Told, on_chunk: Callable[[], None]) -> None:
        """Compute chunks anew and compare them with their hashes, and with the published rasters."""
        rasters = self._rasters()
        with (
            tempfile.TemporaryDirectory(prefix="geoseg-verify-") as folder,
            closing(ChunkWorker(self.plan, open_storage(folder), expect=[line.number for line in lines])) as worker,
            ThreadPoolExecutor(self.plan.in_flight, thread_name_prefix="geoseg-verify") as pool,
        ):
            machine = made_on(self.plan.engine, worker.device)
            for line, (content, layers) in zip(lines, pool.map(worker.anew, [line.number for line in lines]), strict=True):
                faults = [] if content == line.sha256 else ["its pixels are others"]
                faults += [f"{name}.tif holds others there" for name in rasters if not self._holds(name, line, layers)]
                self.then.judge(line, machine, faults, told)
                on_chunk()

    def _holds(self, name: LayerName, line: ChunkLine, layers: ChunkLayers) -> bool:
        if name == "values" and layers.values is not None:
            return self.then.holds(name, line, from_bytes(layers.values, layers.classes))
        return self.then.holds(name, line, getattr(layers, name))

    def _rasters(self) -> list[LayerName]:
        """The published rasters whose pixels are those of the chunks: objects and rules of changes make others."""
        if self.plan.task != "semantic" or Rules.of(self.plan, self.then.config) is not None:
            return []
        return self.then.published(dict(self.plan.layers))


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
