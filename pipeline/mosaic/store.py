"""A planned mosaic: to the stages it is a scene whose chunks are combined rather than computed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

import numpy as np

from geoseg.arrays import U16
from geoseg.codes import NO_SOURCE
from geoseg.formats.pyramid import Read
from geoseg.polygons.origins import Origins
from geoseg.windows import Window
from pipeline.config.mosaicking import Order
from pipeline.infer.chunk_store import ChunkStore
from pipeline.infer.storage import Storage
from pipeline.mosaic.combine import UNCHOSEN
from pipeline.mosaic.lattice import Lattice
from pipeline.mosaic.scenes import PlacedScene, in_order
from pipeline.plan.result_layers import LayerName
from pipeline.segment.planned import PlannedScene

__all__ = ["MosaicStore", "PlannedMosaic"]


SIDE = 1024
"""Rows and columns of codes that are taken for numbers at once."""


class MosaicStore(ChunkStore):
    """The combined chunks of a mosaic; numbers of scenes are those of all of its scenes, by name."""

    def __init__(self, planned: PlannedMosaic, storage: Storage | None = None) -> None:
        super().__init__(storage or planned.storage(), planned.plan.grid, planned.plan.layers)
        self._scenes = in_order(planned.scenes, planned.order)
        self._number = {scene.name: number for number, scene in enumerate(planned.scenes)}
        self._tables = dict[int, U16]()

    def reader(self, layer: LayerName, filled: Collection[int], band: int) -> Read:
        """What reads windows of one band of a layer as its raster has them: of scenes their numbers."""
        return partial(self.numbers, filled) if layer == "source" else super().reader(layer, filled, band)

    def numbers(self, filled: Collection[int], window: Window) -> U16:
        """(h, w) number of the scene that each pixel is of."""
        out = np.full(window.shape, NO_SOURCE, np.uint16)
        row, col = self.grid.phase or (0, 0)
        for index in self.grid.chunks_touched(window):
            if index not in filled:
                continue
            core = self.grid.chunk_core(index)
            common = core & window
            assert common is not None
            on_lattice = Window.at((core.row_off + row, core.col_off + col), core.shape)
            table, codes = self._table(index, on_lattice), self.read("source", common, filled)
            place = out[common.slices_in(window)]
            for part in Window.of(common.shape).parts(SIDE):
                place[part.slices] = table[codes[part.slices]]
        return out

    def _table(self, index: int, window: Window) -> U16:
        """(256,) numbers of the scenes over a chunk, by their numbers there."""
        if index not in self._tables:
            table = np.full(UNCHOSEN + 1, NO_SOURCE, np.uint16)
            over = [self._number[scene.name] for scene in self._scenes if scene.window & window is not None]
            table[: len(over)] = over
            self._tables[index] = table
        return self._tables[index]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedMosaic(PlannedScene):
    """A mosaic with its plan."""

    lattice: Lattice
    scenes: tuple[PlacedScene, ...]
    """By name."""
    order: Order

    def store(self) -> MosaicStore:
        """The combined chunks."""
        return MosaicStore(self)

    def origins(self, filled: Collection[int]) -> Origins:
        """Which scenes pixels are of, in the chunks that have files."""
        dates = [scene.acquired for scene in self.scenes]
        return Origins(partial(self.store().numbers, filled), [scene.name for scene in self.scenes], dates)
