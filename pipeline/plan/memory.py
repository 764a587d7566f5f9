"""Memory budget of a process, and what a chunk takes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from geoseg.addresses import is_remote
from geoseg.grid import Grid
from geoseg.models.card import Card
from geoseg.scenes.scene import MemoryLimit, Scene
from pipeline.config.memory import BASE_BYTES, default_memory
from pipeline.config.sections import Config

__all__ = [
    "Share",
    "chunk_bytes",
    "forward_bytes",
    "memory_limit",
    "pixel_bytes_of",
    "process_budget",
    "processes",
    "read_threads",
    "share_of",
    "shrink_to",
]

READ_THREADS = 4
REMOTE_THREADS = 16
"""Threads that read from servers, which are waited for most of the time."""
REMOTE_BYTES = 64 << 20
"""What the blocks that these decode at once may take."""
MAX_IN_FLIGHT = 4
SMALL_BLOCK = 8 << 20
"""Blocks up to this many bytes need no place in the plan."""
DECODED = 2
"""Copies of a block that a thread holds: what GDAL decoded, and the bands that it made of it."""


def shrink_to(grid: Grid, budget: int, pixel_bytes: int, card: Card) -> Grid:
    """Chunks so small that two fit into the budget, if tiles allow it."""
    limit = max(budget - BASE_BYTES - card.bytes_per_pixel * grid.tile**2, budget / 4) * 0.75 / 2
    while grid.chunk > grid.step and chunk_bytes(grid, pixel_bytes, card) > limit:
        grid = replace(grid, chunk=max(grid.step, grid.chunk // 2))
    return grid


def memory_limit(config: Config, forward: int = 0) -> MemoryLimit:
    """Memory that reading scenes may take beside a network of so many bytes."""
    return MemoryLimit(budget=process_budget(config), base=BASE_BYTES + forward, processes=processes(config))


def forward_bytes(card: Card, config: Config) -> int:
    """Memory of the network in bytes."""
    return int(card.bytes_per_pixel * config.grid.tile**2 * max(1, config.infer.batch))


def read_threads(scene: Scene, spare: int) -> tuple[int, int]:
    """Number of threads that may decode blocks at once, and the bytes that they take; ``spare`` is what is left for pixels."""
    block = max(file.block_bytes for file in scene.files)
    if block <= SMALL_BLOCK:
        if any(is_remote(file.path) for file in scene.files):
            return int(np.clip(REMOTE_BYTES // (DECODED * max(1, block)), READ_THREADS, REMOTE_THREADS)), 0
        return READ_THREADS, 0
    threads = int(np.clip(spare // 4 // (DECODED * block), 1, READ_THREADS))
    return threads, threads * DECODED * block


@dataclass(frozen=True, slots=True)
class Share:
    """Division of the memory of a process."""

    read_threads: int
    in_flight: int
    """Chunks that are worked on at once."""
    cache_bytes: int
    chunk_bytes: int
    fixed_bytes: int
    """All beside the chunks: libraries, network, cache, blocks that are decoded."""

    @property
    def total_bytes(self) -> int:
        """Memory of a process in bytes."""
        return self.in_flight * self.chunk_bytes + self.fixed_bytes


def share_of(scene: Scene, grid: Grid, pixel_bytes: int, card: Card, config: Config, budget: int) -> Share:
    """Divide the memory of a process between the network, chunks, blocks that are decoded, and those that are kept."""
    bytes_a_chunk = chunk_bytes(grid, pixel_bytes, card)
    forward = forward_bytes(card, config)
    threads, reading = read_threads(scene, memory_limit(config, forward).spare)
    spare = budget - BASE_BYTES - forward - reading
    in_flight = int(np.clip(spare * 0.75 // bytes_a_chunk, 1, MAX_IN_FLIGHT))
    cache = int(np.clip(spare - in_flight * bytes_a_chunk, 32 << 20, 512 << 20))
    return Share(threads, in_flight, cache, bytes_a_chunk, BASE_BYTES + forward + cache + reading)


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
    return (config.infer.memory_bytes or default_memory()) // processes(config)
