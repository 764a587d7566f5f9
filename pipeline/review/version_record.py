"""``run.json`` of a version: that of the run, with what people changed of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from geoseg.codes import NODATA, NOT_ANALYSED
from geoseg.documents import Json
from pipeline.files.version import code_version
from pipeline.review.replay import ClassReviews, Reviewed
from pipeline.review.review_log import ReviewLog
from pipeline.review.subject import Subject
from pipeline.review.version_rasters import Differences

__all__ = ["NOT_AT_RANDOM", "review_facts", "version_document"]

OF_THE_RUN: tuple[str, ...] = (
    "scene",
    "source",
    "given",
    "acquired",
    "product",
    "model",
    "config",
    "plan",
    "domain",
    "dates",
    "series",
)
OF_THE_RUN += ("changes", "registration", "area_of_interest", "clouds", "mosaic", "scenes", "not_analysed")
NOT_AT_RANDOM = (
    "People have corrected this map where it seemed worth it. The reviewed places are no random sample: shares of right and "
    "wrong among them say nothing of the rest; draw one with geoseg sample."
)


def version_document(
    subject: Subject,
    entries: ReviewLog,
    parent: int,
    identity: Mapping[str, object],
    differences: Differences,
    reviewed: Reviewed,
    features: int,
) -> dict[str, object]:
    """The content of ``run.json`` but for the files.

    Args:
        subject: The map.
        entries: The log.
        parent: The version before.
        identity: What the files depend on.
        differences: Pixels before and after.
        reviewed: What was reviewed.
        features: Number of polygons.
    """
    run = subject.document()
    warnings = run.get("warnings")
    names = {one.code: one.name for one in subject.record.classes}
    after, areas = differences.after.pixels, differences.after.area_m2
    return {
        "geoseg": code_version(),
        **{key: run[key] for key in OF_THE_RUN if key in run},
        "status": run.get("status", "done"),
        "reason": run.get("reason"),
        "identity": dict(identity),
        "warnings": [*(warnings if isinstance(warnings, list) else []), NOT_AT_RANDOM],
        "classes": [
            {"code": code, "name": names[code], "pixels": after.get(str(code), 0), "area_m2": _area(areas, code)}
            for code in names
        ],
        "features": features,
        "review": _review(subject, entries, parent, differences, reviewed, names),
        # Of the log, not of the clock: the same decisions make the same bytes.
        "finished": entries.last or run.get("finished"),
    }


def review_facts(
    subject: Subject, entries: ReviewLog, parent: int, reviewed: Reviewed, names: Mapping[int, str], share: float
) -> dict[str, Json]:
    """What was reviewed, by whom, and how far people agreed with the run.

    Args:
        subject: The map.
        entries: The log.
        parent: The version before.
        reviewed: What was reviewed.
        names: Of the classes.
        share: Part of the map that was reviewed, 0 to 1.
    """
    actions = Counter(entry.action for entry in entries.entries)
    return {
        "parent": parent,
        "run_digest": subject.document().get("digest"),
        "log": {"sha256": entries.digest, "decisions": len(entries.entries), "cut_off": entries.torn},
        "reviewers": sorted({entry.by for entry in entries.entries}),
        "actions": dict(sorted(actions.items())),
        "polygons": reviewed.polygons,
        "added": reviewed.added,
        "area_m2": round(reviewed.area_m2, 2),
        "share": round(min(1.0, share), 6),
        "conflicts": reviewed.conflicts,
        "open": reviewed.open,
        "agreement": [_agreement(code, names, one) for code, one in sorted(reviewed.classes.items())],
    }


def _review(
    subject: Subject,
    entries: ReviewLog,
    parent: int,
    differences: Differences,
    reviewed: Reviewed,
    names: Mapping[int, str],
) -> dict[str, Json]:
    before, after = differences.before, differences.after
    mapped = sum(before.area_m2.get(str(code), 0.0) for code in names if code < NOT_ANALYSED)
    return {
        **review_facts(subject, entries, parent, reviewed, names, reviewed.area_m2 / mapped if mapped else 0.0),
        "changed_pixels": differences.changed,
        "differences": [
            {
                "code": code,
                "name": names[code],
                "pixels_before": before.pixels.get(str(code), 0),
                "pixels_after": after.pixels.get(str(code), 0),
                "area_m2_before": _area(before.area_m2, code),
                "area_m2_after": _area(after.area_m2, code),
            }
            for code in names
            if code != NODATA
        ],
        "moved": [
            {"from": row, "to": col, "pixels": int(differences.moved[row, col])}
            for row, col in np.argwhere(differences.moved).tolist()
        ],
    }


def _agreement(code: int, names: Mapping[int, str], one: ClassReviews) -> dict[str, Json]:
    return {
        "code": code,
        "name": names.get(code, f"class {code}"),
        "polygons": one.polygons,
        "area_m2": round(one.area_m2, 2),
        "agreed": one.agreed,
        "agreed_m2": round(one.agreed_m2, 2),
        "share": round(one.agreed / one.polygons, 6),
        "share_of_area": round(one.agreed_m2 / one.area_m2, 6) if one.area_m2 else None,
        "redrawn": one.redrawn,
        "rejected": one.rejected,
        "became": {str(to): count for to, count in sorted(one.became.items())},
    }


def _area(areas: Mapping[str, float], code: int) -> float | None:
    return None if code == NODATA else round(areas.get(str(code), 0.0), 2)
