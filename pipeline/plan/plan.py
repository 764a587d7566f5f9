"""Plan: what a scene will take, before anything is computed. A value that can be printed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from geoseg.codes import VOID
from geoseg.dates.radiometry import Lines
from geoseg.dates.registration import Registration
from geoseg.dates.series import SeriesFacts, series_card
from geoseg.dates.stack import at_date, open_reader
from geoseg.errors import ConfigError, ModelError, SceneError
from geoseg.formats.styles import ClassStyle, class_styles
from geoseg.grid import Grid
from geoseg.inference.engine import Batch, Engine, EngineName, choose_engine, open_engine
from geoseg.inference.values import Decision, Normalization
from geoseg.models.card import Card
from geoseg.models.ensemble import AnyModel
from geoseg.models.folder import Model
from geoseg.polygons.features import Change
from geoseg.scenes.bands import ValueMap, choose_bands
from geoseg.scenes.scene import OpenOptions, Scene, open_scene
from geoseg.scenes.sources import SceneRef
from pipeline.config.sections import Config
from pipeline.files.version import code_version
from pipeline.infer.chunk_store import LAYERS, Layers, Thumbnail
from pipeline.plan.dates import changes_of, dates_of, facts_of, open_dates
from pipeline.plan.domain import DomainCheck, check_domain, look_at, refuse_far, unknown_resolution
from pipeline.plan.memory import (
    BASE_BYTES,
    chunk_bytes,
    forward_bytes,
    memory_limit,
    pixel_bytes_of,
    process_budget,
    processes,
    read_threads,
    shrink_to,
)
from pipeline.plan.rescale import rescale_of, values_of

__all__ = [
    "Estimate",
    "Member",
    "Plan",
    "estimate_seconds",
    "make_plan",
    "open_member",
    "open_options",
    "scene_options",
]

HALO, PREVIEW_PX = 64, 1024
MAX_IN_FLIGHT = 4
VOID_COLOR = "#4d4d4d"
OBJECT_CONTEXT = 32
"""Pixels around objects that their tiles see at least, where the halo follows from the size of the objects."""
Task = Literal["semantic", "instances", "panoptic"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run will need; rough."""

    memory_bytes: int
    """Peak memory of the process."""
    disk_bytes: int
    """Chunk results and outputs together."""
    computed_pixels: int
    """Pixels that pass through the network."""


@dataclass(frozen=True, slots=True)
class Member:
    """A model of a plan; several are an ensemble."""

    path: str
    """Its folder."""
    sha256: str
    """Its identity."""
    card: Card
    """What it takes and gives."""
    values: ValueMap
    """How the scene's values become those that it takes."""

    @property
    def normalizations(self) -> list[Normalization]:
        """How pixels become its input; by date, where it is run on each."""
        size = len(self.card.bands)
        starts = range(0, len(self.values.scale), size)
        parts = [
            replace(self.values, scale=self.values.scale[i : i + size], offset=self.values.offset[i : i + size]) for i in starts
        ]
        return [Normalization.of(self.card, part) for part in parts]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that the stages need to know of one scene."""

    scene: Scene
    members: tuple[Member, ...]
    """The model, or all of an ensemble."""
    model_sha256: str
    """Identity of the model, or of the ensemble."""
    card: Card
    """That of the model, or what holds for all of an ensemble."""
    grid: Grid
    bands: tuple[int, ...]
    """Indices into the scene's bands, in the model's order."""
    engine: EngineName
    device: str
    threads: int
    batch: int
    augment: bool
    mask_bad_blocks: bool
    task: Task
    """Whether classes are mapped, objects told apart, or both in one map."""
    layers: Layers
    """What every chunk gives."""
    active: tuple[int, ...]
    """The chunks that may hold data."""
    read_threads: int
    """Threads that decode blocks at once in a process."""
    tile_seconds: float
    """Longest time for a tile of 1024 pixels a side."""
    in_flight: int
    """Chunks that are worked on at once in a process."""
    cache_bytes: int
    """Decoded blocks that the reader may keep."""
    chunk_bytes: int
    """Memory of one chunk that is worked on."""
    fixed_bytes: int
    """Memory of a process beside its chunks: libraries, network, cache."""
    budget_bytes: int
    """Memory that all processes of this machine may use together."""
    thumbnail: Thumbnail
    estimate: Estimate
    warnings: tuple[str, ...]
    series: SeriesFacts | None = None
    """How a model of single dates is run over several; None where it takes what there is at once."""
    changes: Mapping[int, Change] = field(default_factory=dict)
    """Of a map of changes, what its classes say."""
    registrations: tuple[Registration, ...] = ()
    """How far the second date and later ones lie off the first."""
    domains: tuple[DomainCheck, ...] = ()
    """By member, how far the scene lies from what it was made for."""

    @property
    def domain(self) -> DomainCheck | None:
        """That of the member that it is farthest from."""
        return max(self.domains, key=lambda one: (len(one.reasons), one.score or 0.0), default=None)

    @property
    def normalization(self) -> Normalization:
        """How pixels become the network's input; that of the first member."""
        return self.members[0].normalizations[0]

    @property
    def styles(self) -> tuple[ClassStyle, ...]:
        """The codes of the class raster: how they are named and shown."""
        void = [(VOID, "void", VOID_COLOR)] if self.task == "panoptic" else []
        return class_styles([*((c.value, c.name, c.color) for c in self.card.classes), *void])

    def identity(self, config: Config) -> dict[str, Any]:
        """What the chunk results depend on, and the chunks that they are stored by."""
        return {
            "scene": self.scene.fingerprint,
            "model": self.model_sha256,
            "config": config.chunk_hash(),
            "code": code_version(),
            "engine": self.engine,
            "grid": [self.grid.height, self.grid.width, self.grid.tile, self.grid.margin, self.grid.stride, self.grid.blend],
            "chunk": self.grid.chunk,
            **({} if not self.scene.dates else {"dates": [date.acquired for date in self.scene.dates]}),
        }

    def describe(self) -> dict[str, Any]:
        """The plan in the order that one reads it."""
        grid = self.grid
        return {
            "scene": self.scene.path,
            "size": f"{grid.height} x {grid.width} px, {len(self.scene.bands)} bands of {self.scene.dtype}, {self.scene.georeference.name}",
            "model": f"{self.card.name} {self.card.version} ({self.model_sha256[:12]})",
            "bands": ", ".join(
                f"{name}={self.scene.bands[i].label}" for name, i in zip(self.card.bands, self.bands, strict=True)
            ),
            **({} if self.domain is None else {"domain": self.domain.title}),
            "engine": f"{self.engine} on {self.device}",
            "chunks": f"{grid.n_chunks} ({grid.n_chunks - len(self.active)} empty), cores of {grid.rows.per_chunk * grid.step} px",
            "tiles": f"{grid.n_tiles} of {grid.tile} px, halo {grid.margin} px{', blended' if grid.blend else ''}: {grid.waste:.2f}x the pixels are computed",
            "task": self.task,
            "layers": ", ".join(name for name, _ in self.layers),
            "batch": self.batch or "as the device likes",
            "in flight": f"{self.in_flight} chunks",
            "memory": f"{self.estimate.memory_bytes / 1e9:.1f} GB",
            "disk": f"{self.estimate.disk_bytes / 1e9:.2f} GB",
        }


def open_options(config: Config, card: Card) -> OpenOptions:
    """How scenes are opened under a configuration."""
    if config.scene.resample and card.gsd_m is None:
        raise ConfigError("scene.resample: the model's card gives no pixel size (gsd_m) to resample to")
    options = scene_options(config, card.gsd_m if config.scene.resample else None)
    return replace(options, memory=memory_limit(config, forward_bytes(card, config)))


def scene_options(config: Config, resample: float | None = None) -> OpenOptions:
    """How scenes are opened under a configuration, whatever the model; perhaps warped to a pixel size in metres."""
    scene = config.scene
    return OpenOptions(
        allow_vrt=scene.allow_vrt, assume_crs=scene.assume_crs, pixel_coords=scene.pixel_coords, gcps=scene.gcps,
        target_crs=scene.target_crs, resample=resample, ignore_nodata=scene.ignore_nodata,
        nodata=scene.nodata_values, max_pixels=scene.max_pixels, memory=memory_limit(config),
    )  # fmt: skip


def make_plan(
    ref: SceneRef, model: AnyModel, config: Config, *, chunk: int | None = None, engine: EngineName | None = None
) -> Plan:
    """Open a scene, fit the model to it, and lay out its chunks.

    Args:
        ref: The scene.
        model: The model, or an ensemble.
        config: The settings.
        chunk: Side of a chunk that an earlier run has used, instead of the configured one.
        engine: The engine that an earlier run has used, instead of choosing one.

    Raises:
        SceneError: The scene can't be used with this model.
        ConfigError: The settings don't fit the model.
    """
    card = model.card
    options, opened, series = open_options(config, card), None, None
    changes: dict[int, Change] = {}
    if card.damage is not None:
        raise ConfigError(f"model: {card.name} grades buildings one by one; give it to geoseg damage")
    if not ref.later and dates_of(card) > 1:
        raise ConfigError(
            f"model: {card.name} compares {dates_of(card)} dates; give them to geoseg deforestation, in their order"
        )
    if ref.later:
        opened = open_dates(ref, card, options, config.dates, config.scene.bands)
        scene, bands = opened.scene, opened.bands
        series = facts_of(ref, card, config.dates, [date.acquired for date in scene.dates])
        if series is not None:
            card, changes = series_card(card, series)
        else:
            changes = changes_of(card, [date.acquired for date in scene.dates])
        notes = [*scene.warnings, *opened.notes]
    else:
        scene = open_scene(ref.paths, ref.name, options, band_names=ref.band_names)
        bands, band_notes = choose_bands(scene, card.bands, config.scene.bands)
        notes = [*scene.warnings, *band_notes]
    if config.run.date is not None and scene.acquired is None:
        scene = replace(scene, acquired=config.run.date)
    if config.run.strict and any("never written" in note for note in notes):
        raise SceneError(f"{scene.path}: {next(n for n in notes if 'never written' in n)}; --strict takes that as an error")
    first = model.members[0].card
    looks = look_at(scene, bands, len(first.bands), mask_bad_blocks=config.scene.on_bad_block == "mask")
    rescale = rescale_of(scene, bands, config.scene.rescale, first, looks)
    members = tuple(_member(one, scene, bands, rescale.ranges, opened.lines if opened else ()) for one in model.members)
    notes += [*rescale.notes, *(member.values.note for member in members if member.values.note)]
    domains = tuple(check_domain(scene, looks, one.card, one.values, bands) for one in members)
    if config.run.strict:
        refuse_far(scene, domains)
    notes += [*unknown_resolution(scene, card), *(reason for one in domains for reason in one.reasons)]
    chosen = engine or _engine(model, config.infer.engine)
    task = _task(config, model) if opened is None else "semantic"
    layers = _layers(config, model, card)
    budget = process_budget(config)
    grid = _grid(scene, card, config, chunk or config.grid.chunk, task)
    pixel_bytes = pixel_bytes_of(scene, bands) + 2 * sum(count for _, count in layers[len(LAYERS) :])
    if chunk is None:
        grid = shrink_to(grid, budget, pixel_bytes, card)
    active = _active_chunks(scene, bands, grid)
    bytes_a_chunk = chunk_bytes(grid, pixel_bytes, card)
    forward = forward_bytes(card, config)
    spare = budget - BASE_BYTES - forward
    threads, reading = read_threads(scene, memory_limit(config, forward).spare)
    spare -= reading
    in_flight = int(np.clip(spare * 0.75 // bytes_a_chunk, 1, MAX_IN_FLIGHT))
    cache = int(np.clip(spare - in_flight * bytes_a_chunk, 32 << 20, 512 << 20))
    return Plan(
        scene=scene, members=members, model_sha256=model.sha256, card=card, grid=grid, bands=bands, task=task, layers=layers,
        engine=chosen, device=config.infer.device if chosen == "torch" else "cpu", threads=config.infer.threads,
        batch=config.infer.batch, augment=config.infer.tta == "d4", mask_bad_blocks=config.scene.on_bad_block == "mask",
        read_threads=threads, tile_seconds=config.infer.tile_seconds, active=active, in_flight=min(in_flight, max(1, len(active))), cache_bytes=cache, chunk_bytes=bytes_a_chunk,
        fixed_bytes=BASE_BYTES + forward + cache + reading, budget_bytes=budget * processes(config), thumbnail=_thumbnail(scene, card),
        estimate=_estimate(grid, active, in_flight * bytes_a_chunk + forward + cache + BASE_BYTES + reading),
        warnings=tuple(dict.fromkeys(notes)), series=series, changes=changes,
        registrations=opened.registrations if opened else (), domains=domains,
    )  # fmt: skip


def _member(
    model: Model,
    scene: Scene,
    bands: tuple[int, ...],
    rescale: Sequence[tuple[float, float]] | None,
    lines: Sequence[Lines | None],
) -> Member:
    return Member(str(model.path), model.sha256, model.card, values_of(scene, bands, model.card, rescale, lines))


def open_member(plan: Plan, member: Member, *, batch: int = 0) -> Engine:
    """The engine of a member of a plan.

    Raises:
        ModelError: The model is not the one that was planned with.
    """
    from geoseg.models.folder import load_model

    model = load_model(member.path)
    if model.sha256 != member.sha256:
        raise ModelError(f"{member.path}: the model changed since the plan was made; run again")

    def open_one(normalization: Normalization) -> Engine:
        return open_engine(
            plan.engine,
            model,
            normalization,
            threads=plan.threads,
            batch=batch,
            device=plan.device,
            tile_seconds=plan.tile_seconds,
        )

    if plan.series is None:
        (normalization,) = member.normalizations
        return open_one(normalization)
    from geoseg.inference.series import SeriesEngine

    return SeriesEngine(open_one, member.normalizations, Decision.of(member.card), plan.series)


def _engine(model: AnyModel, wanted: str) -> EngineName:
    """One engine for all members: torch where one of them needs it."""
    found = {choose_engine(member, wanted) for member in model.members}
    if len(found) == 1:
        return found.pop()
    return next(choose_engine(member, "torch") for member in model.members)


def _task(config: Config, model: AnyModel) -> Task:
    """What is to be done; objects where the model tells them apart and nothing else was asked for."""
    wanted = config.infer.task
    knows = model.card.instances is not None
    if wanted in ("instances", "panoptic") and not knows:
        raise ConfigError(f"infer.task: {model.card.name} knows classes only, and tells no objects apart; use --task semantic")
    if wanted == "semantic" or not knows:
        if config.vector.right_angles:
            raise ConfigError(f"vector.right_angles: is for objects, and {model.card.name} maps classes here; leave it out")
        return "semantic"
    for key, asked in (
        ("infer.tta", config.infer.tta != "none"), ("infer.probabilities", config.infer.probabilities),
        ("infer.uncertainty", config.infer.uncertainty), ("vector.simplify", config.vector.simplify > 0),
        ("vector.smooth", config.vector.smooth > 0),
    ):  # fmt: skip
        if asked:
            raise ConfigError(f"{key}: is for classes, not for objects; leave it out, or use --task semantic")
    if len(model.members) > 1:
        raise ConfigError(
            "infer.task: several models decide on classes together, not on objects; give one --model, or --task semantic"
        )
    if wanted != "panoptic":
        return "instances"
    if config.vector.right_angles:
        raise ConfigError(
            "vector.right_angles: would move objects over what lies around them; leave it out, or use --task instances"
        )
    if any(c.value == VOID for c in model.card.classes):
        raise ConfigError(f"infer.task: panoptic maps need code {VOID} for what belongs to no segment; {model.card.name} uses it")
    return "panoptic"


def _layers(config: Config, model: AnyModel, card: Card) -> Layers:
    layers = list(LAYERS)
    if config.infer.probabilities:
        layers.append(("probabilities", len(card.classes)))
    if config.infer.uncertainty:
        if config.infer.tta == "none" and len(model.members) == 1:
            raise ConfigError(
                "infer.uncertainty: one network on one image has nobody to disagree with; add --tta d4, or give several --model"
            )
        layers.append(("uncertainty", 1))
    return tuple(layers)


def _grid(scene: Scene, card: Card, config: Config, chunk: int, task: Task) -> Grid:
    tile, halo, blend = config.grid.tile, config.grid.halo, card.global_context and task == "semantic"
    if tile % card.stride:
        near = max(card.stride, round(tile / card.stride) * card.stride)
        raise ConfigError(f"grid.tile: {tile} is not a multiple of the network's stride {card.stride}; use {near}")
    if halo == "exact":
        if card.exact_halo is None:
            raise ConfigError(
                f"grid.halo: exact: {card.name} has global context, so no halo is enough; leave it out, and tiles are blended"
            )
        halo = card.exact_halo
    elif halo is None and task != "semantic":
        halo = _halo_of_objects(card, tile)
    elif halo is None:
        halo = tile // 4 // card.stride * card.stride if blend else min(HALO, (tile - card.stride) // 2)
    return Grid(scene.height, scene.width, tile=tile, halo=int(halo), stride=card.stride, chunk=chunk, blend=blend)


def _halo_of_objects(card: Card, tile: int) -> int:
    """Half of the largest object and some context: tiles then overlap by more than such an object."""
    assert card.instances is not None
    wanted = max(HALO, -(-card.instances.largest_px // 2) + OBJECT_CONTEXT)
    return min(-(-wanted // card.stride) * card.stride, (tile // 3) // card.stride * card.stride)


def _active_chunks(scene: Scene, bands: tuple[int, ...], grid: Grid) -> tuple[int, ...]:
    with open_reader(scene, bands, threads=1) as reader:
        return tuple(i for i in range(grid.n_chunks) if not reader.is_empty(grid.chunk_core(i)))


def _thumbnail(scene: Scene, card: Card) -> Thumbnail:
    stride = max(1, -(-max(scene.height, scene.width) // PREVIEW_PX))
    # Of several dates, the last one is shown.
    colors = [at_date(name, len(scene.dates) - 1) if scene.dates else name for name in ("red", "green", "blue")]
    if set(colors) <= set(card.bands):
        return Thumbnail(stride, tuple(card.bands.index(name) for name in colors))
    return Thumbnail(stride, tuple(range(3)) if len(card.bands) >= 3 else (0,))


def _estimate(grid: Grid, active: tuple[int, ...], memory: int) -> Estimate:
    share = len(active) / max(1, grid.n_chunks)
    pixels = grid.height * grid.width * share
    return Estimate(int(memory), int(pixels * 2 * (0.15 + 0.6)), int(pixels * grid.waste))


def estimate_seconds(plan: Plan) -> float:
    """Seconds that the network will take, from timing one tile of it here and now."""
    engines = [open_member(plan, member) for member in plan.members]
    rows, cols = (min(plan.grid.tile, extent) for extent in plan.grid.extent)
    flags = len(plan.scene.dates) if plan.scene.date_flags else 0
    data = np.zeros((len(plan.bands) + flags, rows, cols), plan.scene.dtype)
    batch = Batch([data], [np.ones((rows, cols), np.bool_)], (rows, cols), [(slice(0, rows), slice(0, cols))])
    for engine in engines:
        engine.scores(batch)
    start = time.perf_counter()
    for engine in engines:
        engine.scores(batch)
    per_pixel = (time.perf_counter() - start) / (rows * cols)
    return per_pixel * plan.estimate.computed_pixels * (8 if plan.augment else 1)
