"""Memory budget of a process, and what a chunk takes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from geoseg.grid import Grid
from geoseg.models.card import Card
from geoseg.parallel import cores
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
    "share_with_tail",
    "shrink_to",
    "tail_bytes",
]

READ_THREADS = 4
MAX_IN_FLIGHT = 4
SMALL_BLOCK = 8 << 20
"""Blocks up to this many bytes need no place in the plan."""
LEAST_IN_FLIGHT = 2
"""Chunks that keep a network busy: while one is at it, the other is read."""
READERS, KEPT_CHUNKS = 2, 6
"""Stages that read stored chunks, and the bands of chunks that each keeps."""
TAIL_BYTES, TRACED_BYTES = 256 << 20, 32 << 20
"""Squares of 4096 pixels that are stitched and whose coverage is traced; a block of 1024 pixels that a thread traces."""
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
    tail_bytes: int = 0
    """The stages behind the chunks, where they run beside them; 0 where they wait for the last one."""

    @property
    def total_bytes(self) -> int:
        """Memory of a process in bytes."""
        return self.in_flight * self.chunk_bytes + self.fixed_bytes + self.tail_bytes


def share_with_tail(scene: Scene, grid: Grid, pixel_bytes: int, card: Card, config: Config, budget: int) -> Share:
    """Divide the memory of a process as ``share_of``, with a part for the stages behind the chunks where it costs no speed."""
    alone = share_of(scene, grid, pixel_bytes, card, config, budget)
    tail = tail_bytes(grid, config.infer.threads or cores()) // processes(config)
    beside = replace(share_of(scene, grid, pixel_bytes, card, config, budget - tail), tail_bytes=tail)
    enough = beside.in_flight >= min(alone.in_flight, LEAST_IN_FLIGHT) and beside.total_bytes <= budget
    return beside if enough else alone


def tail_bytes(grid: Grid, threads: int) -> int:
    """Memory of stitching, tracing and coverage together: stored chunks that each keeps, squares that each works on."""
    rows = min(grid.rows.per_chunk * grid.step, grid.height)
    cols = min(grid.cols.per_chunk * grid.step, grid.width)
    return READERS * KEPT_CHUNKS * rows * cols + TAIL_BYTES + threads * TRACED_BYTES


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
