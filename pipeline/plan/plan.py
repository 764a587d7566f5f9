"""Plan: what a scene will take, before anything is computed. A value that can be printed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from geoseg.codes import VOID
from geoseg.dates.registration import Registration
from geoseg.dates.series import SeriesFacts
from geoseg.dialect import number_of
from geoseg.documents import Json
from geoseg.errors import ModelError
from geoseg.formats.styles import ClassStyle, class_styles
from geoseg.grid import Grid
from geoseg.inference.choice import open_engine
from geoseg.inference.decision import Decision
from geoseg.inference.engine import CPU, Engine, EngineName, Execution, TileBatch
from geoseg.inference.normalization import Normalization
from geoseg.models.card import Card
from geoseg.models.card_values import Quantity
from geoseg.polygons.features import Change
from geoseg.scenes.bands.value_map import ValueMap
from geoseg.scenes.clouds import CloudNetwork
from geoseg.scenes.scene import Scene
from geoseg.vectors.area_of_interest import AreaOfInterest
from pipeline.config.sections import Config
from pipeline.files.version import code_version
from pipeline.plan.domain import DomainCheck
from pipeline.plan.engine_choice import Placement
from pipeline.plan.result_layers import Layers, Thumbnail

__all__ = ["Estimate", "Member", "Plan", "estimate_seconds", "open_member"]

VOID_COLOR = "#4d4d4d"
Task = Literal["semantic", "instances", "panoptic"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """Estimate of what a run will need; rough."""

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
        """Normalization of its input; by date, where it is run on each."""
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
    placement: Placement
    """Where and how the network is run."""
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
    tail_bytes: int
    """Memory for the stages behind the chunks, which run beside them; 0 where they wait for the last one."""
    budget_bytes: int
    """Memory that all processes of this machine may use together for chunks."""
    thumbnail: Thumbnail
    estimate: Estimate
    warnings: tuple[str, ...]
    series: SeriesFacts | None = None
    """How a model of single dates is run over several; None where it takes what there is at once."""
    changes: Mapping[int, Change] = field(default_factory=dict)
    """Of a map of changes, what its classes say."""
    registrations: tuple[Registration, ...] = ()
    """How far the second date and later ones lie off the first."""
    shared: Mapping[str, Json] = field(default_factory=dict)
    """Of a mosaic and of its scenes, what their results depend on beside themselves: lattice, place, order."""
    sources: tuple[Mapping[str, Json], ...] = ()
    """Of a mosaic, its scenes, by their numbers in ``source.tif``."""
    domains: tuple[DomainCheck, ...] = ()
    """By member, how far the scene lies from what it was made for."""
    area: AreaOfInterest | None = None
    """What is mapped of the scene; None for all of it."""
    exact_cut: bool = False
    """Whether polygons end at the exact line of the area."""

    @property
    def engine(self) -> EngineName:
        """What runs the network."""
        return self.placement.engine

    @property
    def domain(self) -> DomainCheck | None:
        """That of the member that it is farthest from."""
        return max(self.domains, key=lambda one: (len(one.reasons), one.score or 0.0), default=None)

    @property
    def normalization(self) -> Normalization:
        """Normalization of the network's input; that of the first member."""
        return self.members[0].normalizations[0]

    @property
    def quantity(self) -> Quantity | None:
        """What is regressed; None where classes are mapped."""
        return self.card.quantity

    @property
    def styles(self) -> tuple[ClassStyle, ...]:
        """The codes of the class raster: how they are named and shown."""
        void = [(VOID, "void", VOID_COLOR)] if self.task == "panoptic" else []
        return class_styles([*((c.value, c.name, c.color) for c in self.card.classes), *void])

    @property
    def cloud_models(self) -> tuple[str, ...]:
        """Identities of the models that say what hides the ground."""
        return tuple(dict.fromkeys(found.identity for found in self.scene.every_clouds if found.identity is not None))

    @property
    def networks(self) -> dict[str, str]:
        """Folders of all models that are run, by their sha256: the members, and those that map clouds."""
        sources = (clouds.source for clouds in self.scene.every_clouds)
        clouded = {source.sha256: source.path for source in sources if isinstance(source, CloudNetwork)}
        return {member.sha256: member.path for member in self.members} | clouded

    def identity(self, config: Config) -> dict[str, Json]:
        """The facts that the chunk results depend on, and the chunks that they are stored by; see ``RunIdentity``."""
        return {
            "scene": self.scene.fingerprint,
            "model": self.model_sha256,
            "config": config.chunk_hash(),
            "code": code_version(),
            "engine": self.engine,
            "grid": [
                *(self.grid.height, self.grid.width, self.grid.tile, self.grid.margin, self.grid.stride, self.grid.blend),
                *((True,) if self.grid.one_shape else ()),
            ],
            "chunk": self.grid.chunk,
            **({} if self.area is None else {"area": self.area.digest}),
            **({"compiled": True} if self.placement.compiled else {}),
            **({"provider": self.placement.provider} if self.placement.provider != CPU else {}),
            **({} if not self.shared else {"mosaic": dict(self.shared)}),
            **({} if not self.scene.dates else {"dates": [date.acquired for date in self.scene.dates]}),
            **({} if not self.cloud_models else {"clouds": list(self.cloud_models)}),
        }

    def describe(self) -> dict[str, str | int]:
        """The plan in the order that one reads it."""
        grid = self.grid
        return {
            "scene": f"{number_of(len(self.sources), 'scene')} as one" if self.sources else self.scene.path,
            "size": f"{grid.height} x {grid.width} px, {len(self.scene.bands)} bands of {self.scene.dtype}, "
            f"{self.scene.georeference.name}",
            "model": f"{self.card.name} {self.card.version} ({self.model_sha256[:12]})",
            "bands": ", ".join(
                f"{name}={self.scene.bands[i].label}" for name, i in zip(self.card.bands, self.bands, strict=True)
            ),
            **({} if self.domain is None else {"domain": self.domain.title}),
            "engine": f"{self.engine} on {self.device}{'; ' if self.placement.why else ''}{self.placement.why}",
            **({} if self.area is None else {"area": f"{self.area.pixels:,} of {grid.scene.pixels:,} px"}),
            "chunks": f"{grid.n_chunks} ({grid.n_chunks - len(self.active)} empty), cores of {grid.rows.per_chunk * grid.step} "
            "px",
            "tiles": f"{grid.n_tiles} of {grid.tile} px, halo {grid.margin} px{', blended' if grid.blend else ''}: "
            f"{grid.waste:.2f}x the pixels are computed",
            "task": self.task if self.quantity is None else "values",
            "layers": ", ".join(name for name, _ in self.layers),
            "batch": self.batch or "as the device likes",
            "in flight": number_of(self.in_flight, "chunk"),
            "memory": f"{self.estimate.memory_bytes / 1e9:.1f} GB",
            "disk": f"{self.estimate.disk_bytes / 1e9:.2f} GB",
        }


def open_member(plan: Plan, member: Member, *, batch: int = 0) -> Engine:
    """The engine of a member of a plan.

    Raises:
        ModelError: The model is not the one that was planned with.
    """
    from geoseg.models.model_folder import load_model

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
            execution=Execution(plan.placement.compiled, plan.placement.provider),
        )

    if plan.series is None:
        (normalization,) = member.normalizations
        return open_one(normalization)
    from geoseg.inference.series import SeriesEngine

    return SeriesEngine(open_one, member.normalizations, Decision.of(member.card), plan.series)


def estimate_seconds(plan: Plan) -> float:
    """Seconds that the network will take, from timing one batch of it here and now."""
    engines = [open_member(plan, member) for member in plan.members]
    rows, cols = (min(plan.grid.tile, extent) for extent in plan.grid.extent)
    flags = len(plan.scene.dates) if plan.scene.date_flags else 0
    data = np.zeros((len(plan.bands) + flags, rows, cols), plan.scene.dtype)
    valid, keep = np.ones((rows, cols), np.bool_), (slice(0, rows), slice(0, cols))
    per_pixel = 0.0
    for engine in engines:
        count = engine.batch
        batch = TileBatch([data] * count, [valid] * count, (rows, cols), [keep] * count)
        engine.scores(batch)
        start = time.perf_counter()
        engine.scores(batch)
        per_pixel += (time.perf_counter() - start) / (count * rows * cols)
    return per_pixel * plan.estimate.computed_pixels * (8 if plan.augment else 1)
