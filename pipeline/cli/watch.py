"""``geoseg watch``."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import click

from pipeline.cli.options import ConfiguredCommand, config_from, config_options
from pipeline.cli.output import log_to_stderr
from pipeline.cli.segment import progress_for

__all__ = ["command"]


@click.command("watch", cls=ConfiguredCommand)
@click.argument("sources", nargs=-1, required=True)
@click.option(
    "--model", "-m", required=True, help="A model folder, the name of a shipped model, or owner/name on the Hugging Face hub."
)
@click.option(
    "--out", "-o", type=click.Path(path_type=Path), required=True, help="Output folder; one folder a scene is made in it."
)
@click.option("--every", default="10m", show_default=True, metavar="DURATION", help="Time between two looks: 30s, 10m, 1h.")
@click.option("--once", is_flag=True, help="Look once and stop, for a timer of the system.")
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    help="A TOML file with the options below, a table a section; options on the command line come over it.",
)
@click.option("--json", "as_json", is_flag=True, help="Progress as JSON lines on standard output.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")
def command(
    sources: tuple[str, ...], model: str, out: Path, every: str, once: bool, file: Path | None, as_json: bool, quiet: bool,
    **options: Any,
) -> int:  # fmt: skip
    """Map whatever appears in folders, globs, list files, s3://bucket/prefix/ or stac+https://api.

    New and changed scenes are mapped, what an interrupted run left is finished, the rest is left alone.
    """
    from geoseg.errors import ConfigError
    from geoseg.models.folder import load_model
    from pipeline.config import parse_seconds
    from pipeline.scan import scan_once, watch
    from pipeline.workers import workers_for

    try:
        every_s = parse_seconds(every)
    except ValueError as error:
        raise ConfigError(f"--every: {error}") from error
    log_to_stderr()
    config = config_from(options, file)
    loaded = load_model(model)
    progress = progress_for(as_json=as_json, quiet=quiet)
    try:
        with workers_for(config) as open_workers:
            if once:
                reports = scan_once(sources, loaded, config, out, open_workers, progress)
                return 1 if any(report.status in ("failed", "partial") for report in reports) else 0
            watch(
                sources, loaded, config, out, open_workers, every_s=every_s, stop=threading.Event(), progress=progress
            )  # fmt: skip
    finally:
        progress.close()
    return 0


command.params += config_options(("watch", "stac", "scene", "grid", "infer", "vector", "run"), leave_out=("strict", "overwrite"))
