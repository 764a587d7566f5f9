"""``geoseg deforestation``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.groups import gathered
from pipeline.cli.options import ConfiguredCommand, config_from, config_options, given_in
from pipeline.cli.output import echo

if TYPE_CHECKING:
    from geoseg.models.ensemble import AnyModel
    from pipeline.changes.document import ChangesDocument
    from pipeline.changes.run import MappedChanges
    from pipeline.config.sections import Config

__all__ = ["command"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Display:
    """What is said, and whether that is all."""

    dry_run: bool
    as_json: bool
    quiet: bool


@click.command("deforestation", cls=ConfiguredCommand)
@click.argument("dates", nargs=-1, required=True)
@click.option(
    "--model",
    "-m",
    "models",
    multiple=True,
    help="A model of single dates (its probabilities are compared), or one that compares dates.",
)
@click.option(
    "--from-classes",
    is_flag=True,
    help="DATES are ready class maps, of this program (their folders, too) or another, which are compared without a model; the "
    "class is that of --of.",
)
@click.option(
    "--mosaic",
    is_flag=True,
    help="Each of DATES is a folder, a glob or a list of scenes that lie beside and over each other; they are mapped as one, and "
    "the classes of these maps are compared.",
)
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="Output folder; a folder is made in it.")
@click.option("--zones", help="A file of polygons, such as municipalities, by which areas are summed up.")
@click.option("--config", "file", type=click.Path(path_type=Path), help="A TOML file with the options below, a table a section.")
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.")
@click.option("--json", "as_json", is_flag=True, help="Progress as JSON lines on standard output.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")
@gathered(display=_Display)
def command(
    dates: tuple[str, ...],
    models: tuple[str, ...],
    from_classes: bool,
    mosaic: bool,
    out: Path,
    zones: str | None,
    file: Path | None,
    display: _Display,
    **options: object,
) -> int:
    """Map loss and gain of forest between DATES of one place: BEFORE AFTER, or a series, the oldest first.

    They may differ in CRS, extent and pixels; the grid is that of the first. Clouds and missing data of a date are not
    analysed. A series of more dates gives the date of first loss.
    """
    from geoseg.errors import ConfigError
    from geoseg.models.ensemble import load_models
    from pipeline.changes.run import map_changes, pair_under
    from pipeline.cli.segment import dry_run as show_plans
    from pipeline.cli.segment import progress_for
    from pipeline.config.idle import Purpose, refuse_idle
    from pipeline.infer.choose import workers_for
    from pipeline.plan.within import refs_in

    config = config_from(options, file)
    if from_classes == bool(models):
        raise ConfigError("--model: give either a model, or ready class maps with --from-classes")
    if from_classes:
        if mosaic:
            raise ConfigError("--mosaic: is for scenes, which a model maps; class maps are mosaics of their own: leave it out")
        return _compare(dates, config, out, zones, dry_run=display.dry_run, quiet=display.quiet or display.as_json)
    refuse_idle(given_in(options), config, Purpose(inputs=dates, mosaic=mosaic))
    loaded = load_models(models)
    if mosaic:
        return _mosaics(dates, loaded, config, out, zones, display)
    refs = refs_in([pair_under(config, dates, loaded.card.bands)], config)
    if display.dry_run:
        return show_plans(refs, [], loaded, config, as_json=display.as_json)
    progress = progress_for(as_json=display.as_json, quiet=display.quiet)
    try:
        with workers_for(config) as open_workers:
            every = [
                map_changes(ref, loaded, config, out, zones=zones, open_workers=open_workers, progress=progress) for ref in refs
            ]
    finally:
        progress.close()
    return _told(every, quiet=display.quiet or display.as_json)


def _told(every: Sequence[MappedChanges], *, quiet: bool) -> int:
    """Say what was made, of one area or of several; the exit code."""
    for done in every:
        if done.report.status in ("failed", "partial"):
            status = "skipped" if done.report.left_out else done.report.status
            echo(f"geoseg: {done.report.scene}: {status}: {done.report.reason}", err=True)
        if done.document and not quiet:
            _show(done.document, done.folder)
    left_out = [done.report.left_out for done in every]
    failed = any(done.report.status in ("failed", "partial") and not done.report.left_out for done in every)
    return 1 if failed or all(left_out) else 0


def _mosaics(dates: tuple[str, ...], model: AnyModel, config: Config, out: Path, zones: str | None, display: _Display) -> int:
    """Map the scenes of each date as one, and compare these maps; the exit code."""
    from pipeline.changes.of_mosaics import DateScenes, changes_of_mosaics
    from pipeline.cli.segment import dry_run_mosaic, progress_for
    from pipeline.infer.choose import workers_for
    from pipeline.plan.inputs import scenes_to_map

    scenes = [DateScenes(*scenes_to_map([text], config, model.card.bands, out)) for text in dates]
    if display.dry_run:
        codes = [dry_run_mosaic(one.scenes, one.refused, model, config, out, as_json=display.as_json) for one in scenes]
        return max(codes)
    progress = progress_for(as_json=display.as_json, quiet=display.quiet)
    try:
        with workers_for(config) as open_workers:
            every = changes_of_mosaics(scenes, model, config, out, zones=zones, open_workers=open_workers, progress=progress)
    finally:
        progress.close()
    for report in [report for done in every for report in done.reports]:
        if report.status in ("failed", "partial") or report.left_out:
            echo(f"geoseg: {report.scene}: {report.status}: {report.reason}", err=True)
    for done in every:
        if done.changes is not None and not display.quiet and not display.as_json:
            _show(done.changes.document, done.changes.folder)
    failed = any(report.status in ("failed", "partial") for done in every for report in done.reports)
    return 1 if failed or all(done.changes is None for done in every) else 0


def _compare(dates: tuple[str, ...], config: Config, out: Path, zones: str | None, *, dry_run: bool, quiet: bool) -> int:
    """Compare ready class maps; the exit code."""
    from geoseg.errors import ConfigError
    from pipeline.changes.from_classes import changes_by_area

    if dry_run:
        raise ConfigError("--dry-run: shows what a network will do, and ready class maps need none; leave one of them out")
    return _told(changes_by_area(dates, config, out, zones=zones), quiet=quiet)


def _show(document: ChangesDocument, folder: Path) -> None:
    for entry in document["classes"]:
        if entry["pixels"]:
            area = entry["area_ha"]
            echo(f"  {entry['name']:40}" + (f"{entry['pixels']:16,} px" if area is None else f"{area:16,.1f} ha"))
    for row in document.get("intervals", []):
        rate = "" if row["annual_rate_percent"] is None else f", {row['annual_rate_percent']:+.2f} % a year"
        echo(f"  {row['since']} to {row['until']}: lost {row['first_loss_ha']:,.1f} ha{rate}")
    echo(f"The map: {folder / 'classes.tif'}; the summary: {folder / 'changes.json'}, {folder / 'changes.csv'}")


command.params += config_options(
    ("scene", "area", "stac", "dates", "grid", "infer", "vector", "mosaic", "run"), leave_out=("right_angles", "task", "date")
)
