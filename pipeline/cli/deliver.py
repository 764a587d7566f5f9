"""``geoseg deliver``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from geoseg.dialect import number_of
from pipeline.cli.defaults import default_of, listed, metres
from pipeline.cli.groups import gathered
from pipeline.cli.lists import QUOTING, split_list
from pipeline.cli.options import ConfiguredCommand, section_options, section_values
from pipeline.cli.output import echo
from pipeline.config.delivering import DeliveryConfig
from pipeline.deliver.terms import DISCLAIMER, LICENCE, Terms, metres_of

__all__ = ["command"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """Terms of the delivery."""

    event: str
    code: str
    aoi_id: str
    product: str
    version: int
    producer: str
    date: str | None
    disclaimer: str | None
    licence: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layers:
    """Layers beside those of all deliveries."""

    also: tuple[str, ...]
    interest: str
    cell: str
    radius: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """The area of interest, and what is told of it elsewhere."""

    aoi: Path | None
    assume_crs: str | None
    sample: Path | None
    file: Path | None


@click.command("deliver", cls=ConfiguredCommand)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="The folder to make.")
@click.option(
    "--aoi", type=click.Path(path_type=Path), help="Polygons of the area of interest. [default: where images have data]"
)
@click.option("--assume-crs", help="CRS of the area of interest where its file has none.")
@click.option("--event", required=True, help="Event and place: the title of the map.")
@click.option("--code", default=default_of(Terms, "code"), help="Of the activation, such as EMSR999; files begin with it.")
@click.option(
    "--aoi-id",
    default=default_of(Terms, "aoi_id"),
    help="Of the area of interest, such as AOI01: name files by the manual of Copernicus EMS.",
)
@click.option("--product", default=default_of(Terms, "product"), help="Type of product in such names: FEP, DEL, GRA.")
@click.option(
    "--version", type=int, default=default_of(Terms, "version"), show_default=True, help="Of the delivery in such names."
)
@click.option("--producer", default=default_of(Terms, "producer"), help="Who makes the delivery.")
@click.option("--date", help="Of production, ISO 8601. [default: when the result was finished]")
@click.option("--disclaimer", help="Instead of the one that is written.")
@click.option("--licence", help="Licence and attribution.")
@click.option(
    "--also", type=click.Choice(["fgb", "shp"]), multiple=True, help="A format beside GeoPackage and GeoJSON; may be given twice."
)
@click.option(
    "--interest",
    default=listed(Terms, "interest"),
    show_default=True,
    help=f"Of buildings, the classes of grid and density map: a,b. {QUOTING}",
)
@click.option(
    "--cell", default=metres(Terms, "cell_m"), show_default=True, help="Of buildings, the side of the cells of the grid."
)
@click.option(
    "--radius", default=metres(Terms, "radius_m"), show_default=True, help="Of buildings, the radius of the density map."
)
@click.option(
    "--sample",
    type=click.Path(path_type=Path),
    help="A labelled sample of the buildings, of geoseg sample: estimated numbers stand beside those that are counted.",
)
@click.option("--config", "file", type=click.Path(path_type=Path), help="A TOML file with a table [delivery].")
@click.option("--zip", "as_zip", is_flag=True, help="Write a ZIP file beside the folder, too.")
@click.option("--overwrite", is_flag=True, help="Replace a folder that is there.")
@gathered(said=_Said, layers=_Layers, place=_Place)
def command(
    folder: Path,
    out: Path,
    place: _Place,
    said: _Said,
    layers: _Layers,
    as_zip: bool,
    overwrite: bool,
    **options: object,
) -> int:
    """Make a delivery of FOLDER, the output of deforestation, damage or segment, in the manner of Copernicus EMS.

    It holds the layers source, areaOfInterest, imageFootprint, notAnalysed and observedEvent, a summary table, a map sheet
    as PDF and PNG, and checksums.
    """
    from pipeline.deliver.run import deliver

    terms = Terms(
        event=said.event,
        code=said.code,
        aoi_id=said.aoi_id,
        product=said.product,
        version=said.version,
        producer=said.producer,
        date=said.date,
        disclaimer=DISCLAIMER if said.disclaimer is None else said.disclaimer,
        licence=LICENCE if said.licence is None else said.licence,
        also=tuple(dict.fromkeys(layers.also)),
        interest=tuple(split_list(layers.interest, "--interest")),
        cell_m=metres_of("cell", layers.cell),
        radius_m=metres_of("radius", layers.radius),
        sample=place.sample,
        given=DeliveryConfig.read(place.file, section_values("delivery", DeliveryConfig, options)),
    )
    done = deliver(folder, out, terms, aoi=place.aoi, assume_crs=place.assume_crs, as_zip=as_zip, overwrite=overwrite)
    for row in done.summary:
        share = "" if row["share_percent"] is None else f"{row['share_percent']:8.1f} %"
        value, low, high = row.get("estimated"), row.get("low_95"), row.get("high_95")
        known = value is not None and low is not None and high is not None
        estimated = f"   estimated {value:,.0f} ({low:,.0f} to {high:,.0f})" if known else ""
        unit = "buildings" if row["unit"] == "number" else row["unit"]
        echo(f"  {row['class']:32}{row['affected']:16,} {unit:10}{share}{estimated}")
    for warning in done.warnings:
        echo(f"warning of the run: {warning}", err=True)
    echo(f"The delivery: {done.folder}{'' if done.zip is None else f', {done.zip}'}; {number_of(len(done.files), 'file')}")
    return 0


command.params += section_options("delivery", DeliveryConfig)
