"""The models of this machine: shipped ones, those in the cache of the hub, and model folders where one looks."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from geoseg.errors import ConfigError, ModelError
from geoseg.models.card import Card
from geoseg.models.model_folder import CARD, SHIPPED, shipped_models
from pipeline.adopt.run import RECORD

__all__ = ["Listed", "list_models"]

Kind = Literal["shipped", "cached", "adopted", "folder"]
log = logging.getLogger(__name__)

DEPTH = 2
"""Folders below the one that is looked at."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A model, as far as its card tells."""

    model: str
    """What ``--model`` takes."""
    kind: Kind
    card: Card | None
    refused: str = ""
    """Why its card can't be read."""


def list_models(folders: Sequence[Path]) -> list[Listed]:
    """All models: shipped, in the cache of the hub, and in folders, two levels deep.

    Args:
        folders: Where to look.

    Raises:
        ConfigError: One is not there.
    """
    found = [_listed(name, "shipped", SHIPPED / name) for name in shipped_models()]
    found += [_listed(name, "cached", folder) for name, folder in _cached()]
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no such folder")
        below = [*_below(folder)]
        if not below and folder != Path():
            log.warning("%s: holds no model folder down to %d levels; name one, or the folder of some", folder, DEPTH)
        for one in below:
            found.append(_listed(str(one), "adopted" if (one / RECORD).is_file() else "folder", one))
    return found


def _listed(model: str, kind: Kind, folder: Path) -> Listed:
    try:
        return Listed(model, kind, Card.read(folder / CARD))
    except ModelError as error:
        return Listed(model, kind, None, str(error))


def _below(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """Model folders: this one, or those in it. Folders that this user may not look into are said, and left out."""
    try:
        if (folder / CARD).is_file():
            yield folder
            return
        names = sorted(folder.iterdir()) if depth else []
        inside = [one for one in names if not one.is_symlink() and one.is_dir() and not one.name.startswith(".")]
    except OSError as error:
        log.warning("%s: can't be looked through: %s", folder, error.strerror)
        return
    for one in inside:
        yield from _below(one, depth - 1)


def _cached() -> Iterator[tuple[str, Path]]:
    """Model folders in the cache of the hub by ``owner/name``; of each the snapshot that was got last."""
    try:
        from huggingface_hub.constants import HF_HUB_CACHE
    except ImportError:
        return
    for repository in sorted(Path(HF_HUB_CACHE).glob("models--*--*")):
        cards = list(repository.glob(f"snapshots/*/{CARD}"))
        if cards:
            latest = max(cards, key=lambda card: card.parent.stat().st_mtime)
            yield repository.name.removeprefix("models--").replace("--", "/"), latest.parent
