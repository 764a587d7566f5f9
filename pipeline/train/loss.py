"""Terms of the loss, by the recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geoseg.training.data.statistics import Statistics
from pipeline.train.chips import (
    LOOK_CHIPS,
    sampler_of,
    without_radiometry,
)
from pipeline.train.data import TrainingData
from pipeline.train.recipe import Recipe
from pipeline.train.weights import class_weights_of

if TYPE_CHECKING:
    from geoseg.training.data.loaders import ChipSampler, Preparation
    from geoseg.training.module import Loss, Network, Term

__all__ = ["loss_of", "loss_terms"]


def loss_of(recipe: Recipe, statistics: Statistics) -> Loss:
    """The loss of a recipe."""
    from geoseg.training.losses.losses import build_loss

    return build_loss(
        recipe.loss.terms,
        classes=len(recipe.classes),
        activation="softmax",
        class_weights=class_weights_of(recipe, statistics),
        smoothing=recipe.loss.smoothing,
    )


def loss_terms(
    recipe: Recipe, data: TrainingData, network: Network, loss: Loss, preparation: Preparation, sampler: ChipSampler
) -> tuple[Network, list[Term]]:
    """What is trained (the network, perhaps with further heads), and what is added to its loss."""
    from geoseg.training.data.loaders import training_loader
    from geoseg.training.transfer.adaptation import Light, SelfTraining, Sureness
    from geoseg.training.transfer.forgetting import Distillation, ElasticWeights

    keep, adapt = recipe.keep, recipe.adapt
    trained, terms = with_tasks(recipe, data, network, loss, preparation, sampler)
    if keep.distill:
        terms.append(Distillation(network, keep.distill, keep.temperature))
    if keep.ewc:
        from geoseg.training.transfer.forgetting import fisher_of

        old = training_loader(
            data.old, sampler_of(recipe, data.old, 4), without_radiometry(preparation), batches=LOOK_CHIPS // 4, size=4
        )
        terms.append(ElasticWeights(network, fisher_of(network, (batch.image for batch in old), recipe.loop.seed), keep.ewc))
    if adapt.pseudo:
        start = round(adapt.start * recipe.loop.steps)
        terms.append(
            SelfTraining(
                network,
                loss,
                weight=adapt.pseudo,
                sureness=Sureness(1.0 if adapt.share else adapt.confidence, adapt.share or None, len(recipe.classes)),
                start=start,
                change=Light(adapt.light) if adapt.light else None,
            )
        )
    return trained, terms


def with_tasks(
    recipe: Recipe, data: TrainingData, network: Network, loss: Loss, preparation: Preparation, sampler: ChipSampler
) -> tuple[Network, list[Term]]:
    """Return the network and the terms with those of further tasks."""
    if recipe.instances.kind == "watershed":
        return network, [_object_tasks(recipe, loss)]
    given = recipe.tasks.model_dump(exclude={"weighting"})
    wanted = {name: weight for name, weight in given.items() if weight > 0}
    if not wanted:
        return network, []
    from geoseg.models.networks.heads import MultiTaskNetwork
    from geoseg.training.data.loaders import training_loader
    from geoseg.training.losses.balancing import MAIN, make_weighting
    from geoseg.training.losses.tasks import (
        Boundary,
        Distance,
        MultiTask,
        Regression,
        SceneClass,
        SceneClasses,
        Task,
        kinds_of,
        spread_of,
    )

    classes = len(recipe.classes)
    tasks: list[Task] = []
    for name in wanted:
        if name == "boundary":
            tasks.append(Boundary())
        elif name == "distance":
            tasks.append(Distance())
        elif name == "scene_class":
            tasks.append(SceneClass(classes))
        elif name == "scene_classes":
            tasks.append(SceneClasses(classes))
        else:
            few = training_loader(data.training, sampler, preparation, batches=LOOK_CHIPS // 4, size=4)
            offsets, scales = spread_of(batch.rasters for batch in few)
            tasks.append(Regression(offsets, scales))
    weighting = make_weighting(recipe.tasks.weighting, kinds_of(tasks), {MAIN: 1.0, **wanted})
    return MultiTaskNetwork(network, [task.head for task in tasks]), [MultiTask(tasks, weighting, loss)]


def _object_tasks(recipe: Recipe, loss: Loss) -> Term:
    """Boundaries of objects and distances to them, for the heads that the network has."""
    from geoseg.training.losses.balancing import MAIN, make_weighting
    from geoseg.training.losses.tasks import Boundary, Distance, MultiTask, Task, kinds_of

    given = recipe.instances
    tasks: list[Task] = [Boundary(width=given.boundary, objects=True), Distance(truncate=given.distance, objects=True)]
    return MultiTask(
        tasks, make_weighting(recipe.tasks.weighting, kinds_of(tasks), {MAIN: 1.0, "boundary": 1.0, "distance": 1.0}), loss
    )
