"""Reports of scenes as they lie in an output folder: found, read, and held against the files that they speak of."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from geoseg.documents import LARGE, read_json
from pipeline.files.run_folder import REPORT

__all__ = ["difference", "note_files", "read_report", "reports_below"]

Noted = Mapping[str, tuple[int, int]]
"""By name, bytes and time of change in nanoseconds."""


def reports_below(out: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The scenes of an output folder by name, with their reports; what can't be read is passed over."""
    for root, folders, names in os.walk(out):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if REPORT in names and (found := read_report(Path(root))) is not None:
            yield Path(root).relative_to(out).as_posix(), found


def read_report(folder: Path) -> dict[str, Any] | None:
    """The report of a scene; None where there is none that can be read."""
    try:
        found = read_json(folder / REPORT, limit=LARGE)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def note_files(folder: Path) -> dict[str, tuple[int, int]] | None:
    """Size and time of change of the files that a scene's report lists, and of the report; None without a report."""
    report = read_report(folder)
    if report is None or not isinstance(files := report.get("files"), dict):
        return None
    found = {}
    for name in (*files, REPORT):
        try:
            facts = os.stat(folder / name)
        except (OSError, ValueError):
            # Noted as one that is not there: should it still be gone the next time, that is a difference.
            found[name] = (-1, 0)
        else:
            found[name] = (facts.st_size, facts.st_mtime_ns)
    return found


def difference(folder: Path, noted: Mapping[str, Any] | None) -> str | None:
    """What of a scene's files is not as it was left; None where all are. Costs a look at each name, and opens nothing.

    Args:
        folder: The scene's folder.
        noted: What ``note_files`` gave when the scene was done; None asks the report for the sizes.
    """
    if noted is None:
        return _against_report(folder)
    base = f"{folder}{os.sep}"
    try:
        for name, (size, modified) in noted.items():
            try:
                facts = os.stat(base + name)
            except OSError:
                return f"{name} is gone"
            if facts.st_size != size or facts.st_mtime_ns != modified:
                return f"{name} has changed"
    except (TypeError, ValueError):
        return _against_report(folder)
    return None if REPORT in noted else "no report was noted"


def _against_report(folder: Path) -> str | None:
    report = read_report(folder)
    if report is None:
        return f"{REPORT} is gone or can't be read"
    try:
        for name, facts in report["files"].items():
            if os.stat(folder / name).st_size != facts["bytes"]:
                return f"{name} has changed"
    except OSError as error:
        return f"{Path(str(error.filename)).name} is gone"
    except (KeyError, TypeError, AttributeError, ValueError):
        return f"{REPORT} can't be read"
    return None
