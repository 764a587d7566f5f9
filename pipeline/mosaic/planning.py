"""The first stage of a mosaic: its lattice, its scenes on it, and what it will take."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from geoseg.documents import Json
from geoseg.errors import ConfigError, SceneError
from geoseg.grid import Grid, ceil_div
from geoseg.inference.fixed_point import ONE
from geoseg.models.ensemble import AnyModel
from geoseg.scenes.scene import Scene
from geoseg.vectors.area_of_interest import AreaOfInterest
from geoseg.vectors.given_area import GivenArea
from geoseg.windows import Window
from pipeline.config.sections import Config
from pipeline.files.manifest import Manifest
from pipeline.files.version import code_version
from pipeline.mosaic.combine import MOST_SCENES
from pipeline.mosaic.cut import AROUND_PX, area_facts, areas_of, mosaic_area
from pipeline.mosaic.kept_looks import KeptLooks
from pipeline.mosaic.lattice import Lattice, lattice_of, natively
from pipeline.mosaic.lattice_before import Layout, grows
from pipeline.mosaic.scenes import Given, PlacedScene, base_of, in_area, named, refuse_mixed
from pipeline.mosaic.store import PlannedMosaic
from pipeline.mosaic.united import as_one, models_of_clouds
from pipeline.plan.domain import look_at
from pipeline.plan.engine_choice import Placement
from pipeline.plan.make import PREVIEW_PX, make_plan
from pipeline.plan.plan import Estimate, Plan
from pipeline.plan.result_layers import LAYERS, Layers, Thumbnail
from pipeline.plan.room import check_room
from pipeline.plan.value_settings import refuse_values
from pipeline.plan.within import chunks_in
from pipeline.publish.document import result_identity
from pipeline.segment.planned import SceneJob
from pipeline.segment.planning import formats_of
from pipeline.vectorize.scene import wanted_by

__all__ = ["NAME", "SceneSettings", "laid_out", "plan_mosaic", "plan_scene"]

NAME = "mosaic"
"""Of its folder."""
MOST = 2**16 - 2


@dataclass(frozen=True, slots=True)
class SceneSettings:
    """What the plans of all scenes of a mosaic have in common."""

    model: AnyModel
    config: Config
    lattice: Lattice
    chunk: int | None
    placement: Placement | None
    areas: tuple[GivenArea, ...] = ()
    """What the mosaic is cut to."""
    name: str = NAME
    """Of the mosaic."""


def plan_mosaic(job: SceneJob, given: Sequence[Given], lattice: Lattice | None = None) -> tuple[PlannedMosaic, SceneSettings]:
    """Lay the scenes on one lattice and decide how they are mapped; the mosaic's folder is held.

    Args:
        job: What is to be made.
        given: Its scenes, by name; see ``survey``.
        lattice: That of another mosaic that this one is to lie on.

    Raises:
        SceneError: A scene can't be read, or has no place on the lattice.
        ConfigError: The settings don't fit the model, or each other.
        OutputError: The folder holds other results, or there is no room.
    """
    started, config, place = time.monotonic(), job.config, job.place
    then = Layout.left_by(job)
    plan, scenes, common = laid_out(given, job, then if lattice is None else replace(then, lattice=lattice))
    planned = PlannedMosaic(job=job, plan=plan, lattice=common.lattice, scenes=scenes, order=config.mosaic.order)
    identity = result_identity(plan, config)
    found = place.finished(identity)
    if found is not None and (found.code is None or not config.run.overwrite):
        return replace(planned, finished=found), common
    if not config.run.overwrite and not grows(place, identity, scenes):
        place.refuse_other(identity, config)
    wanted_by(config.vector, plan)
    manifest = Manifest.open(place.manifest, plan.identity(config))
    if not manifest.resumed:
        place.clear_stage()
    done = sum(record["status"] == "done" for record in manifest.chunks.values())
    check_room(job.folder, plan, done)
    formats = formats_of(config.vector, plan)
    return replace(planned, formats=formats, done=done, seconds=time.monotonic() - started), common


def laid_out(
    given: Sequence[Given], job: SceneJob, then: Layout | None = None
) -> tuple[Plan, tuple[PlacedScene, ...], SceneSettings]:
    """The plan of a mosaic, its scenes by name, and what their plans have in common.

    Args:
        given: Its scenes, by name; see ``survey``.
        job: What is to be made.
        then: How it was made, to make it anew; None to go on where an earlier run was, if there was one.
    """
    config, model = job.config, job.model
    if len(given) > MOST:
        raise ConfigError(f"mosaic: {len(given):,} scenes; {MOST:,} is the most, so make several")
    areas = areas_of(config, job.ref.area)
    near, outside = in_area(given, areas)
    base, given = base_of(given, near, config), near
    refuse_mixed(given, config)
    then = then or Layout.left_by(job)
    lattice = then.lattice or lattice_of(base.ref, base.scene, config, model.card)
    scenes = tuple(PlacedScene.on(lattice, one, model.card.stride) for one in given)
    common = SceneSettings(
        model,
        config,
        lattice,
        then.chunk,
        then.placement,
        areas,
        job.ref.name,
    )
    first = plan_scene(scenes[0], common)
    common = replace(common, chunk=first.grid.chunk, placement=first.placement)
    plan = _mosaic_of(first, given, scenes, common)
    # Scenes that lie beyond this zone alone are in the map of another one.
    if outside and config.area.aoi is not None:
        where = "outside of the area of interest" + (" or of this zone" if config.mosaic.within is not None else "")
        plan = replace(plan, warnings=(*plan.warnings, f"{where}, and left out: {named(outside)}"))
    return plan, scenes, common


def plan_scene(scene: PlacedScene, common: SceneSettings, kept: Path | None = None) -> Plan:
    """The plan of one scene on the lattice.

    Args:
        scene: The scene.
        common: What the plans of all scenes have in common.
        kept: An ``.npz`` file in which what is measured in the scene is kept for later runs, or was.

    Raises:
        SceneError: It can't be used with this model, or is another than it was.
        ConfigError: The settings don't fit the model.
    """

    def place(opened: Scene) -> tuple[Scene, tuple[int, int], AreaOfInterest | None]:
        if opened.fingerprint != scene.fingerprint:
            raise SceneError(f"{opened.path}: changed while it was read; run again when it is complete")
        there = scene.laid(opened, common.lattice)
        return there, (scene.window.row_off, scene.window.col_off), mosaic_area(there, common.areas, grown=AROUND_PX)

    settings, look = natively(common.config, scene.ref), look_at if kept is None else KeptLooks(kept, _key(scene, common)).look
    plan = make_plan(scene.ref, common.model, settings, chunk=common.chunk, placement=common.placement, onto=place, look=look)
    refuse_values(plan.card, "mosaic", "map its scenes one by one, with geoseg segment without --mosaic")
    if plan.task != "semantic":
        raise ConfigError(
            f"mosaic: {plan.card.name} tells objects apart, and scenes are put together by classes only; use --task semantic"
        )
    shared: dict[str, Json] = {
        "lattice": common.lattice.document(),
        "origin": [scene.window.row_off, scene.window.col_off],
        "direct": scene.direct,
        **({"shares": ONE} if "shares" in dict(plan.layers) else {}),
    }
    stride = _stride(plan.grid.height, plan.grid.width)
    phase = scene.window.row_off, scene.window.col_off
    return replace(plan, shared=shared, thumbnail=Thumbnail(stride, plan.thumbnail.bands, plan.grid.scene, phase=phase))


def _key(scene: PlacedScene, common: SceneSettings) -> str:
    """sha256 of all that measurements in a scene depend on."""
    facts: list[Json] = [
        *(code_version(), scene.fingerprint, common.config.chunk_hash(), common.model.sha256, common.lattice.document()),
        *(list(astuple(scene.window)), scene.direct, [area.digest for area in common.areas]),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _mosaic_of(first: Plan, given: Sequence[Given], scenes: Sequence[PlacedScene], common: SceneSettings) -> Plan:
    """The plan of the mosaic itself; whatever all of its scenes have alike is that of the first."""
    images = [scene.image for scene in scenes]
    window = Window.between(
        min(image.row_off for image in images),
        max(image.row_stop for image in images),
        min(image.col_off for image in images),
        max(image.col_stop for image in images),
    )
    config, phase = common.config, (window.row_off, window.col_off)
    grid = replace(first.grid, height=window.height, width=window.width, phase=phase)
    whole = as_one(first.scene, given, common.lattice, window, common.name)
    area, active = mosaic_area(whole, common.areas), _active(grid, window, scenes)
    if area is not None:
        active = chunks_in(area, grid, active, first.task)
    clouded = any(one.scene.clouds is not None for one in given)
    # Clouds are told by files beside those of a scene.
    names: list[Json] = [[one.name, one.scene.acquired, *([one.scene.fingerprint] if clouded else [])] for one in given]
    shared: dict[str, Json] = {
        "lattice": common.lattice.document(),
        "origin": [window.row_off, window.col_off],
        "order": config.mosaic.order,
        "combine": config.mosaic.combine,
        "scenes": hashlib.sha256(json.dumps(names).encode()).hexdigest(),
        **area_facts(common.areas, config),
        **models_of_clouds(given),
    }
    resampled = [scene.name for scene in scenes if not scene.direct]
    notes = [f"resampled onto the pixels of the mosaic: {named(resampled)}"] if resampled else []
    layers = _layers(first, config, clouded=clouded)
    shown = grid.scene if area is None else area.window
    stride = max(_stride(*shown.shape), *(_stride(*scene.window.shape) for scene in scenes), 1)
    pixels = sum(scene.window.pixels for scene in scenes)
    return replace(
        first,
        scene=whole,
        grid=grid,
        layers=layers,
        active=active,
        area=area,
        thumbnail=Thumbnail(stride, first.thumbnail.bands, _from_stride(shown, phase, stride), phase=phase),
        estimate=Estimate(
            first.estimate.memory_bytes,
            int(1.5 * pixels) + _bytes_of_shares(first) * pixels + int(1.5 * window.pixels * len(active) / max(1, grid.n_chunks)),
            int(pixels * first.grid.waste),
        ),
        warnings=tuple(notes),
        shared=shared,
        sources=tuple(scene.document() for scene in scenes),
        domains=(),
    )


def _layers(first: Plan, config: Config, *, clouded: bool) -> Layers:
    """Those of the mosaic, of the plan of a scene: of means, probabilities in percent."""
    own = [layer for layer in first.layers if layer[0] not in {"coverage", "shares"}]
    if "shares" in dict(first.layers) and config.infer.probabilities:
        own.insert(len(LAYERS), ("probabilities", len(first.card.classes)))
    return (*own, *((("coverage", 1),) if clouded else ()), ("source", 1))


def _bytes_of_shares(plan: Plan) -> int:
    """Bytes of disk for the probabilities of a pixel of a scene, where they are averaged; noise in them does not compress."""
    return dict(plan.layers).get("shares", 0)


def _from_stride(window: Window, phase: tuple[int, int], stride: int) -> Window:
    """A window from the row and the column on that a preview shows, where it does not begin with the map."""
    row, col = (max(0, off - (at + off) % stride) for off, at in zip((window.row_off, window.col_off), phase, strict=True))
    return Window.between(row, window.row_stop, col, window.col_stop)


def _active(grid: Grid, window: Window, scenes: Sequence[PlacedScene]) -> tuple[int, ...]:
    """The chunks that scenes lie over.

    Raises:
        ConfigError: More scenes than can be numbered lie over one.
    """
    count: dict[int, int] = {}
    for scene in scenes:
        common = scene.window & window
        assert common is not None
        own = Window.at((common.row_off - window.row_off, common.col_off - window.col_off), common.shape)
        for index in grid.chunks_touched(own):
            count[index] = count.get(index, 0) + 1
    most = max(count.values(), default=0)
    if most > MOST_SCENES:
        raise ConfigError(
            f"mosaic: {most} scenes lie over one chunk, and {MOST_SCENES} may; use a smaller --chunk, or fewer scenes"
        )
    return tuple(sorted(count))


def _stride(height: int, width: int) -> int:
    """Every how manieth pixel a preview has: a power of two, so that those of scenes fit together."""
    wanted = ceil_div(max(height, width), PREVIEW_PX)
    return 1 << max(0, wanted - 1).bit_length()
