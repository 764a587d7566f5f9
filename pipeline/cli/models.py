"""``geoseg models``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.output import echo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.adopt.model_list import Listed

__all__ = ["command"]

MOST_NAMES = 13
"""In a cell; the bands of Sentinel-2 are as many."""


@click.command("models")
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(folders: tuple[Path, ...], as_json: bool) -> int:
    """List models: those shipped, those in the cache of the hub, and model folders, two levels deep in FOLDERS.

    Without FOLDERS this folder is looked through. The first column is what --model takes.
    """
    from pipeline.adopt.model_list import list_models

    found = list_models(folders or (Path(),))
    if as_json:
        echo(json.dumps([_document(one) for one in found], indent=2, ensure_ascii=False))
        return 0
    rows = [("model", "where", "pixels", "bands", "classes", "licence"), *map(_row, found)]
    widths = [max(len(row[k]) for row in rows) for k in range(5)]
    for row in rows:
        echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, (*widths, 0), strict=True)).rstrip())
    return 0


def _row(one: Listed) -> tuple[str, str, str, str, str, str]:
    card = one.card
    if card is None:
        return one.model, one.kind, "", "", f"refused: {one.refused}", ""
    size = "any" if card.gsd_m is None else f"{card.gsd_m:g} m"
    return one.model, one.kind, size, _few(card.bands), _few([c.name for c in card.classes]), card.license


def _few(names: Sequence[str]) -> str:
    """The names, or the first of them and how many there are: a table is as wide as its widest cell."""
    return ",".join(names) if len(names) <= MOST_NAMES else f"{','.join(names[:MOST_NAMES])},… ({len(names)})"


def _document(one: Listed) -> dict[str, object]:
    card = one.card
    if card is None:
        return {"model": one.model, "where": one.kind, "refused": one.refused}
    return {
        "model": one.model,
        "where": one.kind,
        "name": card.name,
        "version": card.version,
        "description": card.description,
        "gsd_m": card.gsd_m,
        "bands": list(card.bands),
        "classes": [c.name for c in card.classes],
        "license": card.license,
    }
