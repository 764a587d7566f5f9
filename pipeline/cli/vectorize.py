"""``geoseg vectorize``."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.lists import QUOTING
from pipeline.cli.options import ConfiguredCommand, config_from, config_options, names_of
from pipeline.cli.output import echo

__all__ = ["command"]


@click.command("vectorize", cls=ConfiguredCommand)
@click.argument("raster")
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="A file to write: .geojson, .gpkg, .fgb or .parquet; may be given several times.",
)
@click.option("--confidence", help="A raster of confidence from 0 to 100 on the same grid.")
@click.option("--names", help=f"Class names where the raster has none: 0=other,1=forest. {QUOTING}")
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
def command(
    raster: str, out: tuple[Path, ...], confidence: str | None, names: str | None, overwrite: bool, **options: object
) -> int:
    """Make polygons of a class raster: codes from 0 to 253, one band, of this or any other program."""
    from pipeline.vectorize.file import vectorize_file

    count = vectorize_file(raster, out, config_from(options), confidence=confidence, names=names_of(names), overwrite=overwrite)
    echo(f"{count} polygons: {', '.join(map(str, out))}", err=True)
    return 0


command.params += config_options(
    ("vector", "scene", "area", "infer"),
    leave_out=(
        "formats",
        "aoi_column",
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
