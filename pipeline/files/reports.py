"""Reports of scenes as they lie in an output folder: found, read, and held against the files that they speak of."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.files.owned import Record
from pipeline.files.reviews import walk_results
from pipeline.files.run_folder import MADE, REPORT
from pipeline.files.scene_record import SceneRecord

__all__ = ["difference", "note_files", "reports_below", "review_note"]


def reports_below(out: Path) -> Iterator[tuple[str, SceneRecord]]:
    """The scenes of an output folder by name, with their records; what can't be read is passed over."""
    for folder, names in walk_results(out):
        if REPORT in names and (record := SceneRecord.read(folder)) is not None:
            yield folder.relative_to(out).as_posix(), record


def note_files(folder: Path) -> dict[str, tuple[int, int]] | None:
    """Size and time of change of the files that a scene's report lists, and of the report; None without a report.

    A folder that was made at once has its record under another name.
    """
    record = SceneRecord.read(folder)
    made = None if record is not None else Record.read(folder / MADE)
    files = made.files if made is not None else None if record is None else record.files
    if files is None:
        return None
    found = {}
    for name in (*files, REPORT if made is None else MADE):
        try:
            facts = os.stat(folder / name)
        except (OSError, ValueError):
            # Noted as one that is not there: should it still be gone the next time, that is a difference.
            found[name] = (-1, 0)
        else:
            found[name] = (facts.st_size, facts.st_mtime_ns)
    return found


def difference(folder: Path, noted: Mapping[str, object] | None) -> str | None:
    """Name a file of a scene that is not as it was left; None where all are. Costs a look at each name, and opens nothing.

    Args:
        folder: The scene's folder.
        noted: What ``note_files`` gave when the scene was done; None asks the report for the sizes.
    """
    if noted is None:
        return _against_report(folder)
    base = f"{folder}{os.sep}"
    for name, left in noted.items():
        if not isinstance(left, Sequence):
            return _against_report(folder)
        try:
            facts = os.stat(base + name)
        except OSError:
            return f"{name} is gone"
        except ValueError:
            return _against_report(folder)
        if [facts.st_size, facts.st_mtime_ns] != list(left):
            return f"{name} has changed"
    return None if REPORT in noted or MADE in noted else "no report was noted"


def _against_report(folder: Path) -> str | None:
    record = SceneRecord.read(folder)
    if record is None or record.files is None:
        return f"{REPORT} is gone or can't be read"
    try:
        for name, facts in record.files.items():
            if os.stat(folder / name).st_size != facts.bytes:
                return f"{name} has changed"
    except OSError as error:
        return f"{Path(str(error.filename)).name} is gone"
    except ValueError:
        return f"{REPORT} can't be read"
    return None


def review_note(classes: Path) -> str | None:
    """A sentence for those who count on a class raster or buildings that people have corrected; None of any other."""
    record = SceneRecord.read(classes.parent)
    if record is None or record.review is None:
        return None
    review = record.review
    of = "the mapped area" if review.unit == "polygons" else "all"
    return (
        f"{classes}: {review.polygons:,} {review.unit} ({review.share:.1%} of {of}) were reviewed by people, "
        "who looked where it seemed worth it: these places are no random sample, and figures on them say nothing of the rest"
    )
