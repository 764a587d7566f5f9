"""Where reviews of a map lie: beside its files, in a folder of their own that no run writes, replaces or counts.

::

    OUT/scene/reviews/log.jsonl    what people decided, a line each; it only grows
    OUT/scene/reviews/1, 2 ...     versions of the map with the decisions of the log, each a result folder of its own
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["LOG", "REVIEWS", "is_reviews", "lies_in_reviews", "walk_results"]

REVIEWS, LOG = "reviews", "log.jsonl"


def is_reviews(folder: Path) -> bool:
    """Whether a folder is that of reviews; a scene may have this name, too."""
    return folder.name == REVIEWS and (folder / LOG).is_file()


def lies_in_reviews(path: Path, below: Path) -> bool:
    """Whether a path lies in reviews of what is below a folder; that this folder is a version itself does not count."""
    return any(is_reviews(parent) for parent in path.parents if parent != below and below in parent.parents)


def walk_results(out: Path) -> Iterator[tuple[Path, list[str]]]:
    """The folders of an output folder with the names of their files, without hidden ones and reviews."""
    for root, folders, names in os.walk(out):
        folder = Path(root)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not is_reviews(folder / name))
        yield folder, names
