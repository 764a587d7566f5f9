"""``geoseg vectorize``."""

from __future__ import annotations

from pathlib import Path

import click

from geoseg.dialect import number_of
from pipeline.cli.lists import QUOTING
from pipeline.cli.options import ConfiguredCommand, config_from, config_options, names_of
from pipeline.cli.output import echo

__all__ = ["command"]


@click.command("vectorize", cls=ConfiguredCommand)
@click.argument("rasters", nargs=-1, required=True)
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="A file to write: .geojson, .gpkg, .fgb or .parquet; may be given several times.",
)
@click.option(
    "--join",
    is_flag=True,
    help="Join polygons of several rasters of one lattice over their borders. Where rasters overlap, "
    "the first one by path that has a class says it.",
)
@click.option(
    "--confidence",
    multiple=True,
    help="A raster of confidence from 0 to 100 on the same grid; with --join given several times, one a raster in their order.",
)
@click.option("--names", help=f"Class names where the raster has none: 0=other,1=forest. {QUOTING}")
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
def command(
    rasters: tuple[str, ...],
    out: tuple[Path, ...],
    join: bool,
    confidence: tuple[str, ...],
    names: str | None,
    overwrite: bool,
    **options: object,
) -> int:
    """Make polygons of a class raster: codes from 0 to 253, one band, of this or any other program."""
    from geoseg.errors import ConfigError
    from pipeline.vectorize.file import vectorize_by_area

    if len(rasters) > 1 and not join:
        raise ConfigError(f"{len(rasters)} rasters: with --join their polygons become one file; else give one at a time")
    given = rasters if join else rasters[0]
    sure = confidence[0] if len(confidence) == 1 and not join else confidence or None
    config, named = config_from(options), names_of(names)
    for written in vectorize_by_area(given, out, config, confidence=sure, names=named, overwrite=overwrite):
        if written.skipped is not None:
            echo(f"{written.feature}: skipped: {written.skipped}", err=True)
        else:
            echo(f"{number_of(written.count, 'polygon')}: {', '.join(map(str, written.files))}", err=True)
    return 0


command.params += config_options(
    ("vector", "scene", "area", "infer"),
    leave_out=(
        "formats",
        "bands",
        "rescale",
        "resample",
        "target_crs",
        "gcps",
        "ignore_nodata",
        "nodata",
        "on_bad_block",
        "clouds",
        "cloud_classes",
        "cloud_band",
        "clouds_buffer",
        "max_pixels",
        "engine",
        "device",
        "tta",
        "batch",
        "memory",
    ),
)
