"""The flow that trains a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.tasks import exponential_backoff

from flows.access.allowed import check
from flows.pages.run_artifacts import logs_to_prefect, show_training
from flows.stages import may_pass
from geoseg.models.model_folder import load_model
from pipeline.train.recipe import Recipe
from pipeline.train.run import train

__all__ = ["train_model"]

HOUR = 3600


@task(
    name="train",
    cache_policy=NO_CACHE,
    retries=3,
    retry_delay_seconds=exponential_backoff(30),
    timeout_seconds=240 * HOUR,
    retry_condition_fn=may_pass,
)
def train_task(recipe: Recipe, out: str, *, overwrite: bool) -> str:
    """Train, from the last checkpoint where there is one; gives the model folder."""
    return str(train(recipe, Path(out), overwrite=overwrite, progress=False).path)


@flow(name="train-model", flow_run_name="{out}", validate_parameters=True)
def train_model(
    recipe: dict[str, Any] | str,
    out: str,
    overwrite: bool = False,  # noqa: FBT002 - a parameter of the flow
) -> dict[str, Any]:
    """Train a model from labelled scenes; an interrupted training goes on from its last checkpoint.

    Args:
        recipe: Path of a TOML file, or its content.
        out: The model folder to make.
        overwrite: Replace what was made from another recipe or other data.

    Returns:
        Name, folder, identity and validation figures of the model.
    """
    check(read={"recipe": [recipe] if isinstance(recipe, str) else []}, written={"out": [out]})
    wanted = Recipe.read(Path(recipe)) if isinstance(recipe, str) else Recipe.parse(recipe)
    check(read=_files(wanted), models={"init.weights": [wanted.init.weights]})
    with logs_to_prefect():
        folder = train_task(wanted, out, overwrite=overwrite)
    model = load_model(folder)
    facts = show_training(model)
    get_run_logger().info("%s %s: %s", model.card.name, model.card.version, folder)
    return facts


def _files(recipe: Recipe) -> dict[str, list[str | None]]:
    """All that a recipe reads, by the names of its keys."""
    found: dict[str, list[str | None]] = {}
    for key, tables in (("data", recipe.data), ("keep.old", recipe.keep.old)):
        for table in tables:
            for name in ("images", "later", "rasters", "corrections"):
                found.setdefault(f"{key}.{name}", []).extend(getattr(table, name))
            for name in ("labels", "ignore"):
                found.setdefault(f"{key}.{name}", []).append(getattr(table, name))
    return found
