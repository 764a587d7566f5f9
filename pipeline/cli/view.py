"""``geoseg view``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from geoseg.dialect import number_of
from pipeline.cli.groups import gathered
from pipeline.cli.output import echo

__all__ = ["command"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Review:
    """Whether the map is corrected or its buildings are labelled, and by whom."""

    reviewed: bool
    labelled: bool
    name: str | None


@click.command("view")
@click.argument("inputs", nargs=-1, required=True, metavar="OUT|FILE...", type=click.Path(path_type=Path))
@click.option("--port", type=click.IntRange(1, 65535), help="The port on loopback. [default: any that is free]")
@click.option("--basemap", metavar="URL", help="Tiles of a map beneath: https://server/{z}/{x}/{y}.png. [default: none]")
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open the address in the browser.")
@click.option(
    "--export", "out", type=click.Path(path_type=Path), metavar="DIR", help="Write the same as a static folder, and end."
)
@click.option("--overwrite", is_flag=True, help="With --export, replace the folder.")
@click.option("--review", "reviewed", is_flag=True, help="Correct the map there, as geoseg review open does.")
@click.option("--label", "labelled", is_flag=True, help="Label buildings there, as geoseg review label does.")
@click.option("--as", "name", metavar="NAME", help="With --review or --label, who. [default: the user of this machine]")
@gathered(review=_Review)
def command(
    inputs: tuple[Path, ...],
    port: int | None,
    basemap: str | None,
    out: Path | None,
    review: _Review,
    *,
    browser: bool,
    overwrite: bool,
) -> int:
    """Show maps in the browser: classes, confidence, polygons, the images they were made from, and two dates by a swipe.

    OUT is an output folder of segment, deforestation or damage, or one with many of their scenes; FILEs are a class raster,
    polygons and images of any program, shown as one map. Nothing is written, and only this machine can ask. Ctrl-C ends it.
    """
    from geoseg.errors import ConfigError
    from pipeline.view.run import open_gallery, view

    if review.name is not None and not (review.reviewed or review.labelled):
        raise ConfigError("--as: says who reviews; give --review or --label with it")
    if review.reviewed and review.labelled:
        raise ConfigError("--review, --label: one corrects grades, the other is done without having seen any; give one")
    if out is not None:
        if review.reviewed or review.labelled:
            raise ConfigError("--export, --review, --label: a static folder takes no decisions; give one of them")
        from pipeline.view.export import export

        if port is not None:
            raise ConfigError("--export, --port: an export is served by another server; give one of the two")
        tiles = export(open_gallery(inputs, basemap), out, lambda text: echo(text, err=True), overwrite=overwrite)
        echo(f"{out}: {number_of(tiles, 'tile')}; any web server shows it, for example: python -m http.server -d {out}")
        return 0
    if overwrite:
        raise ConfigError("--overwrite: says what --export does; the view itself writes nothing")

    def say(address: str) -> None:
        echo(address)
        echo("Ctrl-C ends it", err=True)

    if review.reviewed or review.labelled:
        from pipeline.review.decisions import reviewer_or_user
        from pipeline.review.labelling.run import label
        from pipeline.review.run import only_map
        from pipeline.review.run import review as serve_review

        serve = label if review.labelled else serve_review
        option = "--label" if review.labelled else "--review"
        serve(only_map(inputs, option), reviewer_or_user(review.name), say, basemap=basemap, port=port or 0, browser=browser)
        return 0
    view(inputs, say, basemap=basemap, port=port or 0, browser=browser)
    return 0
