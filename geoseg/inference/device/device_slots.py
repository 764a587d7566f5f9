"""The buffers that tiles wait in for the device, and that results come home to."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geoseg.arrays import F32, Bools
from geoseg.inference.device.device_pass import Batch, Work
from geoseg.inference.engine import Classified

__all__ = ["Keep", "Result", "Slot", "Tile"]

Keep = tuple[slice, slice]
"""Rows and columns of the output that are kept."""
Result = Classified | F32
"""Of a tile: the kept part decided, or all channels (K + R, H, W)."""


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """A tile in its place."""

    keep: tuple[int, int, int, int]
    result: Future[Result]


class _Buffer:
    """Bytes that are kept from batch to batch; pinned for a GPU. It grows where a batch needs more."""

    def __init__(self, *, pinned: bool) -> None:
        self._pinned = pinned
        self._bytes = torch.empty(0, dtype=torch.uint8)

    def view(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """An array in it; what was there before is lost."""
        size = int(np.prod(shape)) * dtype.itemsize
        if self._bytes.numel() < size:
            # Zeros: what a place held that no tile was ever in is at least always the same.
            self._bytes = torch.zeros(size, dtype=torch.uint8, pin_memory=self._pinned)
        return self._bytes[:size].view(dtype).view(shape)


class Slot:
    """A batch that is filled by several threads, each in places of its own.

    Places are reserved under the lock of who owns the slot; ``fill`` needs none.
    """

    def __init__(self, *, pinned: bool) -> None:
        self._raw, self._mask = _Buffer(pinned=pinned), _Buffer(pinned=pinned)
        self._home: list[_Buffer] = []
        self._pinned = pinned
        self.tiles: list[Tile] = []

    def open(self, work: Work, size: int, number: int) -> None:
        """Begin a batch of so many places."""
        self.work, self.size, self.number = work, size, number
        self.tiles, self.copied, self.all_valid = [], 0, True
        self._data = self._raw.view((size, work.bands, *work.shape), work.dtype)
        self._valid = self._mask.view((size, *work.shape), torch.bool)

    @property
    def is_full(self) -> bool:
        """Whether no place is free."""
        return len(self.tiles) == self.size

    @property
    def is_ready(self) -> bool:
        """Whether there are tiles, and all of them were copied."""
        return 0 < len(self.tiles) == self.copied

    def reserve(self, keep: Keep) -> tuple[int, Future[Result]]:
        """Take the next place; its tile is copied by ``fill``, which counts in ``copied`` when it is done."""
        rows, cols = keep
        height, width = self.work.shape
        self.tiles.append(Tile((*rows.indices(height)[:2], *cols.indices(width)[:2]), Future()))
        return len(self.tiles) - 1, self.tiles[-1].result

    def fill(self, place: int, data: NDArray[Any], valid: Bools) -> bool:
        """Copy a tile into its place; returns whether it holds data everywhere."""
        _extend(data, self._data[place].numpy())
        _extend(valid, self._valid[place].numpy())
        return bool(valid.all())

    def pieces(self, size: int) -> list[tuple[int, Batch]]:
        """The batch in parts of so many places, and the first place of each; without such as hold no tile.

        All have one shape: the last one begins earlier where they don't come out even.
        """
        starts = (min(start, self.size - size) for start in range(0, len(self.tiles), size))
        return [(start, self._piece(start, size)) for start in starts]

    def _piece(self, start: int, size: int) -> Batch:
        kept = np.array([tile.keep for tile in self.tiles[start : start + size]], np.int64)
        low, high = kept.min(axis=0).tolist(), kept.max(axis=0).tolist()
        box = (low[0], high[1], low[2], high[3])
        keep = np.zeros((size, 4), np.int64)
        keep[: len(kept)] = kept
        places = slice(start, start + size)
        return Batch(
            self._data[places], self._valid[places], torch.from_numpy(keep), self.all_valid, box, bool((kept == kept[0]).all())
        )

    def homes(self, shapes: list[tuple[tuple[int, ...], torch.dtype]]) -> list[torch.Tensor]:
        """Buffers for what comes home."""
        while len(self._home) < len(shapes):
            self._home.append(_Buffer(pinned=self._pinned))
        return [buffer.view(shape, dtype) for buffer, (shape, dtype) in zip(self._home, shapes, strict=False)]

    def results(self, start: int, box: tuple[int, int, int, int], home: list[torch.Tensor]) -> list[tuple[Tile, Result]]:
        """The results of the tiles from a place on, of what came home."""
        tiles = self.tiles[start : start + len(home[0])]
        if self.work.decision is None:
            return [(tile, home[0][i].numpy().copy()) for i, tile in enumerate(tiles)]
        both, counts = home[0].numpy(), home[1].tolist()
        # Compiled, whole tiles come home.
        first_row, first_col = (0, 0) if both.shape[-2:] == self.work.shape else (box[0], box[2])
        done: list[tuple[Tile, Result]] = []
        for i, tile in enumerate(tiles):
            top, bottom, left, right = tile.keep
            part = both[i, :, top - first_row : bottom - first_row, left - first_col : right - first_col]
            done.append((tile, Classified(part[0].copy(), part[1].copy(), counts[i])))
        return done


def _extend(image: NDArray[Any], out: NDArray[Any]) -> None:
    """Copy (..., h, w) into (..., H, W), whose further rows and columns repeat the edge."""
    height, width = image.shape[-2:]
    out[..., :height, :width] = image
    if width < out.shape[-1]:
        out[..., :height, width:] = image[..., -1:]
    if height < out.shape[-2]:
        out[..., height:, :] = out[..., height - 1 : height, :]
