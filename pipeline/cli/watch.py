"""``geoseg watch``."""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from geoseg.dialect import number_of
from pipeline.cli.beginning import init_option
from pipeline.cli.groups import gathered
from pipeline.cli.options import ConfiguredCommand, config_from, config_options, given_in
from pipeline.cli.output import echo, log_to_stderr
from pipeline.cli.segment import progress_for

if TYPE_CHECKING:
    from pipeline.config.sections import Config

__all__ = ["command"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Looking:
    """Times and purpose of scans."""

    every: str
    once: bool
    dry_run: bool
    forget: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """Questions to a watch."""

    list_: bool
    names: tuple[str, ...]
    health: bool
    max_age: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """Form of what is printed."""

    as_json: bool
    quiet: bool


SECTIONS = ("watch", "mosaic", "stac", "scene", "area", "grid", "infer", "vector", "run")
LEFT_OUT = ("strict", "overwrite")


def _begin() -> str:
    from pipeline.config.commented import commented_table
    from pipeline.config.sections import Config

    others = [name for name in Config.model_fields if name not in SECTIONS]
    return "# Settings of a watch.\n" + commented_table(Config, leave_out=(*others, *LEFT_OUT))


@click.command("watch", cls=ConfiguredCommand)
@click.argument("sources", nargs=-1)
@click.option("--model", "-m", help="A model folder, the name of a shipped model, or owner/name on the Hugging Face hub.")
@click.option("--out", "-o", type=click.Path(path_type=Path), help="Output folder; one folder a scene is made in it.")
@click.option("--every", default="10m", show_default=True, metavar="DURATION", help="Time between two looks: 30s, 10m, 1h.")
@click.option("--once", is_flag=True, help="Look once and stop, for a timer of the system.")
@click.option("--dry-run", "dry_run", is_flag=True, help="Say what would be mapped now and why; change nothing.")
@click.option(
    "--list", "list_", is_flag=True, help="Of output folders (geoseg watch OUT --list): scenes, attempts, next try, reason."
)
@click.option(
    "--release", "names", multiple=True, metavar="NAME", help="Of output folders: try a scene again at the next scan, or all."
)
@click.option("--health", is_flag=True, help="Of an output folder: say in one line whether scans go on; exit code 1 if not.")
@click.option(
    "--max-age", metavar="DURATION", help="For --health: longest time without a scan. [default: three scans, at least 15m]"
)
@click.option(
    "--forget-removed",
    "--prune",
    "forget",
    is_flag=True,
    help="Forget scenes that have gone from the sources and from the output, and old logs; with --dry-run, say which.",
)
@init_option(_begin, "geoseg watch SOURCES --model MODEL --out OUT --config {path}")
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    help="A TOML file with the options below, a table a section; options on the command line come over it.",
)
@click.option("--json", "as_json", is_flag=True, help="Progress, or what was asked for, as JSON lines on standard output.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")
@gathered(looking=_Looking, asked=_Asked, shown=_Shown)
def command(
    sources: tuple[str, ...],
    model: str | None,
    out: Path | None,
    looking: _Looking,
    asked: _Asked,
    file: Path | None,
    shown: _Shown,
    **options: object,
) -> int:
    """Map whatever appears in folders, globs, list files, s3://bucket/prefix/ or stac+https://api.

    New and changed scenes are mapped, what an interrupted run left is finished, published files that were damaged are
    made again, the rest is left alone. With --list, --release or --health, SOURCES are the output folders of a watch.
    """
    from geoseg.errors import ConfigError
    from pipeline.config.idle import Purpose, refuse_idle

    if not sources and out is None:
        raise ConfigError("SOURCES: missing; name what is watched: a folder, a glob, s3://bucket/prefix/ or stac+https://api")
    log_to_stderr()
    if asked.list_ or asked.names or asked.health:
        outs = [out] if out is not None else [Path(source) for source in sources]
        return (
            _health(outs, asked.max_age)
            if asked.health
            else _release(outs, asked.names)
            if asked.names
            else _list(outs, as_json=shown.as_json)
        )
    if not sources:
        raise ConfigError("SOURCES: missing; name what is watched: a folder, a glob, s3://bucket/prefix/ or stac+https://api")
    if out is None:
        raise ConfigError("--out: missing; name the folder that maps are written to")
    config = config_from(options, file)
    refuse_idle(given_in(options), config, Purpose(inputs=sources, mosaic=config.watch.mosaic))
    if looking.forget:
        return _forget(sources, config, out, only_say=looking.dry_run)
    if model is None:
        raise ConfigError("--model: missing; name a model folder or a shipped model")
    every_s = _seconds("--every", looking.every)
    if looking.dry_run:
        return _say_plan(sources, model, config, out, as_json=shown.as_json)
    return _watch(sources, model, config, out, every_s, once=looking.once, as_json=shown.as_json, quiet=shown.quiet)


def _watch(
    sources: tuple[str, ...], model: str, config: Config, out: Path, every_s: float, *, once: bool, as_json: bool, quiet: bool
) -> int:
    from geoseg.models.model_folder import load_model
    from pipeline.infer.choose import workers_for
    from pipeline.watch.run import watch
    from pipeline.watch.scan import scan_once
    from pipeline.watch.status import StatusWriter

    loaded = load_model(model)
    progress = progress_for(as_json=as_json, quiet=quiet)
    try:
        if not once:
            watch(
                sources,
                loaded,
                config,
                out,
                lambda: workers_for(config),
                every_s=every_s,
                stop=threading.Event(),
                progress=progress,
            )
            return 0
        status = StatusWriter(out)
        with workers_for(config) as open_workers:
            reports = scan_once(sources, loaded, config, out, open_workers, progress, status)
        if status.settling and not quiet:
            waits = "1 scene waits" if status.settling == 1 else f"{status.settling:,} scenes wait"
            log.warning("%s: changed less than %s ago (--settle), or without the marker", waits, config.watch.settle)
        return 1 if status.away or any(report.status in ("failed", "partial") for report in reports) else 0
    finally:
        progress.close()


def _say_plan(sources: tuple[str, ...], model: str, config: Config, out: Path, *, as_json: bool) -> int:
    from geoseg.models.model_folder import load_model
    from pipeline.watch.upkeep import would_map

    for line in would_map(sources, load_model(model), config, out):
        echo(json.dumps(line, ensure_ascii=False) if as_json else f"{line['action']:7} {line['scene']}: {line['reason']}")
    return 0


def _list(outs: list[Path], *, as_json: bool) -> int:
    from pipeline.watch.upkeep import list_scenes

    scenes = list_scenes(outs)
    if as_json:
        for scene in scenes:
            echo(json.dumps(scene.document(), ensure_ascii=False))
        return 0
    rows = [("scene", "status", "attempts", "next try", "reason")]
    rows += [
        (s.name if len(outs) == 1 else f"{s.out}: {s.name}", s.status, str(s.attempts), s.next_try or "-", s.reason or "-")
        for s in scenes
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        echo("  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[4]]).rstrip())
    return 0


def _release(outs: list[Path], names: tuple[str, ...]) -> int:
    from pipeline.watch.upkeep import release

    freed = release(outs, names)
    for name in freed:
        echo(f"{name}: tried again at the next scan")
    if not freed:
        echo("no scene waits or is in quarantine")
    return 0


def _health(outs: list[Path], max_age: str | None) -> int:
    from pipeline.watch.health import health

    limit = None if max_age is None else _seconds("--max-age", max_age)
    found = [(out, *health(out, limit)) for out in outs]
    for out, _, line in found:
        echo(line if len(found) == 1 else f"{out}: {line}")
    return 0 if all(well for _, well, _ in found) else 1


def _forget(sources: tuple[str, ...], config: Config, out: Path, *, only_say: bool) -> int:
    from pipeline.watch.upkeep import forget_removed

    names = forget_removed(sources, config, out, only_say=only_say)
    for name in names:
        echo(f"{name}: {'would be forgotten' if only_say else 'forgotten'}")
    echo(f"{number_of(len(names), 'scene')} {'to be forgotten' if only_say else 'forgotten'}")
    return 0


def _seconds(option: str, text: str) -> float:
    from geoseg.errors import ConfigError
    from pipeline.config.units import MAX_DURATION_S, parse_seconds

    try:
        seconds = parse_seconds(text)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from error
    if seconds > MAX_DURATION_S:
        raise ConfigError(f"{option}: {text!r} is longer than a year")
    return seconds


command.params += config_options(
    SECTIONS,
    leave_out=LEFT_OUT,
)
