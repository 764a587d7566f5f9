"""Engines, which run networks: their interface, and the rule that chooses one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from geoseg.arrays import F32, U8, Bools
from geoseg.inference.decision import Decision

__all__ = ["ALL_GPUS", "CPU", "TILE_SECONDS", "Classified", "Engine", "EngineName", "Execution", "TileBatch"]

EngineName = Literal["onnx", "torch"]
ALL_GPUS = "cuda:all"
"""The name of all GPUs of a machine: one process runs on each."""
TILE_SECONDS = 600.0
"""Longest time for a tile of 1024 pixels a side; the slowest network on the slowest machine takes a tenth of it."""
CPU = "cpu"
"""The execution provider of ONNX Runtime that promises the same bytes everywhere."""


@dataclass(frozen=True, slots=True)
class Execution:
    """How an engine executes a network, where that changes the last bits of its scores."""

    compiled: bool = False
    """For torch, whether a GPU compiles it."""
    provider: str = CPU
    """For ONNX Runtime, its execution provider."""


@dataclass(frozen=True, slots=True, eq=False)
class TileBatch:
    """Tiles of one shape that pass through the network together."""

    data: Sequence[NDArray[Any]]
    """By tile (C, h, w), in the scene's data type."""
    valid: Sequence[Bools]
    """By tile (h, w), True where there is data."""
    shape: tuple[int, int]
    """``(H, W)`` of the network's input; rows and columns past (h, w) repeat the edge."""
    keep: Sequence[tuple[slice, slice]]
    """By tile, the rows and columns of the output that are kept."""


@dataclass(frozen=True, slots=True, eq=False)
class Classified:
    """The kept part of one tile."""

    classes: U8
    """(h, w)."""
    confidence: U8
    """(h, w), percent."""
    not_finite: int
    """Number of pixels whose score is NaN or infinite."""


class Engine(Protocol):
    """Runs one network. May be called by several threads, whose tiles may pass through it together."""

    name: EngineName
    device: str
    """Where it computes, for the report."""

    @property
    def batch(self) -> int:
        """Preferred number of tiles in a batch."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What happened to it that its results may depend on, for the report."""
        ...

    def stop(self) -> None:
        """End what is under way soon, with Interrupted, as far as the engine can."""
        ...

    def scores(self, batch: TileBatch) -> F32:
        """Scores (N, K, H, W) of whole tiles."""
        ...

    def channels(self, batch: TileBatch) -> F32:
        """All that the network gives (N, K + R, H, W): scores, then what distinguishes objects."""
        ...

    def classify(self, batches: Iterable[TileBatch], decision: Decision) -> Iterator[list[Classified]]:
        """Class and confidence of the kept part of each tile, batch by batch in order."""
        ...
