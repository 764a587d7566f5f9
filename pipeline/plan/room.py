"""Free space, asked for before the work that would fill it."""

from __future__ import annotations

import shutil
from pathlib import Path

from geoseg.errors import OutputError
from geoseg.transient import passing
from pipeline.plan.plan import Plan

__all__ = ["check_room"]

LEAST = 0.1
"""Share of the estimate that no map was seen to stay below: chunk results and outputs together, however well they compress."""
RESERVE = 1 << 20


def check_room(folder: Path, plan: Plan, done: int) -> None:
    """Refuse a run that can't fit on the disk.

    Args:
        folder: The scene's folder, which is there.
        plan: The plan.
        done: Chunks whose results are there already.

    Raises:
        OutputError: There is less free space than the run takes at the very least; that may pass.
    """
    share = 1.0 - done / max(1, len(plan.active))
    about = int(plan.estimate.disk_bytes * share) + RESERVE
    least = int(plan.estimate.disk_bytes * share * LEAST) + RESERVE
    free = shutil.disk_usage(folder).free
    if free < least:
        raise passing(
            OutputError(
                f"{folder}: {_told(free)} are free, and the run takes about {_told(about)}, {_told(least)} at the very least; "
                "make room or choose another --out"
            )
        )


def _told(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
