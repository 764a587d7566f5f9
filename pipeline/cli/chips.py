"""``geoseg chips``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from geoseg.dialect import number_of
from pipeline.chips.settings import ChipOptions, LabelOptions
from pipeline.cli.defaults import default_of
from pipeline.cli.groups import gathered
from pipeline.cli.lists import QUOTING, Assignments
from pipeline.cli.numbers import Finite
from pipeline.cli.output import echo

__all__ = ["command"]

CLASSES = Assignments("--classes", "TEXT=CODE", "forest=1,water=2,cloud=ignore", last=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cutting:
    """Chips that are cut."""

    size: int
    step: int | None
    sampler: str
    count: int
    seed: int
    labelled: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Meaning:
    """Meaning of labels."""

    class_column: str | None
    classes: str | None
    outside: str
    ignore: str | None
    all_touched: bool
    border: int


@click.command("chips")
@click.option("--images", multiple=True, required=True, help="GeoTIFFs, folders, globs; may be given several times.")
@click.option(
    "--labels",
    multiple=True,
    required=True,
    help="Class rasters or vector files (GeoJSON, GPKG, Parquet): one for all images, or one of the same stem for each; or a "
    "folder.",
)
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="The folder to make.")
@click.option("--size", type=int, default=default_of(ChipOptions, "size"), show_default=True, help="Side of a chip in pixels.")
@click.option("--step", type=int, help="Pixels from each chip of the grid to the next. [default: the size]")
@click.option(
    "--sampler",
    type=click.Choice(["grid", "area", "class"]),
    default=default_of(ChipOptions, "sampler"),
    show_default=True,
    help="All chips of a grid, or some at random: by labelled area, or so that rare classes are met.",
)
@click.option(
    "--count",
    type=int,
    default=default_of(ChipOptions, "count"),
    show_default=True,
    help="Number of chips to draw, where not in a grid.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=default_of(ChipOptions, "seed"), show_default=True, help="Of what is drawn."
)
@click.option(
    "--labelled",
    type=Finite(),
    default=default_of(ChipOptions, "labelled"),
    show_default=True,
    help="Least share of labelled pixels of a chip.",
)
@click.option("--class-column", help="Column of vector labels that names the class. [default: all features are class 1]")
@click.option(
    "--classes",
    help=f"Codes by raster value or text of the column: forest=1,water=2,cloud=ignore. {QUOTING} [default: raster values as "
    "they are]",
)
@click.option("--outside", default="ignore", show_default=True, help="Code of what lies outside all features, or ignore.")
@click.option("--ignore", help="A vector file with areas that are not labelled.")
@click.option("--all-touched", is_flag=True, help="Burn all pixels that a feature touches, not those whose centre it covers.")
@click.option(
    "--border",
    type=int,
    default=default_of(LabelOptions, "border"),
    show_default=True,
    help="Pixels to each side of borders that are not labelled.",
)
@click.option("--assume-crs", help="The CRS of images that have none.")
@click.option("--pixel-coords", is_flag=True, help="Accept TIFFs without a place on Earth.")
@click.option("--overwrite", is_flag=True, help="Replace a folder that is there.")
@gathered(cutting=_Cutting, meaning=_Meaning)
def command(
    images: tuple[str, ...],
    labels: tuple[str, ...],
    out: Path,
    cutting: _Cutting,
    meaning: _Meaning,
    assume_crs: str | None,
    pixel_coords: bool,
    overwrite: bool,
) -> int:
    """Cut labelled scenes into small GeoTIFFs with an index, for other tools; training reads scenes as they are."""
    from geoseg.scenes.scene import OpenOptions
    from pipeline.chips.run import write_chips

    told = LabelOptions(
        codes=None if meaning.classes is None else CLASSES.parsed(meaning.classes, str, lambda text: _code(text, "--classes")),
        column=meaning.class_column,
        outside=_code(meaning.outside, "--outside"),
        ignore=meaning.ignore,
        all_touched=meaning.all_touched,
        border=meaning.border,
    )
    options = ChipOptions(
        size=cutting.size,
        step=cutting.step,
        sampler=cutting.sampler,
        count=cutting.count,
        seed=cutting.seed,
        labelled=cutting.labelled,
    )
    scenes = OpenOptions(assume_crs=assume_crs, pixel_coords=pixel_coords)
    written = write_chips(images, labels, out, meaning=told, options=options, scenes=scenes, overwrite=overwrite)
    echo(f"{number_of(written, 'chip')}: {out}", err=True)
    return 0


def _code(text: str, option: str) -> int:
    from geoseg.codes import UNLABELLED
    from geoseg.errors import ConfigError

    if text.strip() == "ignore":
        return UNLABELLED
    if not text.strip().isdecimal():
        raise ConfigError(f"{option}: {text.strip()!r} is neither the code of a class nor ignore")
    return int(text)
