"""``geoseg train-damage``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from geoseg.damage.damage_settings import DamageSettings
from geoseg.dialect import number_of
from pipeline.cli.groups import gathered
from pipeline.cli.numbers import Finite
from pipeline.cli.options import ConfiguredCommand, config_from, config_options
from pipeline.cli.output import echo, log_to_stderr
from pipeline.damage.labels_and_name import LabelledFootprints, ModelName

__all__ = ["command"]

DEFAULT, NAME = DamageSettings(), ModelName()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Training:
    """Options of the training."""

    encoder: str
    weights: str | None
    used: str
    steps: int
    folds: int
    undamaged: float
    views: str
    seed: int


@click.command("train-damage", cls=ConfiguredCommand)
@click.argument("pre")
@click.argument("post")
@click.option("--labels", required=True, help="A file of footprints with a column of classes.")
@click.option(
    "--column",
    default=LabelledFootprints(labels="").column,
    show_default=True,
    help="That column: none, minor, major, destroyed.",
)
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="The model folder.")
@click.option("--encoder", default=DEFAULT.encoder, show_default=True, help="The encoder, as in geoseg train.")
@click.option("--weights", help="Weights for the encoder: a file. [default: random]")
@click.option("--dates", "used", type=click.Choice(["both", "post"]), default="both", show_default=True, help="Images it takes.")
@click.option(
    "--steps",
    type=click.IntRange(0),
    default=DEFAULT.steps,
    show_default=True,
    help="Steps on the whole network after its head is there: for thousands of buildings, and without --weights.",
)
@click.option(
    "--folds",
    type=click.IntRange(1),
    default=DEFAULT.folds,
    show_default=True,
    help="Parts of the buildings that are held out in turn to judge and calibrate the model, which learns from all.",
)
@click.option(
    "--undamaged",
    type=Finite(0, 10),
    default=DEFAULT.undamaged,
    show_default=True,
    help="Weight of the image PRE in the training, where every building is undamaged.",
)
@click.option(
    "--views",
    type=click.Choice(["1", "2", "4", "8"]),
    default=str(DEFAULT.views),
    show_default=True,
    help="Symmetric views that are averaged.",
)
@click.option("--seed", type=click.IntRange(0), default=DEFAULT.seed, show_default=True)
@click.option("--name", default=NAME.name, show_default=True, help="Name of the model.")
@click.option("--license", "license_name", default=NAME.license_name, help="Licence of the weights, which follows from the data.")
@click.option("--overwrite", is_flag=True, help="Replace the model.")
@gathered(footprints=LabelledFootprints, training=_Training, name=ModelName)
def command(
    pre: str,
    post: str,
    footprints: LabelledFootprints,
    out: Path,
    training: _Training,
    name: ModelName,
    overwrite: bool,
    **options: object,
) -> int:
    """Train a network that grades the damage of buildings from images before and after an event."""
    import logging

    from pipeline.changes.run import pair_of
    from pipeline.damage.train import train_on_buildings

    log_to_stderr("%(message)s", logging.INFO)
    settings = DamageSettings(
        encoder=training.encoder,
        weights=training.weights,
        steps=training.steps,
        folds=training.folds,
        undamaged=training.undamaged,
        views=int(training.views),
        seed=training.seed,
        used=(0, 1) if training.used == "both" else (1,),
    )
    model, figures = train_on_buildings(
        pair_of([pre, post]),
        footprints,
        out,
        settings,
        config_from(options),
        name,
        overwrite=overwrite,
    )
    held = figures["held_out_figures"]
    echo(
        f"Held out {number_of(held['buildings'], 'building')} in turn, and calibrated on them: macro F1 {held['macro_f1']:.3f}, "
        f"calibration error {held['ece']:.3f}"
    )
    echo(f"{model.card.name}: {out}")
    return 0


command.params += config_options(("scene", "dates"), leave_out=("of", "change_rate", "least_area", "least_width"))
