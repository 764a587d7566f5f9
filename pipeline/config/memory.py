"""Default memory limit of a process."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["BASE_BYTES", "default_memory"]

BASE_BYTES = 400 << 20
"""A process with its libraries."""


def default_memory() -> int:
    """A quarter of the memory that is free."""
    for limit_file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limit = int(Path(limit_file).read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
        if limit < 1 << 50:
            return max(500 << 20, min(limit, _available()) // 4)
    return max(500 << 20, _available() // 4)


def _available() -> int:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
