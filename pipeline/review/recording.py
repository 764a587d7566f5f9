"""Decisions of a program, recorded as those of the page are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from geoseg.codes import MAX_CLASS
from geoseg.errors import ConfigError
from pipeline.review.decisions import Decision
from pipeline.review.review_log import ReviewLog
from pipeline.review.subject import Subject, polygons_in
from pipeline.review.version_rasters import legend_of_map

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
    codes = sorted(style.code for style in legend_of_map(subject.scene)[0] if style.code <= MAX_CLASS)
    known = {(subject.version, one.id, one.part) for _, polygons in polygons_in(subject.polygons()) for one in polygons}
    for decision in decisions:
        if decision.version != subject.version or (decision.key is not None and decision.key not in known):
            raise ConfigError(
                f"decision: polygon {decision.polygon} of version {decision.version} is not on this map, {subject.folder}"
            )
        for code in (decision.code, decision.rest):
            if code is not None and code not in codes:
                raise ConfigError(f"decision: class {code} is none of {', '.join(map(str, codes))}")
    subject.reviews.mkdir(exist_ok=True)
    log.append(decisions, name, "program")
    return len(log.entries)
