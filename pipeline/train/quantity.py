"""Recipes that learn a quantity in place of classes: what they can't have, and how maps store what they learn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from geoseg.codes import MAX_VALUE
from geoseg.formats.text import steers
from geoseg.training.data.valued import ValueStatistics
from pipeline.train.recipe_data import Positive, Table

if TYPE_CHECKING:
    from pipeline.train.recipe import Recipe

__all__ = ["QuantityRecipe", "check_quantity", "storage_of", "value_lines", "value_warnings", "with_quantity"]

COLOR = "#21918c"
"""Of the one class that stands for the quantity."""
NO_DATA, HUGE = (-9999.0, -32768.0, -32767.0, -99999.0), 1e30
"""Numbers that mostly stand for no data."""
VALUE_LOSSES = ("huber", "l1", "l2")
STEPS = (1.0, 2.0, 5.0)
"""Round steps of each power of ten."""


class QuantityRecipe(Table):
    """A number a pixel, learned in place of classes from rasters of numbers: the model regresses it, and maps are values.tif."""

    name: str = Field("", max_length=80, description="What it is: canopy height, depth, cover fraction. [default: classes]")
    unit: str = Field("", max_length=20, description="Its unit: m; 1 for shares.")
    scale: Positive | None = Field(
        None,
        description="Step between two codes of maps. [default: a round one by which 65534 codes reach thrice the labels' range]",
    )
    offset: float | None = Field(
        None, description="Least value of maps. [default: 0 where no label is below, else by the labels]"
    )

    @field_validator("name", "unit")
    @classmethod
    def _check_text(cls, text: str) -> str:
        # The card would refuse it, when all is trained.
        if steers(text):
            raise ValueError(f"{text!r} holds control characters or marks of direction, which no name needs")
        return text


def with_quantity(given: Mapping[str, object]) -> dict[str, object]:
    """A recipe's document with what follows from its quantity: the class that stands for it, and its loss."""
    quantity, document = given.get("quantity"), dict(given)
    name = quantity.get("name") if isinstance(quantity, Mapping) else getattr(quantity, "name", "")
    if not name:
        return document
    document.setdefault("classes", [{"name": name, "color": COLOR, "background": True}])
    loss = document.get("loss", {})
    if isinstance(loss, Mapping) and "terms" not in loss:
        document["loss"] = {**loss, "terms": {"huber": 1.0}}
    return document


def check_quantity(recipe: Recipe) -> None:
    """Refuse what a quantity can't be learned with.

    Raises:
        ValueError: There is such a setting; the message names it.
    """
    classes, loss, name = recipe.classes, recipe.loss, recipe.quantity.name
    if len(classes) != 1 or classes[0].name != name:
        raise ValueError(f"classes: {name} is regressed, which has no classes; leave them out")
    other = [term for term in loss.terms if term not in VALUE_LOSSES]
    if other:
        raise ValueError(
            f"loss.terms: {other[0]} is a loss of classes, and {name} is regressed; choose of {', '.join(VALUE_LOSSES)}"
        )
    data = (*recipe.data, *recipe.keep.old)
    asked = {
        "instances.kind": recipe.instances.kind != "none",
        "tasks": any(recipe.tasks.model_dump(exclude={"weighting"}).values()),
        "adapt.pseudo": recipe.adapt.pseudo > 0,
        "keep.distill": recipe.keep.distill > 0,
        "keep.ewc": recipe.keep.ewc > 0,
        "sample.by": recipe.sample.by in ("class", "hard"),
        "loss.smoothing": loss.smoothing > 0,
        "loss.balance": loss.balance != "none",
        "loss.factors": bool(loss.factors),
        "loss.border": loss.border > 0,
        "calibrate.method": recipe.calibrate.method not in ("auto", "none"),
        "data.plain": any(one.plain for one in data),
        "data.column": any(one.column is not None for one in data),
        "data.outside": any(one.outside != "unlabelled" for one in data),
        "data.ignore": any(one.ignore is not None for one in data),
        "data.corrections": any(one.corrections for one in data),
        "data.border": any(one.border for one in data),
        "data.rasters": any(one.rasters for one in data),
    }
    key = next((key for key, is_asked in asked.items() if is_asked), None)
    if key is not None:
        raise ValueError(f"{key}: is for classes, and {name} is regressed from the numbers of data.labels; leave it out")


def storage_of(recipe: QuantityRecipe, found: ValueStatistics) -> tuple[float, float]:
    """Scale and offset of the codes of maps: those of the recipe, or round ones by the labels.

    Codes then reach as far beyond the labels on either side as these span, but not below 0 where no label lies there.
    """
    span = found.most - found.least
    least, most = found.least - span, found.most + span
    if recipe.offset is not None:
        least = recipe.offset
    elif found.least >= 0:
        least = 0.0
    needed = max(most - least, span) / MAX_VALUE
    power = 10.0 ** math.floor(math.log10(needed))
    scale = recipe.scale or next((power * step for step in STEPS if power * step >= needed), 10 * power)
    if recipe.offset is None and least:
        least = math.floor(least / scale) * scale
    return float(f"{scale:.6g}"), float(f"{least:.9g}")


def value_warnings(recipe: QuantityRecipe, found: ValueStatistics) -> tuple[str, ...]:
    """Sentences on labels beyond what maps can hold, by the recipe's scale and offset, and on what looks like no data."""
    scale, offset = storage_of(recipe, found)
    top, told = offset + scale * MAX_VALUE, []
    if found.least < offset - scale or found.most > top + scale:
        told.append(
            f"quantity.scale, quantity.offset: maps hold {offset:g} to {top:g}, and labels go from {found.least:g} "
            f"to {found.most:g}; what lies beyond becomes the nearest that a map holds. Left out, both follow from the labels"
        )
    if found.least in NO_DATA or found.least < -HUGE or found.most > HUGE:
        value = found.most if found.most > HUGE else found.least
        told.append(
            f"data.labels: {value:g} is learned as a number, and looks like no data; if it is, say so in the rasters: "
            f"gdal_edit.py -a_nodata {value:.9g} FILE"
        )
    return tuple(told)


def value_lines(recipe: QuantityRecipe, found: ValueStatistics | None) -> dict[str, str]:
    """What labels and maps hold, in words; nothing where classes are learned."""
    if found is None:
        return {}
    unit = f" {recipe.unit}" if recipe.unit not in ("", "1") else ""
    scale, offset = storage_of(recipe, found)
    return {
        "labels": f"{found.pixels:,} px, {found.least:g} to {found.most:g}{unit}, {found.mean:g} in the mean",
        "maps hold": f"{offset:g} to {offset + scale * MAX_VALUE:g}{unit}, in steps of {scale:g}{unit}",
    }
