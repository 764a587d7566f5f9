"""Rules of the plan: task, layers, grid."""

from __future__ import annotations

from geoseg.codes import VOID
from geoseg.errors import ConfigError
from geoseg.grid import Grid
from geoseg.models.card import Card
from geoseg.models.ensemble import AnyModel
from geoseg.scenes.scene import Scene
from pipeline.config.sections import Config
from pipeline.plan.plan import Task
from pipeline.plan.result_layers import LAYERS, VALUE_LAYERS, Layers
from pipeline.plan.value_settings import refuse_for_values

__all__ = ["choose_layers", "choose_task", "grid_of_shape", "make_grid"]

HALO = 64


OBJECT_CONTEXT = 32
"""Pixels around objects that their tiles see at least, where the halo follows from the size of the objects."""


def choose_task(config: Config, model: AnyModel) -> Task:
    """Choose the task; objects where the model distinguishes them and nothing else was asked for."""
    wanted = config.infer.task
    if model.card.quantity is not None:
        refuse_for_values(config, model.card)
        return "semantic"
    knows = model.card.instances is not None
    if wanted in ("instances", "panoptic") and not knows:
        raise ConfigError(f"infer.task: {model.card.name} knows classes only, and tells no objects apart; use --task semantic")
    if wanted == "semantic" or not knows:
        if config.vector.right_angles:
            raise ConfigError(f"vector.right_angles: is for objects, and {model.card.name} maps classes here; leave it out")
        return "semantic"
    for key, asked in (
        ("infer.tta", config.infer.tta != "none"),
        ("infer.probabilities", config.infer.probabilities),
        ("infer.uncertainty", config.infer.uncertainty),
        ("vector.simplify", config.vector.simplify > 0),
        ("vector.smooth", config.vector.smooth > 0),
        ("area.aoi_cut", config.area.aoi_cut == "exact"),
    ):
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


def choose_layers(config: Config, model: AnyModel, card: Card, scene: Scene, *, averaged: bool = False) -> Layers:
    """Return the layers of chunk results.

    Args:
        config: The settings.
        model: The model, or an ensemble.
        card: Of the map.
        scene: The scene.
        averaged: Whether its probabilities are averaged with those of other scenes.
    """
    layers = list(LAYERS if card.quantity is None else VALUE_LAYERS)
    if config.infer.probabilities and not averaged:
        layers.append(("probabilities", len(card.classes)))
    if config.infer.uncertainty:
        if config.infer.tta == "none" and len(model.members) == 1:
            raise ConfigError(
                "infer.uncertainty: one network on one image has nobody to disagree with; add --tta d4, or give several --model"
            )
        layers.append(("uncertainty", 1))
    if averaged:
        layers.append(("shares", 2 * card.scores))
    if scene.every_clouds:
        layers.append(("coverage", 1))
    return tuple(layers)


def make_grid(scene: Scene, card: Card, config: Config, chunk: int, task: Task) -> Grid:
    """Return the grid of tiles and chunks."""
    return grid_of_shape((scene.height, scene.width), card, config, chunk, task)


def grid_of_shape(shape: tuple[int, int], card: Card, config: Config, chunk: int, task: Task) -> Grid:
    """The grid of tiles and chunks of a scene of so many rows and columns."""
    tile, halo, blend = config.grid.tile, config.grid.halo, card.global_context and task == "semantic"
    if card.tile is not None:
        if tile not in (card.tile, type(config.grid)().tile):
            raise ConfigError(f"grid.tile: {tile}, but {card.name} takes images of {card.tile} px only; leave it out")
        # Nothing is saved by a smaller halo than the exact one where tiles can't be larger.
        tile, halo = card.tile, "exact" if halo is None else halo
        most = (tile - card.stride) // 2 // card.stride * card.stride
        if isinstance(halo, int) and halo > most:
            raise ConfigError(f"grid.halo: {halo}, but {card.name} takes images of {tile} px only; use at most {most}, or exact")
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
    one = card.tile is not None
    return Grid(*shape, tile=tile, halo=int(halo), stride=card.stride, chunk=chunk, blend=blend, one_shape=one, filled=one)


def _halo_of_objects(card: Card, tile: int) -> int:
    """Half of the largest object and some context: tiles then overlap by more than such an object."""
    assert card.instances is not None
    wanted = max(HALO, -(-card.instances.largest_px // 2) + OBJECT_CONTEXT)
    return min(-(-wanted // card.stride) * card.stride, (tile // 3) // card.stride * card.stride)
