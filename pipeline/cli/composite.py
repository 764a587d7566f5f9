"""``geoseg composite``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from geoseg.dialect import number_of
from pipeline.cli.options import ConfiguredCommand, config_from, config_options, given_in
from pipeline.cli.output import echo
from pipeline.config.compositing import LEFT_OUT, SECTIONS

if TYPE_CHECKING:
    from pipeline.composite.composite_plan import PlannedComposite

__all__ = ["command", "show_plan"]


@click.command("composite", cls=ConfiguredCommand)
@click.argument("inputs", nargs=-1, required=True)
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path),
    required=True,
    help="A folder to make, with an image a period; or a GeoTIFF (.tif), where there is one image.",
)
@click.option("--config", "file", type=click.Path(path_type=Path), help="A TOML file with the options below, a table a section.")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.")
@click.option("--json", "as_json", is_flag=True, help="The plan, or what was made, as JSON on standard output.")
def command(
    inputs: tuple[str, ...], out: Path, file: Path | None, overwrite: bool, dry_run: bool, as_json: bool, **options: object
) -> int:
    """Make one image without clouds of many scenes of an area, or one a year, a season or a month.

    Run again after an interruption, and it goes on where it was.
    """
    from pipeline.composite.composite_plan import plan_composite
    from pipeline.composite.run import composite
    from pipeline.config.idle import Purpose, refuse_idle

    config = config_from(options, file)
    refuse_idle(given_in(options), config, Purpose(inputs=inputs, composite=config.composite.method, mapped=False))
    if dry_run:
        show_plan(plan_composite(inputs, config, out), as_json=as_json)
        return 0
    made = composite(inputs, out, config, overwrite=overwrite)
    if as_json:
        echo(json.dumps({"images": [str(path) for path in made.images], "record": str(made.record), "fresh": made.fresh}))
    else:
        done = "" if made.fresh else "there already: "
        echo(f"{done}{number_of(len(made.images), 'image')}: {', '.join(map(str, made.images))}; {made.record}", err=True)
    return 0


def show_plan(plan: PlannedComposite, *, as_json: bool) -> None:
    """Print the plan of images."""
    facts = plan.describe()
    if as_json:
        echo(json.dumps(facts, ensure_ascii=False))
        return
    for key, value in facts.items():
        echo(f"{key:10} {'; '.join(map(str, value)) if isinstance(value, list) else value}")


command.params += config_options(SECTIONS, leave_out=LEFT_OUT)
