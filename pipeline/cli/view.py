"""``geoseg view``."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.output import echo

__all__ = ["command"]


@click.command("view")
@click.argument("inputs", nargs=-1, required=True, metavar="OUT|FILE...", type=click.Path(path_type=Path))
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The port on loopback. [default: any that is free]")
@click.option("--basemap", metavar="URL", help="Tiles of a map beneath: https://server/{z}/{x}/{y}.png. [default: none]")
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open the address in the browser.")
def command(inputs: tuple[Path, ...], port: int, basemap: str | None, *, browser: bool) -> int:
    """Show maps in the browser: classes, confidence, polygons, the images they were made from, and two dates by a swipe.

    OUT is an output folder of segment, deforestation or damage, or one with many of their scenes; FILEs are a class raster,
    polygons and images of any program, shown as one map. Nothing is written, and only this machine can ask. Ctrl-C ends it.
    """
    from pipeline.view.run import view

    def say(address: str) -> None:
        echo(address)
        echo("Ctrl-C ends it", err=True)

    view(inputs, say, basemap=basemap, port=port, browser=browser)
    return 0
