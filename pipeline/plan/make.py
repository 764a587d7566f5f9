"""How a plan is made from a scene, a model and settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from geoseg.dates.radiometry import Lines
from geoseg.dates.series import series_card
from geoseg.dates.stack import at_date, open_reader
from geoseg.errors import ConfigError, SceneError
from geoseg.grid import Grid
from geoseg.inference.choice import choose_engine
from geoseg.inference.engine import EngineName
from geoseg.models.card import Card
from geoseg.models.ensemble import AnyModel
from geoseg.models.folder import Model
from geoseg.polygons.features import Change
from geoseg.scenes.bands import choose_bands
from geoseg.scenes.opening import open_scene
from geoseg.scenes.scene import Scene
from geoseg.scenes.sources import SceneRef
from pipeline.config.memory import BASE_BYTES
from pipeline.config.sections import Config
from pipeline.plan.dates import changes_of, dates_of, facts_of, open_dates
from pipeline.plan.domain import check_domain, look_at, refuse_far, unknown_resolution
from pipeline.plan.layers import LAYERS, Thumbnail
from pipeline.plan.memory import (
    chunk_bytes,
    forward_bytes,
    memory_limit,
    pixel_bytes_of,
    process_budget,
    processes,
    read_threads,
    shrink_to,
)
from pipeline.plan.options import open_options
from pipeline.plan.plan import Estimate, Member, Plan
from pipeline.plan.rescale import rescale_of, values_of
from pipeline.plan.rules import choose_layers, choose_task, make_grid

__all__ = ["make_plan"]

PREVIEW_PX = 1024


MAX_IN_FLIGHT = 4


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
    task = choose_task(config, model) if opened is None else "semantic"
    layers = choose_layers(config, model, card)
    budget = process_budget(config)
    grid = make_grid(scene, card, config, chunk or config.grid.chunk, task)
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
        scene=scene,
        members=members,
        model_sha256=model.sha256,
        card=card,
        grid=grid,
        bands=bands,
        task=task,
        layers=layers,
        engine=chosen,
        device=config.infer.device if chosen == "torch" else "cpu",
        threads=config.infer.threads,
        batch=config.infer.batch,
        augment=config.infer.tta == "d4",
        mask_bad_blocks=config.scene.on_bad_block == "mask",
        read_threads=threads,
        tile_seconds=config.infer.tile_seconds,
        active=active,
        in_flight=min(in_flight, max(1, len(active))),
        cache_bytes=cache,
        chunk_bytes=bytes_a_chunk,
        fixed_bytes=BASE_BYTES + forward + cache + reading,
        budget_bytes=budget * processes(config),
        thumbnail=_thumbnail(scene, card),
        estimate=_estimate(grid, active, in_flight * bytes_a_chunk + forward + cache + BASE_BYTES + reading),
        warnings=tuple(dict.fromkeys(notes)),
        series=series,
        changes=changes,
        registrations=opened.registrations if opened else (),
        domains=domains,
    )


def _member(
    model: Model,
    scene: Scene,
    bands: tuple[int, ...],
    rescale: Sequence[tuple[float, float]] | None,
    lines: Sequence[Lines | None],
) -> Member:
    return Member(str(model.path), model.sha256, model.card, values_of(scene, bands, model.card, rescale, lines))


def _engine(model: AnyModel, wanted: str) -> EngineName:
    """One engine for all members: torch where one of them needs it."""
    found = {choose_engine(member, wanted) for member in model.members}
    if len(found) == 1:
        return found.pop()
    return next(choose_engine(member, "torch") for member in model.members)


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
