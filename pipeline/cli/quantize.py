"""``geoseg quantize``."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.calibrate.calibrate_settings import QuantizationSettings
from pipeline.cli.groups import gathered
from pipeline.cli.options import ConfiguredCommand, config_from, config_options
from pipeline.cli.output import echo

__all__ = ["command"]

DEFAULT = QuantizationSettings()


@click.command("quantize", cls=ConfiguredCommand)
@click.argument("model")
@click.option("--images", "-i", multiple=True, required=True, help="Scenes: files, folders or globs; may be given several times.")
@click.option(
    "--labels",
    "-l",
    multiple=True,
    help="Class rasters or vector files with the stems of the scenes, or a folder of them, to measure the loss of accuracy on.",
)
@click.option("--column", help="Of vector labels, the column that names the class.")
@click.option(
    "--crops",
    type=click.IntRange(2, 10_000),
    default=DEFAULT.crops,
    show_default=True,
    help="Parts of 512 px that are drawn from the images: half to find ranges, half to measure the loss.",
)
@click.option("--seed", type=click.IntRange(0), default=DEFAULT.seed, show_default=True, help="Of the draw.")
@click.option(
    "--out", "-o", type=click.Path(path_type=Path), help="The model folder to make. [default: <name>-int8 in this folder]"
)
@click.option("--overwrite", is_flag=True, help="Replace the folder.")
@gathered(settings=QuantizationSettings)
def command(
    model: str,
    images: tuple[str, ...],
    labels: tuple[str, ...],
    settings: QuantizationSettings,
    out: Path | None,
    overwrite: bool,
    **options: object,
) -> int:
    """Make a model compute in 8-bit integers, which is faster on processors with AVX-512 VNNI or AMX, and measure the loss.

    MODEL is a model folder, a shipped model, or owner/name on the Hugging Face hub.
    """
    from geoseg.models.model_folder import load_model
    from pipeline.calibrate.integer_model import loss_of, quantize

    config = config_from(options)
    done = quantize(load_model(model), images, out, config, settings, labels=labels, overwrite=overwrite)
    facts = done.card.quantization
    assert facts is not None
    echo(loss_of(facts))
    echo(str(done.path))
    return 0


command.params += config_options(("scene", "grid", "infer"), leave_out=("tta",))
