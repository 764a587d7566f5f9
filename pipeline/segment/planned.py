"""References that the stages of one scene hand on: frozen, small, and ready to be pickled. The results lie on the disk."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from geoseg.documents import Json
from geoseg.models.ensemble import AnyModel
from geoseg.models.model_folder import file_hash
from geoseg.polygons.origins import Origins
from geoseg.scenes.names import check_inside
from geoseg.scenes.sources import SceneRef
from pipeline.config.sections import Config
from pipeline.files.manifest import Manifest, StageRecord
from pipeline.files.owned import Finished
from pipeline.files.run_folder import RunFolder
from pipeline.infer.arrivals import ChunkFiles
from pipeline.infer.chunk_store import ChunkStore
from pipeline.infer.receipt import Receipt, Receipts
from pipeline.infer.run import unfinished
from pipeline.infer.storage import Storage, open_storage
from pipeline.plan.plan import Plan
from pipeline.publish.document import result_identity

__all__ = ["ChunkFiles", "Inferred", "PlannedScene", "SceneJob"]

CHUNKS = "chunks"


@dataclass(frozen=True, slots=True)
class SceneJob:
    """A scene to map: with which model and settings, and where to."""

    ref: SceneRef
    model: AnyModel
    config: Config
    folder: Path
    """The scene's folder."""
    out: Path
    """The folder that holds it, and those of other scenes."""
    scenes: int = 1
    """Number of scenes that are mapped there, for choosing where the network is run."""

    @classmethod
    def of(cls, ref: SceneRef, model: AnyModel, config: Config, out: Path, scenes: int = 1) -> SceneJob:
        """The job of mapping a scene into ``out / ref.name``.

        Raises:
            OutputError: That lies elsewhere by a link.
        """
        return cls(ref, model, config, check_inside(out, ref.name), out, scenes)

    @property
    def place(self) -> RunFolder:
        """The folder as that of a run."""
        return RunFolder(self.folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedScene:
    """A scene with its plan."""

    job: SceneJob
    plan: Plan
    formats: tuple[str, ...] = ()
    """Formats of the polygons."""
    done: int = 0
    """Chunks that an earlier run has recorded."""
    seconds: float = 0.0
    """Duration of the planning."""
    finished: Finished | None = None
    """The record of an earlier run with the same result, which leaves nothing to do."""

    @property
    def work(self) -> Path:
        """The folder of what is under way."""
        return self.job.place.work

    @property
    def identity(self) -> Mapping[str, Json]:
        """The facts that the chunk results depend on."""
        return self.plan.identity(self.job.config)

    def manifest(self) -> Manifest:
        """Read what is finished.

        Raises:
            OutputError: The manifest is gone, or of another run.
        """
        return Manifest.read(self.job.place.manifest, self.identity)

    def storage(self) -> Storage:
        """The chunk results' place: the run folder, or one of this output in the place that all workers share."""
        scratch, folder = self.job.config.run.scratch, self.job.folder
        if scratch is None:
            return open_storage(str(self.job.place / CHUNKS))
        own = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
        return open_storage(f"{scratch.rstrip('/')}/{folder.name}-{own}")

    def store(self) -> ChunkStore:
        """The chunk results."""
        return ChunkStore(self.storage(), self.plan.grid, self.plan.layers)

    def origins(self, filled: Collection[int]) -> Origins | None:
        """Of a mosaic, which scenes its pixels are of, in the chunks that have files; None for one scene."""
        del filled
        return None

    def key(self, stage: str, chunks: ChunkFiles | None = None) -> str:
        """sha256 of all that the outcome of a stage depends on: scene, model, settings, code, and the chunk results, if given."""
        facts = result_identity(self.plan, self.job.config)
        parts = [json.dumps(stage), json.dumps(facts, sort_keys=True), *([] if chunks is None else [f"[{chunks.listed}]"])]
        return hashlib.sha256(f"[{', '.join(parts)}]".encode()).hexdigest()

    def is_ended(self, stage: str) -> bool:
        """Whether a stage was ended before, with whatever chunk results."""
        return stage in Manifest.read_stages(self.job.place.manifest, self.identity)

    def standing(self, stage: str, chunks: ChunkFiles) -> StageRecord | None:
        """The record of a stage whose files are there as it has left them; None where it is to be done."""
        record = Manifest.read_stages(self.job.place.manifest, self.identity).get(stage)
        if record is None or record.key != self.key(stage, chunks):
            return None
        return record if all(_has_sha256(self.work / name, digest) for name, digest in record.files.items()) else None

    def is_inferred(self) -> bool:
        """Whether all chunks are done, and their files there as they were left."""
        return not unfinished(self.plan, self.manifest(), self.storage())


@dataclass(frozen=True, slots=True)
class Inferred:
    """A planned scene whose chunks are done; iterates over their receipts in row order."""

    planned: PlannedScene
    seconds: float = 0.0
    """Duration of the inference."""

    @classmethod
    def of(cls, planned: PlannedScene, receipts: Iterable[Receipt]) -> Inferred:
        """Wait for the receipts of all chunks."""
        started = time.monotonic()
        for _ in receipts:
            pass
        return cls(planned, time.monotonic() - started)

    def __iter__(self) -> Iterator[Receipt]:
        """Receipts in row order."""
        receipts = Receipts(self.planned.manifest().chunks)
        return (receipts[index] for index in self.planned.plan.active if index in receipts)


def _has_sha256(path: Path, digest: str) -> bool:
    return path.is_file() and file_hash(path) == digest
