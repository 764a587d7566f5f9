"""``geoseg calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from pipeline.calibrate.calibrate_settings import CalibrationSettings, Method
from pipeline.cli.groups import gathered
from pipeline.cli.numbers import Finite
from pipeline.cli.options import ConfiguredCommand, config_from, config_options
from pipeline.cli.output import echo

__all__ = ["command"]

DEFAULT = CalibrationSettings()


@click.command("calibrate", cls=ConfiguredCommand)
@click.argument("model")
@click.option("--images", "-i", multiple=True, required=True, help="Scenes: files, folders or globs; may be given several times.")
@click.option(
    "--labels",
    "-l",
    multiple=True,
    required=True,
    help="Class rasters or vector files with the stems of the scenes, or a folder of them; one file may serve all scenes.",
)
@click.option(
    "--method",
    type=click.Choice(get_args(Method)),
    default=DEFAULT.method,
    show_default=True,
    help="Mapping of scores to frequencies; auto takes the one under which held-out labels are likeliest.",
)
@click.option("--column", help="Of vector labels, the column that names the class.")
@click.option(
    "--holdout", type=Finite(0.05, 0.95), default=DEFAULT.holdout, show_default=True, help="Share of the scenes to measure on."
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=DEFAULT.seed,
    show_default=True,
    help="Of the division into fitted and held-out scenes.",
)
@click.option(
    "--out", "-o", type=click.Path(path_type=Path), help="The model folder to make. [default: <name>-calibrated in this folder]"
)
@click.option("--overwrite", is_flag=True, help="Replace the folder.")
@gathered(settings=CalibrationSettings)
def command(
    model: str,
    images: tuple[str, ...],
    labels: tuple[str, ...],
    settings: CalibrationSettings,
    out: Path | None,
    overwrite: bool,
    **options: object,
) -> int:
    """Make a model's probabilities frequencies: fit on some labelled scenes, measure on others, write the model anew.

    MODEL is a model folder, a shipped model, or owner/name on the Hugging Face hub.
    """
    from geoseg.calibration.selection import BEFORE
    from geoseg.models.model_folder import load_model
    from pipeline.calibrate.run import calibrate

    config = config_from(options)
    loaded = load_model(model)
    done = calibrate(loaded, images, labels, out, config, settings, overwrite=overwrite)
    keys = ("ece", "classwise_ece", "brier", "nll", "accuracy")
    echo(f"{'held out':12}" + "".join(f"{key:>15}" for key in keys))
    for name, values in done.figures["measures"].items():
        mark = " *" if name == done.method else ""
        echo(f"{name + mark:12}" + "".join(f"{values[key]:15.5f}" for key in keys))
    if done.method == BEFORE:
        echo("none of the methods makes held-out labels likelier; the calibration stays as it was")
    echo(str(done.model.path))
    return 0


command.params += config_options(("scene", "grid", "infer"), leave_out=("tta",))
