"""Terms that a plan adds to the loss: further tasks, what keeps old knowledge, labels of a teacher."""

from __future__ import annotations

from torch import nn

from geoseg.models.networks.heads import MultiTaskNetwork
from geoseg.training.feed import Feed
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
from geoseg.training.module import Term
from geoseg.training.training_plan import TrainingPlan
from geoseg.training.transfer.forgetting import Distillation, ElasticWeights, fisher_of
from geoseg.training.transfer.self_training import Light, SelfTraining

__all__ = ["add_terms"]


def add_terms(plan: TrainingPlan, network: nn.Module, feed: Feed) -> tuple[nn.Module, list[Term]]:
    """The network, perhaps with further heads, and the terms of its loss.

    Args:
        plan: Which terms, and how much they weigh.
        network: As built, with the weights to begin from; old knowledge is what it has now.
        feed: Chips of old scenes, and rasters, for what is measured before.
    """
    keeping, teaching = plan.keeping, plan.teaching
    trained, terms = _with_tasks(plan, network, feed)
    if keeping.distill:
        terms.append(Distillation(network, keeping.distill, keeping.temperature))
    if keeping.ewc:
        importance = fisher_of(network, feed.images(feed.scenes.old, 4, 4), plan.loop.seed)
        terms.append(ElasticWeights(network, importance, keeping.ewc))
    if teaching.weight:
        terms.append(
            SelfTraining(
                network,
                plan.loss,
                weight=teaching.weight,
                sureness=teaching.sureness,
                start=round(teaching.start * plan.loop.steps),
                change=Light(teaching.light) if teaching.light else None,
            )
        )
    return trained, terms


def _with_tasks(plan: TrainingPlan, network: nn.Module, feed: Feed) -> tuple[nn.Module, list[Term]]:
    """The network with the heads of further tasks, and their term."""
    heads = plan.tasks.objects
    if heads is not None:
        # The network has these two already.
        tasks: list[Task] = [Boundary(width=heads.boundary, objects=True), Distance(truncate=heads.distance, objects=True)]
        return network, [_multi_task(plan, tasks)]
    if not plan.tasks.weights:
        return network, []
    tasks = [_task(name, len(plan.classes), feed) for name in plan.tasks.weights]
    return MultiTaskNetwork(network, [task.head for task in tasks]), [_multi_task(plan, tasks)]


def _multi_task(plan: TrainingPlan, tasks: list[Task]) -> MultiTask:
    weights = {MAIN: 1.0, **{task.name: 1.0 for task in tasks}, **plan.tasks.weights}
    return MultiTask(tasks, make_weighting(plan.tasks.weighting, kinds_of(tasks), weights), plan.loss)


def _task(name: str, classes: int, feed: Feed) -> Task:
    if name == "boundary":
        return Boundary()
    if name == "distance":
        return Distance()
    if name == "scene_class":
        return SceneClass(classes)
    if name == "scene_classes":
        return SceneClasses(classes)
    return Regression(*spread_of(feed.rasters()))
