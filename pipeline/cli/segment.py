"""``geoseg segment``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from pipeline.cli.groups import gathered
from pipeline.cli.options import ConfiguredCommand, config_from, config_options, given_in
from pipeline.cli.output import echo
from pipeline.config.compositing import Method

if TYPE_CHECKING:
    from geoseg.models.card import Card
    from geoseg.models.ensemble import AnyModel
    from geoseg.scenes.sources import Refused, SceneRef
    from pipeline.config.sections import Config
    from pipeline.plan.plan import Plan
    from pipeline.publish.report import SceneReport
    from pipeline.segment.progress import Progress

__all__ = ["command", "dry_run", "progress_for"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Display:
    """What is said, and whether that is all."""

    dry_run_only: bool
    as_json: bool
    quiet: bool


@click.command("segment", cls=ConfiguredCommand)
@click.argument("inputs", nargs=-1, required=True)
@click.option(
    "--model",
    "-m",
    "models",
    multiple=True,
    required=True,
    help="A model folder, the name of a shipped model, or owner/name on the Hugging Face hub. Given several times, the models "
    "decide together: their probabilities are averaged.",
)
@click.option(
    "--out", "-o", type=click.Path(path_type=Path), required=True, help="Output folder; one folder a scene is made in it."
)
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    help="A TOML file with the options below, a table a section; options on the command line come over it.",
)
@click.option("--mosaic", is_flag=True, help="Map all scenes as one, OUT/mosaic, in which polygons go on from scene to scene.")
@click.option(
    "--composite",
    type=click.Choice(get_args(Method)),
    help="Make an image without clouds of all scenes first, in OUT/composites, or one a --period, and map that: the median, mean "
    "or best of the clear observations of a pixel.",
)
@click.option("--dry-run", "dry_run_only", is_flag=True, help="Print the plan of each scene and stop.")
@click.option("--json", "as_json", is_flag=True, help="Progress as JSON lines on standard output.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")
@gathered(display=_Display)
def command(
    inputs: Sequence[str],
    models: tuple[str, ...],
    out: Path,
    file: Path | None,
    mosaic: bool,
    composite: Method | None,
    display: _Display,
    **options: object,
) -> int:
    """Map scenes: files, folders, globs, list files (.txt), addresses, STAC items (.json) and searches (stac+https://…).

    Run again after an interruption, and it goes on where it was.
    """
    from geoseg.models.ensemble import load_models
    from pipeline.config.idle import Purpose, refuse_idle
    from pipeline.plan.inputs import scenes_to_map

    config = config_from(options, file)
    refuse_idle(given_in(options), config, Purpose(inputs=inputs, mosaic=mosaic, composite=composite))
    loaded = load_models(models)
    if composite is not None:
        from pipeline.cli.composite import show_plan
        from pipeline.composite.mapped import clear_earlier, composites_of, planned_composites

        if display.dry_run_only:
            show_plan(planned_composites(inputs, config, composite, out), as_json=display.as_json)
            return 0
        inputs, config = composites_of(inputs, config, composite, out, mosaic=mosaic)
    scenes, refused = scenes_to_map(inputs, config, loaded.card.bands, out, together=mosaic)
    if display.dry_run_only:
        if mosaic:
            return dry_run_mosaic(scenes, refused, loaded, config, out, as_json=display.as_json)
        return dry_run(scenes, refused, loaded, config, as_json=display.as_json)
    reports = _mapped(scenes, refused, loaded, config, out, display, mosaic=mosaic)
    if scenes and all(report.left_out for report in reports[len(refused) :]):
        echo(f"geoseg: nothing is mapped: {reports[-1].reason}", err=True)
        return 1
    failed = any(report.status in ("failed", "partial") for report in reports)
    if composite is not None and config.run.overwrite and not failed:
        clear_earlier(inputs, out)
    return 1 if failed else 0


def _mapped(
    scenes: Sequence[SceneRef],
    refused: Sequence[Refused],
    model: AnyModel,
    config: Config,
    out: Path,
    display: _Display,
    *,
    mosaic: bool,
) -> list[SceneReport]:
    """Map scenes, and say what became of them."""
    from pipeline.files.index import INDEX
    from pipeline.infer.choose import workers_for
    from pipeline.mosaic.run import map_mosaic
    from pipeline.segment.folder import segment_folder

    progress = progress_for(as_json=display.as_json, quiet=display.quiet)
    try:
        with workers_for(config) as open_workers:
            run = map_mosaic if mosaic else segment_folder
            reports = run(scenes, refused, model, config, out, open_workers, progress)
    finally:
        progress.close()
    counts = {status: sum(r.status == status for r in reports) for status in ("done", "skipped", "partial", "failed")}
    if not display.quiet and not display.as_json:
        echo(", ".join(f"{n} {status}" for status, n in counts.items() if n) + f"; {out / INDEX}", err=True)
    if display.quiet:
        for report in reports:
            if report.status in ("failed", "partial"):
                echo(f"geoseg: {report.scene}: {report.status}: {report.reason}", err=True)
    return reports


def progress_for(*, as_json: bool, quiet: bool) -> Progress:
    """The display of a run's progress."""
    from pipeline.cli.streams import silence
    from pipeline.segment.bars import bars
    from pipeline.segment.progress import JsonProgress, Lasting, PlainProgress, Quiet

    if as_json:
        return Lasting(JsonProgress(), lambda: silence(sys.stdout))
    if quiet:
        return Quiet()
    return Lasting(bars() if sys.stderr.isatty() else PlainProgress())


def dry_run(scenes: Sequence[SceneRef], refused: Sequence[Refused], model: AnyModel, config: Config, *, as_json: bool) -> int:
    """Print the plans of scenes; the exit code."""
    from geoseg.errors import OutsideAreaError, SceneError
    from pipeline.plan.catalogued import is_catalogued
    from pipeline.plan.make import make_plan
    from pipeline.plan.plan import estimate_seconds

    failed = any(r.status == "failed" for r in refused)
    for item in refused:
        echo(f"{item.name}: {item.status}: {item.reason}", err=True)
    if is_catalogued(scenes):
        _show_catalogued(scenes, model.card, config, as_json=as_json)
        return 1 if failed else 0
    per_pixel: float | None = None
    for ref in scenes:
        try:
            plan = make_plan(ref, model, config, scenes=len(scenes))
        except OutsideAreaError as error:
            echo(f"{ref.name}: skipped: {error}", err=True)
            continue
        except SceneError as error:
            failed = True
            echo(f"{ref.name}: failed: {error}", err=True)
            continue
        if per_pixel is None:
            per_pixel = estimate_seconds(plan) / max(1, plan.estimate.computed_pixels)
        _show(plan, per_pixel, as_json=as_json)
    return 1 if failed else 0


def _show_catalogued(scenes: Sequence[SceneRef], card: Card, config: Config, *, as_json: bool) -> None:
    """Print what a catalogue says of scenes, a line each, and what they are together."""
    from pipeline.plan.catalogued import catalogued, totals

    found = list(catalogued(scenes, card, config))
    for scene in found:
        facts = scene.describe()
        if as_json:
            echo(json.dumps(facts, ensure_ascii=False))
            continue
        size = "size not known" if scene.shape is None else "{} x {} px".format(*scene.shape)
        clouds = "" if facts["cloud_cover"] is None else f", {facts['cloud_cover']:g} % clouds"
        echo(f"{scene.ref.name}: {facts['acquired'] or 'no date'}, {size}{clouds}")
    summed = totals(found, card, config)
    if as_json:
        echo(json.dumps(summed, ensure_ascii=False))
        return
    echo()
    for key, value in summed.items():
        echo(f"{key:10} {value}")


def dry_run_mosaic(
    scenes: Sequence[SceneRef], refused: Sequence[Refused], model: AnyModel, config: Config, out: Path, *, as_json: bool
) -> int:
    """Print the plan of a mosaic; the exit code."""
    from geoseg.errors import OutsideAreaError
    from pipeline.mosaic.planning import laid_out
    from pipeline.mosaic.scene_index import KnownScenes
    from pipeline.mosaic.scenes import survey
    from pipeline.mosaic.utm_zones import by_zones, jobs_by_area
    from pipeline.plan.plan import estimate_seconds

    jobs = jobs_by_area(scenes, refused, model, config, out)
    known = KnownScenes({job.folder.parent for job in jobs}, config, model)
    given = survey(jobs[0].ref.later, config, model.card, known=known.given)
    for one in [zone for job in jobs for zone in by_zones(job, given)]:
        try:
            plan, _, _ = laid_out(given, one)
        except OutsideAreaError as error:
            if one.ref.area is None:
                raise
            echo(f"{one.ref.name}: skipped: {error}", err=True)
            continue
        _show(plan, estimate_seconds(plan) / max(1, plan.estimate.computed_pixels), as_json=as_json)
    return 0


def _show(plan: Plan, per_pixel: float, *, as_json: bool) -> None:
    facts = {
        **plan.describe(),
        "network": f"about {per_pixel * plan.estimate.computed_pixels:.0f} s of computing",
        "warnings": list(plan.warnings),
    }
    if as_json:
        echo(json.dumps(facts, ensure_ascii=False))
        return
    for key, value in facts.items():
        echo(f"{key:10} {'; '.join(value) if isinstance(value, list) else value}")
    echo()


command.params += config_options(("scene", "area", "stac", "grid", "infer", "vector", "mosaic", "composite", "run"), ("method",))
