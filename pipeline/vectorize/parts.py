"""Parts of polygons on the disk, and blocks that were sieved."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import U8
from geoseg.codes import NODATA
from geoseg.polygons.block_grid import BlockGrid
from geoseg.polygons.blocks import OpenParts
from geoseg.polygons.labelling import Measures

__all__ = ["PartStore", "SievedBlocks"]

CACHED_BLOCKS = 16


SMALL_PARTS = 64
"""Parts of a block with no more vertices stay in memory: a file would cost more."""


class SievedBlocks:
    """Class codes by block, on disk."""

    def __init__(self, folder: Path, grid: BlockGrid, blocks: set[int]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._grid, self._blocks = folder, grid, blocks

    def put(self, block: int, classes: U8) -> None:
        """Store what belongs to a block."""
        np.save(self._folder / f"{block}.npy", classes)

    def framed(self, block: int) -> U8:
        """Return a block's classes with one pixel around it."""
        window = self._grid.framed(block)
        out = np.full(window.shape, NODATA, np.uint8)
        row, col = divmod(block, self._grid.shape[1])
        for r in range(max(0, row - 1), min(self._grid.shape[0], row + 2)):
            for c in range(max(0, col - 1), min(self._grid.shape[1], col + 2)):
                other = r * self._grid.shape[1] + c
                common = self._grid.core(other) & window
                if common is None or other not in self._blocks:
                    continue
                part = np.load(self._folder / f"{other}.npy", mmap_mode="r")
                out[common.slices_in(window)] = part[common.slices_in(self._grid.core(other))]
        return out


class PartStore:
    """Open parts by block: on disk, the last few in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cache: OrderedDict[int, OpenParts] = OrderedDict()
        self._lock = threading.Lock()
        self._stored: list[Path] = []
        self._small: dict[int, OpenParts] = {}

    def put(self, block: int, parts: OpenParts) -> None:
        """Store what belongs to a block."""
        if len(parts.rc) <= SMALL_PARTS:
            self._small[block] = parts
            return
        path = self._folder / f"open_{block}.npz"
        arrays: dict[str, NDArray[np.generic]] = {
            f"measures_{name}": getattr(parts.measures, name) for name in Measures.__slots__
        }
        arrays |= {
            "histograms": parts.histograms,
            "rc": parts.rc,
            "marks": parts.marks,
            "rings": parts.rings,
            "owner": parts.owner,
        }
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        self._stored.append(path)
        self._keep(block, parts)

    def _keep(self, block: int, parts: OpenParts) -> None:
        with self._lock:
            self._cache[block] = parts
            while len(self._cache) > CACHED_BLOCKS:
                self._cache.popitem(last=False)

    def get(self, block: int) -> OpenParts:
        """Return a block's parts."""
        with self._lock:
            if block in self._small:
                return self._small[block]
            if block in self._cache:
                self._cache.move_to_end(block)
                return self._cache[block]
        with np.load(self._folder / f"open_{block}.npz", allow_pickle=False) as arrays:
            measures = Measures(*(arrays[f"measures_{name}"] for name in Measures.__slots__))
            histograms, rc, marks, rings, owner = (arrays[name] for name in ("histograms", "rc", "marks", "rings", "owner"))
            parts = OpenParts(measures, histograms, rc, marks, rings, owner, {})
        self._keep(block, parts)
        return parts

    def close(self) -> None:
        """Remove what is stored."""
        for path in self._stored:
            path.unlink(missing_ok=True)
