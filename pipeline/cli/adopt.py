"""``geoseg adopt``."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from geoseg.adoption.network_facts import Activation
from geoseg.errors import ConfigError
from pipeline.adopt.settings import AdoptSettings, DataType, Preset
from pipeline.cli.groups import gathered
from pipeline.cli.lists import split_list
from pipeline.cli.numbers import Finite
from pipeline.cli.options import ConfiguredCommand, config_from, config_options
from pipeline.cli.output import echo

__all__ = ["command"]


def _texts(ctx: click.Context, parameter: click.Parameter, text: str | None) -> tuple[str, ...] | None:
    del ctx
    return None if text is None else tuple(split_list(text, parameter.opts[0]))


def _numbers(ctx: click.Context, parameter: click.Parameter, text: str | None) -> tuple[float, ...] | None:
    parts = _texts(ctx, parameter, text)
    try:
        return None if parts is None else tuple(map(float, parts))
    except ValueError:
        raise ConfigError(f"{parameter.opts[0]}: {text!r} is no list of numbers such as 0.485,0.456,0.406") from None


@click.command("adopt", cls=ConfiguredCommand)
@click.argument("source")
@click.option("--out", "-o", type=click.Path(path_type=Path), help="The model folder to make. [default: <name> in this folder]")
@click.option("--name", help="Name of the model. [default: that of the file]")
@click.option("--bands", metavar="LIST", callback=_texts, help="Its bands by name, in the order in which it takes them.")
@click.option("--classes", metavar="LIST", callback=_texts, help="Its classes by name, in the order of its scores.")
@click.option("--background", help="The class that is left out of polygons. [default: the one that is named so]")
@click.option("--gsd", metavar="METRES", help="Side of the pixels that it was trained on; any where it takes all sizes.")
@click.option("--scale", type=Finite(1e-9, 1e9), help="What pixel values are divided by: 255, 10000, 1.")
@click.option("--mean", metavar="LIST", callback=_numbers, help="What is then taken off, by band: 0.48,0.46,0.41. [default: 0]")
@click.option("--std", metavar="LIST", callback=_numbers, help="What that is divided by, by band: 0.23,0.22,0.23. [default: 1]")
@click.option("--data-type", type=click.Choice(get_args(DataType)), help="Data type of the images that it was trained on.")
@click.option("--value-range", metavar="LOW,HIGH", callback=_numbers, help="Smallest and largest pixel value of the training.")
@click.option(
    "--activation",
    type=click.Choice(get_args(Activation)),
    help="What makes its numbers probabilities, where the file does not show it; none where they are probabilities already.",
)
@click.option("--output", metavar="NAME", help="Of an ONNX file with several outputs, the one that has the scores.")
@click.option("--architecture", help="Of a safetensors file: unet, fpn, deeplabv3plus. [default: the one that its weights fit]")
@click.option("--encoder", help="Of a safetensors file: resnet50, efficientnet-b3. [default: the one that its weights fit]")
@click.option("--preset", type=click.Choice(get_args(Preset)), help="Facts of a family: ftw, Fields of The World.")
@click.option("--largest-object", type=click.IntRange(1, 4096), help="Of a detector, rows or columns of the largest object, px.")
@click.option("--norm-eps", type=Finite(0, 1), help="Of a detector, what frozen normalization adds to variances: 0 or 1e-5.")
@click.option("--license", help="SPDX identifier of the licence of its weights. [default: what its README says]")
@click.option("--description", help="What it is, in a sentence.")
@click.option("--images", "-i", multiple=True, help="Scenes on which it is compared with its original, in place of noise.")
@click.option("--labels", "-l", multiple=True, help="Labels of these scenes: its probabilities are calibrated on them.")
@click.option("--overwrite", is_flag=True, help="Replace the folder.")
@gathered(settings=AdoptSettings)
def command(
    source: str,
    settings: AdoptSettings,
    out: Path | None,
    images: tuple[str, ...],
    labels: tuple[str, ...],
    overwrite: bool,
    **options: object,
) -> int:
    """Make a model folder of a network that others have trained, measure it, and compare it with its original.

    SOURCE is an ONNX file (of the QGIS plugin Deepness or of anybody), a folder of segmentation-models-pytorch, a safetensors
    file of torchgeo, Fields of The World or torchvision, or owner/name on the Hugging Face hub. What it does not tell is asked
    for.
    """
    from pipeline.adopt.run import adopt

    done = adopt(source, out, config_from(options), settings, images=images, labels=labels, overwrite=overwrite)
    record, card = done.record, done.model.card
    field = card.receptive_field
    reach = "the whole tile" if field is None or card.global_context else f"{field.reach} px to each side"
    echo(f"{card.name}: {record['format']}, {len(card.bands)} bands, {len(card.classes)} classes")
    echo(f"sees {reach}; stride {card.stride} px; {card.bytes_per_pixel:g} bytes a pixel of a tile")
    worst = record["largest_difference"]
    if worst is not None:
        echo(f"its probabilities differ from the original's by {worst:.1g} at most, on {record['compared_on']}")
    for note in record["notes"]:
        echo(f"note: {note}")
    echo(str(done.model.path))
    return 0


command.params += config_options(("scene", "grid", "infer"), leave_out=("tta", "bands"))
