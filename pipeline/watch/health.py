"""Whether a watch is well, from its status file alone: for probes of containers, timers and people."""

from __future__ import annotations

import time
from pathlib import Path

from geoseg.dialect import number_of
from pipeline.watch.status import STATUS_JSON, read_status

__all__ = ["health"]

LEAST_AGE_S, SCANS = 900.0, 3
"""Without a limit given: nothing scanned for so long, or for so many scans, whichever is more."""
AHEAD_S = 300.0


def health(out: Path, max_age_s: float | None = None, now: float | None = None) -> tuple[bool, str]:
    """Say whether scenes are being looked at, in one line.

    Not well is a watch without a status, one that has scanned nothing for ``max_age_s`` seconds and is not at work, and one
    whose last scan has failed. Scenes in quarantine are told of: they wait for a person, and do not hold up others.

    Args:
        out: The output folder.
        max_age_s: Longest time since the last scan. [default: three scans, at least 15 minutes]
        now: Seconds since 1970.
    """
    status = read_status(out)
    if status is None:
        return False, f"not well: {out / STATUS_JSON} is not there or can't be read; is geoseg watch running with this --out?"
    now = time.time() if now is None else now
    try:
        every, scan, scenes = status["every_s"], status["scan"], status["scenes"]
        limit = max_age_s if max_age_s is not None else max(LEAST_AGE_S, SCANS * float(every or 0))
        written, good = float(status["updated_at"]), status["last_good_scan_at"]
        counts = ", ".join(f"{int(count)} {name.replace('_', ' ')}" for name, count in scenes.items() if int(count))
        result, reason, at_work = scan["result"], scan["reason"], status["state"] == "scanning"
    except (KeyError, TypeError, ValueError, AttributeError):
        return False, f"not well: {out / STATUS_JSON} is not what geoseg writes"
    away = status.get("away") or []
    facts = f"{counts or 'no scenes'}; status {status['state']}" + (f"; {number_of(len(away), 'source')} away" if away else "")
    if written - now > AHEAD_S:
        # A watch that lives writes anew within seconds, with the clock of today.
        return False, f"not well: the status was written {written - now:.0f} s ahead of the clock, and not since; {facts}"
    # A scan may take hours, and says every some seconds that it lives.
    last = max(float(good or 0.0), written if at_work else 0.0)
    if result == "failed":
        return False, f"not well: the last scan failed: {reason}; {facts}"
    if now - last > limit:
        since = f"for {(now - last) / 60:.0f} minutes" if last else "yet"
        return False, f"not well: nothing scanned {since} (limit {limit / 60:.0f} minutes); {facts}"
    held = int(scenes.get("quarantined", 0))
    quarantine = f"; {held} in quarantine, see geoseg watch --list" if held else ""
    return True, f"well: {facts}; last good scan {max(0.0, now - float(good or last)):.0f} s ago{quarantine}"
