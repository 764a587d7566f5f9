"""What the network has made of each scene of a mosaic, by the windows of the lattice."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import U8, U16
from geoseg.codes import ANALYSED, MAX_CLASS
from geoseg.grid import ceil_div
from geoseg.inference.fixed_point import shares_of
from geoseg.windows import Window
from pipeline.infer.chunk_store import ChunkStore
from pipeline.infer.receipt import Receipt
from pipeline.infer.storage import Storage
from pipeline.mosaic.scenes import PlacedScene
from pipeline.plan.plan import Plan

__all__ = ["SceneResult", "made_by", "over"]


@dataclass(frozen=True, slots=True, eq=False)
class SceneResult:
    """The chunk results of one scene. Files are opened where they are read, and not kept open."""

    scene: PlacedScene
    plan: Plan
    storage: Storage
    files: Mapping[int, str]
    """By chunk that has files, these with their hashes, as JSON."""
    failed: Mapping[int, str]
    """By chunk that could not be analysed, the reason."""
    machines: Mapping[int, str]
    """By chunk, what computed it."""

    @classmethod
    def of(cls, scene: PlacedScene, plan: Plan, storage: Storage, receipts: Iterable[Receipt]) -> SceneResult:
        """Take up the receipts of its chunks."""
        files, failed, machines = {}, {}, {}
        for receipt in receipts:
            machines[receipt.index] = receipt.machine
            if receipt.files:
                files[receipt.index] = json.dumps(receipt.files, sort_keys=True)
            if receipt.status != "done":
                failed[receipt.index] = str(receipt.reason)
        return cls(scene, plan, storage, files, failed, machines)

    def common(self, window: Window) -> Window | None:
        """The part of a window of the lattice that the scene fills."""
        return self.scene.window & window

    def read(self, window: Window, *, coverage: bool) -> U8:
        """(bands, h, w) of a window of the lattice within the scene: all bands of all layers, as asked for with coverage."""
        bands = ChunkStore(self.storage, self.plan.grid, self.plan.layers).read_bands(self._own(window), self.files)
        if not coverage or "coverage" in dict(self.plan.layers):
            return bands
        # Nothing is known to hide this one.
        classes = bands[0]
        return np.concatenate([bands, np.where(classes <= MAX_CLASS, np.uint8(ANALYSED), classes)[None]])

    def without_shares(self, bands: U8) -> tuple[U8, U16]:
        """What ``read`` gave, without its probabilities for means, and these: (K, h, w) of ``geoseg.inference.fixed_point``."""
        names = [name for name, count in self.plan.layers for _ in range(count)]
        first, count = names.index("shares"), names.count("shares")
        return np.delete(bands, np.s_[first : first + count], axis=0), shares_of(bands[first : first + count])

    def touched(self, window: Window) -> list[int]:
        """Its chunks that a window of the lattice touches."""
        common = self.common(window)
        return [] if common is None else self.plan.grid.chunks_touched(self._own(common))

    def key(self, window: Window) -> list[str]:
        """The files that the result in a window depends on."""
        return [self.files[index] for index in self.touched(window) if index in self.files]

    def made_by(self, window: Window) -> set[str]:
        """What computed its chunks that a window touches."""
        return {self.machines[index] for index in self.touched(window) if index in self.machines}

    def failure(self, window: Window) -> str | None:
        """Reason why some of a window could not be analysed, if there is one."""
        return next((self.failed[index] for index in self.touched(window) if index in self.failed), None)

    def thumbnail(self, window: Window, stride: int) -> Iterator[tuple[tuple[int, int], NDArray[np.generic]]]:
        """Its pixels at every ``stride``-th row and column of the lattice, of the chunks that a window touches.

        Gives (bands, h, w) with the row and column of its first pixel, counted in strides.
        """
        store, own = ChunkStore(self.storage, self.plan.grid, self.plan.layers), self.plan.thumbnail.stride
        for index in self.touched(window):
            part = store.thumbnail(index) if index in self.files else None
            if part is None or not part.size:
                continue
            core = self.plan.grid.chunk_core(index)
            top, left = core.row_off + self.scene.window.row_off, core.col_off + self.scene.window.col_off
            # Both count strides from the corner of the lattice, and one is a multiple of the other.
            rows, cols = (ceil_div(start, stride) * (stride // own) - ceil_div(start, own) for start in (top, left))
            thinned = part[:, rows :: stride // own, cols :: stride // own]
            if thinned.size:
                yield (ceil_div(top, stride), ceil_div(left, stride)), thinned

    def _own(self, window: Window) -> Window:
        """A window of the lattice as one of the scene."""
        return Window.at((window.row_off - self.scene.window.row_off, window.col_off - self.scene.window.col_off), window.shape)


def made_by(results: Sequence[SceneResult], window: Window) -> str:
    """What computed the chunks of scenes in a window of the lattice: one kind of machine, or several."""
    return " and ".join(sorted(set[str]().union(*(result.made_by(window) for result in results))))


def over(results: Sequence[SceneResult], window: Window) -> list[SceneResult]:
    """Those of which something lies in a window of the lattice, in their order."""
    return [result for result in results if result.touched(window)]
