"""``geoseg sample``."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from geoseg.dialect import number_of
from pipeline.cli.defaults import default_of
from pipeline.cli.groups import gathered
from pipeline.cli.lists import QUOTING, Assignments, split_list
from pipeline.cli.numbers import Finite
from pipeline.cli.output import echo
from pipeline.sample.settings import SampleSettings

if TYPE_CHECKING:
    from geoseg.sampling.design import Allocation
    from pipeline.sample.allocation import Drawn

__all__ = ["command"]

EXPECTED = Assignments("--expected", "NAME=SHARE", last=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drawing:
    """Number of units, and their allocation."""

    size: int | None
    target_se: float
    expected: str | None
    allocation: Allocation
    least: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """Of what they are drawn."""

    around: str | None
    buffer_m: float
    blocks: int
    strata: str | None
    sure: float


@click.command("sample")
@click.argument("class_map")
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="The file to write: .gpkg.")
@click.option("--size", type=click.IntRange(2), help="Units to draw. [default: what --target-se asks]")
@click.option(
    "--target-se",
    type=Finite(),
    default=default_of(SampleSettings, "target_se"),
    show_default=True,
    help="Standard error of the overall accuracy.",
)
@click.option("--expected", help=f"Expected user's accuracies: forest loss=0.7,stable forest=0.95. {QUOTING} [default: 0.8]")
@click.option(
    "--allocation",
    type=click.Choice(["equal", "proportional", "neyman"]),
    default=default_of(SampleSettings, "allocation"),
    show_default=True,
    help="Allocation of units to strata.",
)
@click.option(
    "--least",
    type=click.IntRange(2),
    default=default_of(SampleSettings, "least"),
    show_default=True,
    help="Units of each stratum at least.",
)
@click.option(
    "--around", help=f"Classes around which a stratum of its own catches what the map has missed: forest loss. {QUOTING}"
)
@click.option(
    "--buffer",
    "buffer_m",
    type=Finite(0),
    default=default_of(SampleSettings, "buffer_m"),
    help="Width of that stratum, in metres.",
)
@click.option(
    "--blocks",
    type=click.IntRange(1),
    default=default_of(SampleSettings, "block"),
    show_default=True,
    help="Draw blocks of so many pixels a side.",
)
@click.option("--strata", help="A class raster on the same grid whose classes are the strata. [default: the map]")
@click.option(
    "--sure",
    type=Finite(0),
    default=default_of(SampleSettings, "sure"),
    show_default=True,
    help="Of buildings, the confidence in percent from which a grade is sure: strata are grades, sure and unsure ones.",
)
@click.option("--images", help=f"Images for labelling, named on each unit: before.tif,after.tif. {QUOTING}")
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=default_of(SampleSettings, "seed"),
    show_default=True,
    help="Another number draws another sample.",
)
@click.option("--overwrite", is_flag=True, help="Replace the file.")
@gathered(drawing=_Drawing, frame=_Frame)
def command(
    class_map: str,
    out: Path,
    drawing: _Drawing,
    frame: _Frame,
    images: str | None,
    overwrite: bool,
) -> int:
    """Draw a stratified random sample of CLASS_MAP and write it for labelling in QGIS.

    CLASS_MAP is a class raster, or the folder of a scene with it; or the output folder of damage: then buildings are drawn,
    stratified by grade and confidence. What the map says is not shown to those who label it. Fill in the form, then
    run geoseg area.
    """
    from pipeline.sample.draw import check_target
    from pipeline.sample.run import draw

    check_target(out, overwrite=overwrite)
    settings = SampleSettings(
        size=drawing.size,
        target_se=drawing.target_se,
        expected=EXPECTED.parsed(drawing.expected, str, _share) if drawing.expected else None,
        allocation=drawing.allocation,
        least=drawing.least,
        around=tuple(split_list(frame.around or "", "--around")),
        buffer_m=frame.buffer_m,
        block=frame.blocks,
        sure=frame.sure,
        seed=drawing.seed,
        images=tuple(split_list(images or "", "--images")),
    )
    drawn = draw(class_map, out, settings, strata_path=frame.strata)
    _show(drawn, in_blocks=frame.blocks > 1)
    then = ["geoseg", "area", "--map", class_map, "--sample", str(out)]
    if not drawn["area_m2"]:
        # Of buildings.
        echo(f"in the browser: {shlex.join(['geoseg', 'review', 'label', class_map, '--sample', str(out)])}")
    echo(f"{number_of(drawn['units'], 'unit')}: {out}; label them in QGIS, then: {shlex.join(then)}")
    if frame.blocks > 1:
        echo("or say what lies where in them, which gives accuracies, too: --reference truth.gpkg --column class")
    return 0


def _share(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _show(drawn: Drawn, *, in_blocks: bool) -> None:
    for stratum in drawn["strata"]:
        echo(f"  {stratum['name']:40}{stratum['units']:8,} of {stratum['size']:,}")
    left = sum(area for code, area in drawn["area_m2"].items() if int(code) > 253)
    if left:
        echo(f"  not analysed or without data, and not sampled: {left / 1e4:,.1f} ha")
    most = "at most " if in_blocks else ""
    echo(f"  expected standard error of the overall accuracy: {most}{drawn['expected_se']:.4f}")
