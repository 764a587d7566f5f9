"""Decisions of a program, recorded as those of the page are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.review.decisions import Decision
from pipeline.review.place import place_of
from pipeline.review.review_log import ReviewLog
from pipeline.review.subject import Subject, polygons_in

__all__ = ["record"]


def record(folder: Path, documents: Iterable[Mapping[str, object]], name: str) -> int:
    """Record decisions on a map, all or none.

    Args:
        folder: The folder of a scene, or of one of its versions.
        documents: The decisions; without ``version``, of the version that the folder is.
        name: Who decides.

    Returns:
        How many entries the log has now.

    Raises:
        ConfigError: One is no decision, or is of a polygon or class that the map does not have; nothing is recorded then.
        OutputError: The log can't be written.
    """
    subject = Subject.open(folder)
    decisions = [Decision.parse({"version": subject.version, **document}) for document in documents]
    log = ReviewLog.read(subject.log, subject.run_id)
    if not decisions:
        return len(log.entries)
    codes, own = subject.codes, subject.own_codes
    known = {(subject.version, one.id, one.part) for _, polygons in polygons_in(subject.polygons()) for one in polygons}
    place = place_of(subject)
    for decision in decisions:
        subject.units.check(decision, subject.version, known, codes, own, str(subject.folder))
        if place is not None:
            place.check(decision)
    subject.begin()
    log.append(decisions, name, "program")
    return len(log.entries)
