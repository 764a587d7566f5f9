"""Measurements of the scenes of a recipe, before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from geoseg.training.data.object_sizes import ObjectSizes, measure_objects
from geoseg.training.data.statistics import Statistics, domain_facts, measure
from geoseg.training.data.survey import Counting, Place, survey
from geoseg.training.data.valued import ValueStatistics, measure_values
from geoseg.windows import Window
from pipeline.train.data import Area, TrainingData
from pipeline.train.early_warnings import check_labelled, early_warnings
from pipeline.train.quantity import value_warnings
from pipeline.train.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geoseg.models.domain_facts import DomainFacts
    from geoseg.training.data.chips import ChipSource

__all__ = ["Measured", "measure_data"]


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Figures of the scenes that are trained on."""

    statistics: Statistics
    """Mean and deviation by band, labelled pixels by class."""
    domain: DomainFacts | None
    """For the card."""
    sizes: ObjectSizes | None
    """Of the objects, where they are distinguished."""
    warnings: tuple[str, ...]
    """What is likely to go wrong, in sentences."""
    values: ValueStatistics | None = None
    """Of the numbers that are learned, where a quantity is regressed."""


def measure_data(recipe: Recipe, data: TrainingData) -> Measured:
    """Read all scenes once, and refuse data from which nothing can be learned.

    Raises:
        ConfigError: Nothing is labelled, one class only, or labels lie on none of the images.
        SceneError: A scene can't be read.
    """
    whole = _whole(data.training)
    classes, chip = len(recipe.classes), recipe.sample.chip
    # Statistics read each pixel once, and so the labels are counted on the way.
    counting = [Counting(source, Place(source.name, classes, chip)) for source in data.training]
    statistics = measure(counting, whole, classes)
    check_labelled(
        data, {c.name: count for c, count in zip(recipe.classes, statistics.counts, strict=True)}, numbers=recipe.regresses
    )
    domain = domain_facts(data.seen, _whole(data.seen), recipe.value_range)
    sizes = measure_objects(data.training, whole, recipe.object_codes) if recipe.object_codes else None
    places = survey(data.validation, data.areas, classes, chip)
    warnings = early_warnings(recipe, data, [one.place for one in counting], places)
    values = measure_values(list(data.training)) if recipe.regresses else None
    if values is not None:
        warnings = (*warnings, *value_warnings(recipe.quantity, values))
    return Measured(statistics, domain, sizes, warnings, values)


def _whole(sources: Sequence[ChipSource]) -> list[Area]:
    return [(k, Window.of((source.height, source.width))) for k, source in enumerate(sources)]
