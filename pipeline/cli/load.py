"""``geoseg load``."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli.output import echo

__all__ = ["command"]


@click.command("load")
@click.argument("folder", metavar="OUT", type=click.Path(path_type=Path))
@click.argument("service", required=False)
@click.option("--schema", default="geoseg", show_default=True, help="Schema of the tables; made if it is not there.")
@click.option("--project", default="", help="Tells scenes of one name apart.")
@click.option(
    "--crs", metavar="CODE", help="Bring all polygons to this CRS, such as EPSG:4326. [default: that of each, a table each]"
)
def command(folder: Path, service: str | None, schema: str, project: str, crs: str | None) -> int:
    """Load the results in OUT into PostGIS: of segment, deforestation or damage, of one scene, many, or a mosaic.

    SERVICE is a section of ~/.pg_service.conf, or postgresql://HOST/NAME without a password; without it, the environment
    counts (PGSERVICE, PGHOST, PGDATABASE, PGPASSWORD, …). All is loaded in one transaction; the same run again replaces itself.
    """
    from pipeline.load.run import Loaded, load

    def say(one: Loaded) -> None:
        echo(f"  {one.scene:40}{one.features:12,} rows in {one.table}, run {one.run}")
        for note in one.notes:
            echo(f"note: {note}", err=True)

    done = load(folder, service, schema=schema, project=project, crs=crs, progress=say)
    tables = sorted({one.table for one in done})
    views = ", ".join(f"{schema}.latest_{table.removeprefix(f'{schema}.')}" for table in tables)
    echo(f"{sum(one.features for one in done):,} features of {len(done)} results; the latest run of each scene: {views}")
    return 0
