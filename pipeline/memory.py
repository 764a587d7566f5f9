"""How much memory there is, and what a chunk takes of it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from geoseg.grid import Grid
from geoseg.models.card import Card
from geoseg.scenes.scene import Scene
from pipeline.config import Config

__all__ = ["BASE_BYTES", "chunk_bytes", "pixel_bytes_of", "process_budget", "processes", "shrink_to"]

BASE_BYTES = 400 << 20
"""A process with its libraries."""


def shrink_to(grid: Grid, budget: int, pixel_bytes: int, card: Card) -> Grid:
    """Chunks so small that two fit into the budget, if tiles allow it."""
    limit = max(budget - BASE_BYTES - card.bytes_per_pixel * grid.tile**2, budget / 4) * 0.75 / 2
    while grid.chunk > grid.step and chunk_bytes(grid, pixel_bytes, card) > limit:
        grid = replace(grid, chunk=max(grid.step, grid.chunk // 2))
    return grid


def pixel_bytes_of(scene: Scene, bands: tuple[int, ...]) -> int:
    """Bytes of the bands of a pixel."""
    return sum(np.dtype(scene.bands[i].dtype).itemsize for i in bands)


def chunk_bytes(grid: Grid, pixel_bytes: int, card: Card) -> int:
    """Memory of a chunk that is worked on: pixels, validity, results; blending adds up scores."""
    rows = min(grid.rows.per_chunk * grid.step + 2 * grid.margin, grid.height)
    cols = min(grid.cols.per_chunk * grid.step + 2 * grid.margin, grid.width)
    return rows * cols * (pixel_bytes + 5 + (4 * card.scores if grid.blend else 0))


def processes(config: Config) -> int:
    """Processes on this machine that share its memory."""
    return max(1, config.run.workers, config.run.max_workers)


def process_budget(config: Config) -> int:
    """Bytes that a process of this machine may use."""
    return (config.infer.memory_bytes or _default_memory()) // processes(config)


def _default_memory() -> int:
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
