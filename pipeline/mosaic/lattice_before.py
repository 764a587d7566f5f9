"""What an earlier run over some scenes of a mosaic has left, and whether this one goes on from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from geoseg.documents import Json
from geoseg.models.ensemble import AnyModel
from pipeline.config.sections import Config
from pipeline.files.identity import RunIdentity
from pipeline.files.manifest import Manifest
from pipeline.files.run_folder import RunFolder
from pipeline.files.version import code_version
from pipeline.mosaic.lattice import Lattice
from pipeline.mosaic.scenes import PlacedScene
from pipeline.plan.engine_choice import Placement
from pipeline.segment.planned import SceneJob

__all__ = ["Layout", "grows"]

GROWS = {"scene", "grid", "mosaic", "area"}
"""What differs between a mosaic and one with more scenes."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How an earlier run over some of the scenes has laid out a mosaic; nothing where there was none."""

    lattice: Lattice | None = None
    chunk: int | None = None
    placement: Placement | None = None

    @classmethod
    def left_by(cls, job: SceneJob) -> Layout:
        """What the run that has left the folder of a job so has decided, as far as that holds for this one."""
        place, config, model = job.place, job.config, job.model
        earlier = RunIdentity.of(Manifest.read_identity(place.manifest))
        lattice = kept_lattice(place, config, model)
        if earlier is None or (earlier.config, earlier.model, earlier.code) != (
            config.chunk_hash(),
            model.sha256,
            code_version(),
        ):
            return cls(lattice)
        return cls(lattice, earlier.chunk, Placement.of(earlier))


def kept_lattice(place: RunFolder, config: Config, model: AnyModel) -> Lattice | None:
    """The lattice of an earlier run with these settings and this model: more scenes do not move it."""
    record = place.record()
    if record is None:
        return None
    identity = record.document.get("identity")
    if not isinstance(identity, Mapping) or (identity.get("config"), identity.get("model")) != (
        config.result_hash(),
        model.sha256,
    ):
        return None
    mosaic = record.document.get("mosaic")
    return Lattice.of(mosaic.get("lattice")) if isinstance(mosaic, Mapping) else None


def grows(place: RunFolder, identity: Mapping[str, Json], scenes: Sequence[PlacedScene]) -> bool:
    """Whether the folder holds a mosaic of some of these scenes, made in the same way."""
    record = place.record()
    if record is None or not set(record.differing(identity)) <= GROWS:
        return False
    before, now = (document.get("mosaic") for document in (record.document["identity"], identity))
    if not isinstance(before, Mapping) or not isinstance(now, Mapping):
        return False
    if any(before.get(key) != now.get(key) for key in ("lattice", "order", "combine", "area")):
        return False
    had = {(one.get("name"), one.get("fingerprint"), one.get("acquired")) for one in record.document.get("scenes", ())}
    return had <= {(scene.name, scene.fingerprint, scene.acquired) for scene in scenes}
