"""``geoseg screen``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from pipeline.cli.defaults import default_of
from pipeline.cli.groups import gathered
from pipeline.cli.lists import QUOTING
from pipeline.cli.numbers import Finite
from pipeline.cli.options import names_of
from pipeline.cli.output import echo
from pipeline.screen.settings import CELL, ScreenOptions

__all__ = ["command"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """Cells that are written."""

    at_least: float
    top: int | None


@click.command("screen")
@click.argument("maps", nargs=-1, required=True)
@click.option("--class", "wanted", required=True, help="The class to look for, by name or code.")
@click.option("--cell", default=CELL, show_default=True, help="Side of a cell, in pixels or metres: 64px, 640m, 1km.")
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="The file to write: .geojson.")
@click.option(
    "--at-least",
    type=Finite(0, 1),
    default=default_of(ScreenOptions, "at_least"),
    show_default=True,
    help="Leave out cells with a lower score.",
)
@click.option("--top", type=click.IntRange(1), help="Write the best cells only, so many.")
@click.option("--names", help=f"Class names where the maps have none: 0=other,1=pit. {QUOTING}")
@click.option("--assume-crs", help="The CRS of maps that have none.")
@click.option("--overwrite", is_flag=True, help="Replace the file.")
@gathered(kept=_Kept)
def command(
    maps: tuple[str, ...],
    wanted: str,
    cell: str,
    out: Path,
    kept: _Kept,
    names: str | None,
    assume_crs: str | None,
    overwrite: bool,
) -> int:
    """Rank the cells of a coarse grid by a class: where to look first for what is rare.

    MAPS are class rasters, folders of them, or what segment wrote; with its confidence or probabilities, scores are mean
    probabilities.
    """
    from geoseg.scenes.scene import OpenOptions
    from pipeline.screen.run import screen

    found = screen(
        maps,
        wanted,
        cell,
        out,
        kept=ScreenOptions(at_least=kept.at_least, top=kept.top),
        names=names_of(names),
        options=OpenOptions(assume_crs=assume_crs),
        overwrite=overwrite,
    )
    kinds = ", ".join(sorted(set(found.measures.values())))
    echo(f"{found.cells:,} of {found.seen:,} cells, {found.not_analysed:,} not analysed; score: {kinds}; {out}", err=True)
    return 0
