"""The first stage of a scene: open it, and decide how it is mapped."""

from __future__ import annotations

import time
from functools import partial

from pipeline.config.sections import VectorConfig
from pipeline.files.identity import RunIdentity
from pipeline.files.manifest import Manifest
from pipeline.files.version import code_version
from pipeline.infer.choose import is_clustered
from pipeline.plan.domain import look_at
from pipeline.plan.engine_choice import Placement
from pipeline.plan.make import make_plan
from pipeline.plan.plan import Plan
from pipeline.plan.room import check_room
from pipeline.publish.document import result_identity
from pipeline.segment.placed import keep_placement, kept_placement
from pipeline.segment.planned import PlannedScene, SceneJob
from pipeline.vectorize.scene import wanted_by
from pipeline.vectorize.traced import fitting_formats

__all__ = ["formats_of", "plan"]


def plan(job: SceneJob) -> PlannedScene:
    """Open the scene and decide how it is mapped; the scene's folder is held.

    Raises:
        SceneError: The scene can't be read or placed.
        ConfigError: The settings don't fit the model.
        OutputError: The folder holds other results, or there is no room.
    """
    started, config, place = time.monotonic(), job.config, job.place
    plan = _plan(job)
    identity = result_identity(plan, config)
    found = place.finished(identity)
    if found is not None and (found.code is None or not config.run.overwrite):
        return PlannedScene(job=job, plan=plan, finished=found)
    if not config.run.overwrite:
        place.refuse_other(identity, config)
    formats = formats_of(config.vector, plan)
    wanted_by(config.vector, plan)
    manifest = Manifest.open(place.manifest, plan.identity(config))
    if not manifest.resumed:
        place.clear_stage()
    done = sum(record["status"] == "done" for record in manifest.chunks.values())
    check_room(job.folder, plan, done)
    return PlannedScene(job=job, plan=plan, formats=formats, done=done, seconds=time.monotonic() - started)


def _plan(job: SceneJob) -> Plan:
    """The plan; a run that goes on keeps the chunks and the placement of the one before, a further scene that of its folder."""
    look = partial(look_at, hand_on=not is_clustered(job.config))
    earlier = RunIdentity.of(Manifest.read_identity(job.place.manifest))
    same = (job.config.chunk_hash(), job.model.sha256, code_version())
    if earlier is not None and (earlier.config, earlier.model, earlier.code) == same:
        return make_plan(job.ref, job.model, job.config, chunk=earlier.chunk, placement=Placement.of(earlier), look=look)
    plan = make_plan(job.ref, job.model, job.config, placement=kept_placement(job), scenes=job.scenes, look=look)
    if not plan.placement.why:
        return plan
    kept = keep_placement(job, plan.placement)
    return plan if kept == plan.placement else make_plan(job.ref, job.model, job.config, placement=kept, look=look)


def formats_of(vector: VectorConfig, plan: Plan) -> tuple[str, ...]:
    """The formats asked for; none of a map of values, which has no polygons.

    Raises:
        GeoreferenceError: One can't hold pixel coordinates.
    """
    return () if plan.quantity is not None else fitting_formats(vector, plan.scene.path, plan.scene.georeference)
