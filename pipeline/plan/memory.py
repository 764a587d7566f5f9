"""Memory budget of a process, and what a chunk takes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from geoseg.addresses import is_remote
from geoseg.dialect import setting
from geoseg.errors import ConfigError
from geoseg.grid import Grid
from geoseg.inference.choice import gpu_count
from geoseg.inference.engine import ALL_GPUS, EngineName
from geoseg.models.card import Card
from geoseg.parallel import cores
from geoseg.scenes.scene import MemoryLimit, Scene
from pipeline.config.memory import BASE_BYTES, default_memory
from pipeline.config.sections import Config

__all__ = [
    "Share",
    "chunk_bytes",
    "chunk_side",
    "first_processes",
    "forward_bytes",
    "memory_limit",
    "most_in_flight",
    "pixel_bytes_of",
    "process_budget",
    "processes",
    "read_threads",
    "share_of",
    "share_with_tail",
    "shrink_to",
    "tail_bytes",
]

CHUNK, LARGE_CHUNK = 2048, 4096
"""Sides of chunks. The smaller the less memory, and the sooner what follows the network begins; a GPU is done with a small one in
milliseconds, and a scheduler has less to do where there are few."""
READ_THREADS = 4
"""At least, also where cores are fewer: some wait for the disk or a server."""
MOST_READ_THREADS = 32
"""From 16 to 32 threads, decoding was a quarter faster still (docs/performance.md)."""
IN_FLIGHT = 4
"""Chunks that are worked on at once on a CPU, whose cores are the network's."""
MANY_PIXELS, FEW_IN_FLIGHT = 8 << 20, 3
"""Pixels from which a chunk is at the network long enough for one to be read meanwhile: two are there, and one waits. So it is on
fewer cores than ``IN_FLIGHT``, whatever the chunk."""
MOST_IN_FLIGHT = 16
REMOTE_THREADS = 32
"""Threads that read from servers, which are waited for most of the time."""
REMOTE_BYTES = 64 << 20
"""What the blocks that these decode at once may take."""
SMALL_BLOCK = 8 << 20
"""For blocks up to this many bytes, the fewest threads need no place in the plan."""
LEAST_IN_FLIGHT = 2
"""Chunks that keep a network busy: while one is at it, the other is read."""
READERS, KEPT_BYTES = 3, 16 << 20
"""Those who read stored chunks (rasters, polygons, their origins), and what each keeps of their pixels for the next blocks."""
TAIL_BYTES, TRACED_BYTES = 256 << 20, 32 << 20
"""Squares of 4096 pixels that are stitched and whose coverage is traced; a block of 1024 pixels that a thread traces."""
DECODED = 2
"""Copies of a block that a thread holds: what GDAL decoded, and the bands that it made of it."""


def chunk_side(config: Config, *, on_device: bool = False) -> int:
    """Side in pixels of chunks: that of the settings, or what suits where the network is run."""
    several = config.run.scheduler is not None or processes(config) > 1
    return config.grid.chunk or (LARGE_CHUNK if on_device or several else CHUNK)


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
    return int(card.bytes_per_pixel * (card.tile or config.grid.tile) ** 2 * max(1, config.infer.batch))


def read_threads(scene: Scene, spare: int, count: int) -> tuple[int, int]:
    """Number of threads that may decode blocks at once, and the bytes that they take.

    Args:
        scene: What is read.
        spare: Bytes that are left for pixels.
        count: Cores of the process.
    """
    block = DECODED * max(file.block_bytes for file in scene.files)
    if block <= DECODED * SMALL_BLOCK and any(is_remote(file.path) for file in scene.files):
        return int(np.clip(REMOTE_BYTES // max(1, block), READ_THREADS, REMOTE_THREADS)), 0
    free = READ_THREADS if block <= DECODED * SMALL_BLOCK else 0
    most = int(np.clip(count, READ_THREADS, MOST_READ_THREADS))
    threads = int(np.clip(spare // 4 // block + free, 1, most))
    return threads, max(0, threads - free) * block


def most_in_flight(engine: EngineName, device: str, count: int, pixels: int = 0) -> int:
    """Chunks of so many pixels that may be worked on at once in a process.

    Beside a GPU half its cores read, measure and encode.
    """
    if engine != "torch" or device == "cpu":
        return IN_FLIGHT if pixels < MANY_PIXELS and count >= IN_FLIGHT else FEW_IN_FLIGHT
    return int(np.clip(count // 2, IN_FLIGHT, MOST_IN_FLIGHT))


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


def share_with_tail(
    scene: Scene, grid: Grid, pixel_bytes: int, card: Card, config: Config, budget: int, engine: EngineName = "onnx"
) -> Share:
    """Divide the memory of a process as ``share_of``, with a part for the stages behind the chunks where it costs no speed."""
    alone = share_of(scene, grid, pixel_bytes, card, config, budget, engine)
    tail = tail_bytes(config.infer.threads or cores()) // processes(config)
    beside = replace(share_of(scene, grid, pixel_bytes, card, config, budget - tail, engine), tail_bytes=tail)
    enough = beside.in_flight >= min(alone.in_flight, LEAST_IN_FLIGHT) and beside.total_bytes <= budget
    return beside if enough else alone


def tail_bytes(threads: int) -> int:
    """Memory of stitching, tracing and coverage together: stored chunks that each keeps, squares that each works on."""
    return READERS * KEPT_BYTES + TAIL_BYTES + threads * TRACED_BYTES


def share_of(
    scene: Scene, grid: Grid, pixel_bytes: int, card: Card, config: Config, budget: int, engine: EngineName = "onnx"
) -> Share:
    """Divide the memory of a process between the network, chunks, blocks that are decoded, and those that are kept."""
    own = max(1, cores() // processes(config))
    bytes_a_chunk = chunk_bytes(grid, pixel_bytes, card)
    forward = forward_bytes(card, config)
    threads, reading = read_threads(scene, memory_limit(config, forward).spare, own)
    spare = budget - BASE_BYTES - forward - reading
    most = most_in_flight(engine, config.infer.device, own, _chunk_pixels(grid))
    in_flight = int(np.clip(spare * 0.75 // bytes_a_chunk, 1, most))
    cache = int(np.clip(spare - in_flight * bytes_a_chunk, 32 << 20, 512 << 20))
    return Share(threads, in_flight, cache, bytes_a_chunk, BASE_BYTES + forward + cache + reading)


def pixel_bytes_of(scene: Scene, bands: tuple[int, ...]) -> int:
    """Bytes of the bands of a pixel."""
    return sum(np.dtype(scene.bands[i].dtype).itemsize for i in bands)


def chunk_bytes(grid: Grid, pixel_bytes: int, card: Card) -> int:
    """Memory of a chunk that is worked on: pixels, validity, results; blending adds up scores."""
    return _chunk_pixels(grid) * (pixel_bytes + 5 + (4 * card.scores if grid.blend else 0))


def _chunk_pixels(grid: Grid) -> int:
    """Pixels of the largest chunk, with its margin."""
    rows = min(grid.rows.per_chunk * grid.step + 2 * grid.margin, grid.height)
    cols = min(grid.cols.per_chunk * grid.step + 2 * grid.margin, grid.width)
    return rows * cols


def processes(config: Config) -> int:
    """Processes on this machine that share its memory; with ``cuda:all`` at least one for each GPU.

    Raises:
        ConfigError: There is no GPU.
    """
    return max(1, config.run.max_workers, first_processes(config))


def first_processes(config: Config) -> int:
    """Processes that a run on this machine begins with; 0 for the one that there is."""
    if config.infer.device != ALL_GPUS or config.run.workers:
        return config.run.workers
    count = gpu_count()
    if not count:
        raise ConfigError(f"infer.device: {ALL_GPUS}, but there is no GPU here; use {setting('device', 'cpu')}")
    return count


def process_budget(config: Config) -> int:
    """Bytes that a process of this machine may use."""
    return (config.infer.memory_bytes or default_memory()) // processes(config)
