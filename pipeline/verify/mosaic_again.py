"""A mosaic computed anew: the chunks of its scenes that lie under a chunk, and these combined."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from geoseg.errors import GeosegError
from geoseg.scenes.sources import SceneRef
from geoseg.windows import Window
from pipeline.infer.chunk import ChunkWorker
from pipeline.infer.receipt import Receipt
from pipeline.infer.storage import open_storage
from pipeline.mosaic.combining import CombineWorkers, Recipe, on_lattice
from pipeline.mosaic.lattice import Lattice
from pipeline.mosaic.lattice_before import Layout
from pipeline.mosaic.planning import SceneSettings, laid_out, plan_scene
from pipeline.mosaic.results import SceneResult
from pipeline.mosaic.scenes import PlacedScene, in_order, survey
from pipeline.mosaic.store import MosaicStore, PlannedMosaic
from pipeline.plan.engine_choice import Placement
from pipeline.plan.plan import Plan
from pipeline.plan.result_layers import LayerName
from pipeline.publish.chunk_list import ChunkLine, ChunkList
from pipeline.segment.planned import SceneJob
from pipeline.verify.again import Then, Told, refuse_others
from pipeline.verify.run import VerifiedFolder

__all__ = ["MosaicAgain"]


@dataclass(frozen=True, slots=True)
class MosaicAgain:
    """A mosaic that can be computed anew."""

    then: Then
    planned: PlannedMosaic
    common: SceneSettings

    @classmethod
    def of(cls, found: VerifiedFolder, chunks: ChunkList, sources: Mapping[str, SceneRef], models: Sequence[str]) -> MosaicAgain:
        """Lay it out as it was laid out.

        Raises:
            SceneError: A scene can't be read, or is another by now.
            ModelError: The model is not there, or is another by now.
        """
        then = Then.of(found, chunks, {}, models)
        own, told = then.identity, found.document["mosaic"]
        mapped = _mapped(found)
        refs = [replace(sources.get(ref.name, ref), name=ref.name) for ref in then.ref.later if ref.name in mapped]
        given = survey(refs, then.config, then.model.card)
        for one in given:
            if one.scene.fingerprint != mapped[one.name]:
                raise GeosegError(
                    f"{one.scene.path}: has changed since it was mapped; a scene at another place is given by --source"
                )
        lattice = Lattice.of(told.get("lattice")) if isinstance(told, Mapping) else None
        folder = found.folder.resolve()
        job = SceneJob(replace(then.ref, name=folder.name), then.model, then.config, folder, folder.parent)
        plan, scenes, common = laid_out(given, job, Layout(lattice, own.chunk, Placement.of(own)))
        refuse_others(plan, then.config, own)
        if dict(plan.shared) != told:
            raise GeosegError("this version of geoseg understands its settings otherwise (mosaic)")
        order = then.config.mosaic.order
        return cls(then, PlannedMosaic(job=job, plan=plan, lattice=common.lattice, scenes=scenes, order=order), common)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is other than it was."""
        return self.then.notes

    def compare(self, lines: Sequence[ChunkLine], told: Told, on_chunk: Callable[[], None]) -> None:
        """Compute chunks anew, of scenes and of them the mosaic's, and compare these with what was published."""
        plan, order = self.planned.plan, self.planned.order
        windows = [on_lattice(plan.grid, line.number) for line in lines]
        with tempfile.TemporaryDirectory(prefix="geoseg-verify-") as folder:
            results = {
                scene.name: self._computed(scene, plan_scene(scene, self.common), windows, Path(folder) / f"{number}")
                for number, scene in enumerate(self.planned.scenes)
                if any(scene.window & window is not None for window in windows)
            }
            ordered = [results[scene.name] for scene in in_order(self.planned.scenes, order) if scene.name in results]
            storage = open_storage(str(Path(folder) / "combined"))
            workers = CombineWorkers(Recipe(self.planned.lattice, ordered, self.then.config.mosaic, None), plan, storage)
            store, layers = MosaicStore(self.planned, storage), self.then.published(dict(plan.layers))
            for line in lines:
                receipt = workers.run(line.number)
                faults = [] if receipt.content == line.sha256 else ["its pixels are others"]
                faults += [f"{name}.tif holds others there" for name in layers if not self._holds(store, name, line, receipt)]
                self.then.judge(line, receipt.machine, faults, told)
                on_chunk()
            workers.close(interrupted=False)

    def _holds(self, store: MosaicStore, name: LayerName, line: ChunkLine, receipt: Receipt) -> bool:
        filled = {line.number} if receipt.files else set[int]()
        count = dict(self.planned.plan.layers)[name]
        return all(self.then.holds(name, line, store.reader(name, filled, band)(line.window), band) for band in range(count))

    @staticmethod
    def _computed(scene: PlacedScene, plan: Plan, windows: Sequence[Window], folder: Path) -> SceneResult:
        """The chunks of a scene that windows of the lattice touch."""
        folder.mkdir()
        storage = open_storage(str(folder))
        empty = SceneResult.of(scene, plan, storage, ())
        wanted = sorted({index for window in windows for index in empty.touched(window)} & set(plan.active))
        with (
            closing(ChunkWorker(plan, storage, expect=wanted)) as worker,
            ThreadPoolExecutor(plan.in_flight, thread_name_prefix="geoseg-verify") as pool,
        ):
            return SceneResult.of(scene, plan, storage, pool.map(worker.run, wanted))


def _mapped(found: VerifiedFolder) -> dict[str, str]:
    """Fingerprints of the scenes that a mosaic was made of, by their names."""
    scenes = found.document.get("scenes")
    return {str(one["name"]): str(one["fingerprint"]) for one in scenes} if isinstance(scenes, list) else {}
