"""Planning: a scene, a model and settings become a plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from geoseg.dates.radiometry import Lines
from geoseg.dates.series import SeriesFacts, series_card
from geoseg.dates.stack import at_date
from geoseg.errors import ConfigError, SceneError
from geoseg.grid import Grid
from geoseg.inference.reading import open_reader
from geoseg.models.card import Card
from geoseg.models.ensemble import AnyModel
from geoseg.models.model_folder import Model
from geoseg.polygons.features import Change
from geoseg.scenes.bands.choosing import choose_bands
from geoseg.scenes.clouds import CloudNetwork
from geoseg.scenes.opening import open_scene
from geoseg.scenes.scene import Scene
from geoseg.scenes.sources import SceneRef
from geoseg.vectors.area_of_interest import AreaOfInterest
from geoseg.windows import Window
from pipeline.config.sections import Config
from pipeline.plan.cloud_source import with_clouds
from pipeline.plan.dates import OpenedDates, changes_of, dates_of, facts_of, open_dates
from pipeline.plan.domain import DomainCheck, Look, check_domain, look_at, refuse_far, unknown_resolution
from pipeline.plan.engine_choice import Placement, place
from pipeline.plan.memory import chunk_side, pixel_bytes_of, process_budget, processes, share_with_tail, shrink_to
from pipeline.plan.options import open_options
from pipeline.plan.plan import Estimate, Member, Plan, Task
from pipeline.plan.rescale import rescale_of, values_of
from pipeline.plan.result_layers import LAYERS, Thumbnail
from pipeline.plan.task import choose_layers, choose_task, make_grid
from pipeline.plan.value_settings import refuse_values
from pipeline.plan.within import area_of, chunks_in, tiles_in

__all__ = ["Place", "make_plan"]

Place = Callable[[Scene], tuple[Scene, tuple[int, int], AreaOfInterest | None]]
"""Brings a scene onto a lattice of chunks; gives it with the row and column of the lattice at which it begins, and what is mapped
of it there."""

PREVIEW_PX = 1024


def make_plan(
    ref: SceneRef,
    model: AnyModel,
    config: Config,
    *,
    chunk: int | None = None,
    placement: Placement | None = None,
    scenes: int = 1,
    onto: Place | None = None,
    look: Look = look_at,
) -> Plan:
    """Open a scene, fit the model to it, and lay out its chunks.

    Args:
        ref: The scene.
        model: The model, or an ensemble.
        config: The settings.
        chunk: Side of a chunk that an earlier run has used, instead of the configured one.
        placement: Where and how an earlier run has run the network, instead of choosing it.
        scenes: Number of scenes that are to come with this one, for that choice.
        onto: Brings the scene onto a lattice of chunks that it shares with others.
        look: Measures some cells of the scene.

    Raises:
        SceneError: The scene can't be used with this model, or lies outside of the area of interest.
        ConfigError: The settings don't fit the model.
    """
    opened = _dated(_open(ref, model.card, config), config)
    if onto is None:
        opened = replace(opened, area=area_of(opened.scene, config, ref.area))
    else:
        scene, phase, area = onto(opened.scene)
        opened = replace(opened, scene=scene, phase=phase, area=area)
    if placement is None:
        placement = place(model, config, opened.scene.height * opened.scene.width * max(1, len(opened.scene.dates)) * scenes)
    return _laid_out(opened, _fit(opened, model, config, look), model, config, chunk, placement)


@dataclass(frozen=True, slots=True, eq=False)
class _Opened:
    """A scene as a model takes it."""

    scene: Scene
    bands: tuple[int, ...]
    card: Card
    """Of the map: that of the model, or of its changes over several dates."""
    notes: tuple[str, ...]
    dates: OpenedDates | None = None
    series: SeriesFacts | None = None
    changes: Mapping[int, Change] = field(default_factory=dict)
    area: AreaOfInterest | None = None
    phase: tuple[int, int] | None = None
    """Where it begins on a lattice of chunks, if it lies on one."""


def _open(ref: SceneRef, card: Card, config: Config) -> _Opened:
    options = open_options(config, card)
    if card.damage is not None:
        raise ConfigError(f"model: {card.name} grades buildings one by one; give it to geoseg damage")
    if ref.later:
        refuse_values(card, "deforestation", "give it to geoseg segment, one date at a time")
    if not ref.later:
        if dates_of(card) > 1:
            raise ConfigError(
                f"model: {card.name} compares {dates_of(card)} dates; give them to geoseg deforestation, in their order"
            )
        scene = open_scene(ref.paths, ref.name, options, band_names=ref.band_names, told=ref.told)
        bands, notes = choose_bands(scene, card.bands, config.scene.bands)
        scene, hiding = with_clouds(scene, ref.name, config, dict(zip(card.bands, bands, strict=True)))
        return _Opened(scene, bands, card, (*scene.warnings, *notes, *hiding))
    dates = open_dates(ref, card, options, config)
    acquired = [date.acquired for date in dates.scene.dates]
    series = facts_of(ref, card, config.dates, acquired)
    changes: Mapping[int, Change]
    if series is not None:
        card, changes = series_card(card, series)
    else:
        changes = changes_of(card, acquired)
    return _Opened(dates.scene, dates.bands, card, (*dates.scene.warnings, *dates.notes), dates, series, changes)


def _dated(opened: _Opened, config: Config) -> _Opened:
    """With the date that was given, and refused where blocks were never written and that is an error."""
    scene = opened.scene
    if config.run.date is not None and scene.acquired is None:
        scene = replace(scene, acquired=config.run.date)
    if config.run.strict and any("never written" in note for note in opened.notes):
        raise SceneError(
            f"{scene.path}: {next(n for n in opened.notes if 'never written' in n)}; --strict takes that as an error"
        )
    return replace(opened, scene=scene)


@dataclass(frozen=True, slots=True, eq=False)
class _Fitted:
    """Models with the values that they take of a scene."""

    members: tuple[Member, ...]
    domains: tuple[DomainCheck, ...]
    """By member, how far the scene lies from what it was made for."""
    notes: tuple[str, ...]


def _fit(opened: _Opened, model: AnyModel, config: Config, look: Look) -> _Fitted:
    scene, bands, first = opened.scene, opened.bands, model.members[0].card
    looks = look(scene, bands, len(first.bands), mask_bad_blocks=config.scene.on_bad_block == "mask")
    rescale = rescale_of(scene, bands, config.scene.rescale, first, looks)
    lines = opened.dates.lines if opened.dates else ()
    members = tuple(_member(one, scene, bands, rescale.ranges, lines) for one in model.members)
    notes = [*rescale.notes, *(member.values.note for member in members if member.values.note)]
    domains = tuple(check_domain(scene, looks, one.card, one.values, bands) for one in members)
    if config.run.strict:
        refuse_far(scene, domains)
    notes += [*unknown_resolution(scene, opened.card), *(reason for one in domains for reason in one.reasons)]
    return _Fitted(members, domains, tuple(notes))


def _laid_out(opened: _Opened, fitted: _Fitted, model: AnyModel, config: Config, chunk: int | None, placement: Placement) -> Plan:
    scene, bands, card = opened.scene, opened.bands, opened.card
    task = choose_task(config, model) if opened.dates is None else "semantic"
    averaged = opened.phase is not None and config.mosaic.combine == "mean"
    layers = choose_layers(config, model, card, scene, averaged=averaged)
    grid = make_grid(scene, card, config, chunk or chunk_side(config, on_device=placement.one_shape), task)
    grid = replace(grid, one_shape=placement.one_shape or grid.one_shape, phase=opened.phase)
    pixel_bytes = pixel_bytes_of(scene, bands) + 2 * sum(count for _, count in layers[len(LAYERS) :])
    sources = {clouds.source for clouds in scene.every_clouds if isinstance(clouds.source, CloudNetwork)}
    budget = process_budget(config) - sum(source.memory_bytes for source in sources)
    if chunk is None:
        grid = shrink_to(grid, budget, pixel_bytes, card)
    active = _active_chunks(scene, bands, grid)
    if opened.area is not None:
        active = chunks_in(opened.area, grid, active, task)
    memory = share_with_tail(scene, grid, pixel_bytes, card, config, budget, placement.engine)
    return Plan(
        scene=scene,
        members=fitted.members,
        model_sha256=model.sha256,
        card=card,
        grid=grid,
        bands=bands,
        task=task,
        layers=layers,
        placement=placement,
        device=config.infer.device if placement.engine == "torch" else placement.provider,
        threads=config.infer.threads,
        batch=config.infer.batch,
        augment=config.infer.tta == "d4",
        mask_bad_blocks=config.scene.on_bad_block == "mask",
        read_threads=memory.read_threads,
        tile_seconds=config.infer.tile_seconds,
        active=active,
        in_flight=min(memory.in_flight, max(1, len(active))),
        cache_bytes=memory.cache_bytes,
        chunk_bytes=memory.chunk_bytes,
        fixed_bytes=memory.fixed_bytes,
        tail_bytes=memory.tail_bytes * processes(config),
        budget_bytes=(budget - memory.tail_bytes) * processes(config),
        thumbnail=_thumbnail(scene, card, grid.scene if opened.area is None else opened.area.window),
        estimate=_estimate(grid, active, memory.total_bytes, opened.area, task),
        warnings=tuple(dict.fromkeys((*opened.notes, *fitted.notes))),
        series=opened.series,
        changes=opened.changes,
        registrations=opened.dates.registrations if opened.dates else (),
        domains=fitted.domains,
        area=opened.area,
        exact_cut=config.area.aoi_cut == "exact",
    )


def _member(
    model: Model,
    scene: Scene,
    bands: tuple[int, ...],
    rescale: Sequence[tuple[float, float]] | None,
    lines: Sequence[Lines | None],
) -> Member:
    return Member(str(model.path), model.sha256, model.card, values_of(scene, bands, model.card, rescale, lines))


def _active_chunks(scene: Scene, bands: tuple[int, ...], grid: Grid) -> tuple[int, ...]:
    with open_reader(scene, bands, threads=1) as reader:
        return tuple(i for i in range(grid.n_chunks) if not reader.is_empty(grid.chunk_core(i)))


def _thumbnail(scene: Scene, card: Card, window: Window) -> Thumbnail:
    # Of several dates, the last one is shown.
    colors = [at_date(name, len(scene.dates) - 1) if scene.dates else name for name in ("red", "green", "blue")]
    if set(colors) <= set(card.bands):
        bands = tuple(card.bands.index(name) for name in colors)
    else:
        bands = tuple(range(3)) if len(card.bands) >= 3 else (0,)
    per_date, rest = divmod(len(card.bands), max(1, len(scene.dates)))
    if len(scene.dates) < 2 or rest or not per_date:
        return Thumbnail.of(window, PREVIEW_PX, bands)
    # Bands follow each other date by date, in the same order.
    first = tuple(band % per_date for band in bands)
    last = tuple(band + per_date * (len(scene.dates) - 1) for band in first)
    return Thumbnail.of(window, PREVIEW_PX, (*bands, *first, *last), pictures=3)


def _estimate(grid: Grid, active: tuple[int, ...], memory: int, area: AreaOfInterest | None, task: Task) -> Estimate:
    share = len(active) / max(1, grid.n_chunks)
    pixels = grid.height * grid.width * share
    computed = pixels * grid.waste
    if area is not None:
        chunks = (tiles_in(area, grid, grid.chunk_at(i), task) for i in active)
        pixels, computed = area.pixels, sum(tile.window.pixels for chunk in chunks for tile in chunk.tiles)
    return Estimate(int(memory), int(pixels * 2 * (0.15 + 0.6)), int(computed))
