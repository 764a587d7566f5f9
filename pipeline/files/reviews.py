"""Where reviews of a map lie: beside its files, in a folder of their own that no run writes, replaces or counts.

::

    OUT/scene/reviews/log.jsonl    what people decided, a line each; it only grows
    OUT/scene/reviews/1, 2 ...     versions of the map with the decisions of the log, each a result folder of its own
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.files.scene_record import SceneRecord

__all__ = ["LOG", "REVIEWS", "is_reviews", "lies_in_reviews", "review_note", "walk_results"]

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


def review_note(classes: Path) -> str | None:
    """A sentence for those who count on a class raster that people have corrected; None of any other."""
    record = SceneRecord.read(classes.parent)
    if record is None or record.review is None:
        return None
    return (
        f"{classes}: {record.review.polygons:,} polygons ({record.review.share:.1%} of the mapped area) were reviewed by people, "
        "who looked where it seemed worth it: these places are no random sample, and figures on them say nothing of the rest"
    )
