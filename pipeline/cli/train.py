"""``geoseg train``."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click

from pipeline.cli.beginning import init_option
from pipeline.cli.output import echo

__all__ = ["command"]


def _begin() -> str:
    from pipeline.train.recipe import recipe_to_begin_from

    return recipe_to_begin_from()


@click.command("train")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--out", "-o", type=click.Path(path_type=Path), help="The model folder to make; --dry-run needs none.")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="TABLE.KEY=VALUE",
    help="Change a value of the recipe: loop.steps=500; nothing behind the = takes it out.",
)
@init_option(_begin, "geoseg train {path} --out MODEL --dry-run")
@click.option("--overwrite", is_flag=True, help="Replace a model or a training that was made from another recipe or other data.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Open the data, measure a few steps on a copy, print what would be trained, what it takes and what to mind, and stop.",
)
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")
def command(recipe: Path, out: Path | None, changes: tuple[str, ...], overwrite: bool, dry_run: bool, quiet: bool) -> int:
    """Train a network from labelled scenes: RECIPE is a TOML file.

    Run again after an interruption, and it goes on from its last checkpoint.
    """
    if out is None and not dry_run:
        raise click.UsageError("Missing option '--out' / '-o'.")
    from pipeline.config.document import read_toml
    from pipeline.train.recipe import Recipe

    document = read_toml(recipe)
    for change in changes:
        _set(document, change)
    wanted = Recipe.parse(document).beside(recipe.parent)

    from pipeline.train.run import describe, train

    if not quiet:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        for name in ("geoseg", "pipeline"):
            logging.getLogger(name).addHandler(handler)
            logging.getLogger(name).setLevel(logging.INFO)
    if out is None or dry_run:
        lines, warnings = describe(wanted)
        for key, value in lines.items():
            echo(f"{key:12} {value}")
        for warning in warnings:
            echo(f"{'warning':12} {warning}")
        return 0
    model = train(wanted, out, overwrite=overwrite, progress=not quiet and sys.stderr.isatty())
    if not quiet:
        echo(f"{model.card.name}: {model.path}", err=True)
    return 0


def _set(document: dict[str, object], change: str) -> None:
    """Put one ``table.key=value`` into the document; a value that is not TOML is taken as text."""
    from geoseg.documents import parse_toml
    from geoseg.errors import ConfigError
    from pipeline.config.document import put

    path, separator, text = change.partition("=")
    if not separator or not path.strip().split(".")[-1]:
        raise ConfigError(f"--set: {change!r} is not TABLE.KEY=VALUE; write for example --set loop.steps=500")
    try:
        value = parse_toml(f"value = {text}", "--set", ConfigError)["value"] if text else None
    except ConfigError:
        # What is no TOML is text; what is TOML with a number that can't be taken is told of where the key is checked.
        value = text
    put(document, path, value)
