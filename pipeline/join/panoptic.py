"""One map of all: objects one by one, and the classes between them; each pixel belongs to one segment, or to none.

The rule is that of Kirillov et al. (2019, arXiv:1801.00868): where objects overlap, the surer one takes the pixels; objects
go before classes; and regions of classes that are too small become void. Objects have been joined over seams, and so are the
regions, before they are measured.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg.codes import NO_SEGMENT, NODATA, VOID
from geoseg.errors import Interrupted
from geoseg.instances.objects import Objects
from geoseg.parallel import block_runner, cores
from geoseg.polygons.block_grid import BlockGrid
from geoseg.polygons.class_raster import FINE_BLOCK, ClassRaster
from geoseg.polygons.sieve import drop_small
from geoseg.windows import Window
from pipeline.config.sections import VectorConfig
from pipeline.join.chunk_results import StoredResult
from pipeline.join.objects import OBJECT_FILES, ObjectStore, join_scene
from pipeline.plan.plan import Plan

__all__ = ["Painted", "open_painted", "paint_scene"]

VOIDS = "voids"
Bytes = NDArray[np.uint8]


class Painted:
    """The classes of a scene with its objects over them; as a class raster."""

    has_confidence = True

    def __init__(self, between: ClassRaster, objects: ObjectStore, voids: Path | None = None) -> None:
        """Put objects over what lies between them.

        Args:
            between: Classes without objects, and the confidence of both.
            objects: The objects.
            voids: The folder of voids, where there are any.
        """
        self.shape, self.georeference = between.shape, between.georeference
        self.objects = objects
        self._between = between
        self._grid = BlockGrid(*self.shape, FINE_BLOCK)
        self._voids = {int(path.stem): path for path in voids.glob("*.npy")} if voids is not None else {}

    def classes(self, window: Window) -> Bytes:
        """Class codes of a window, with those of objects, and void."""
        codes = self.objects.paint(self._between.classes(window), window)
        for index in self._grid.touched(window) if self._voids else ():
            path = self._voids.get(index)
            if path is None:
                continue
            core = self._grid.core(index)
            common = core & window
            assert common is not None
            void = np.unpackbits(np.load(path), count=core.pixels).reshape(core.shape).astype(np.bool_)
            codes[common.slices_in(window)][void[common.slices_in(core)]] = VOID
        return codes

    def confidence(self, window: Window) -> Bytes:
        """Confidence of a window."""
        return self._between.confidence(window)

    def uniform(self, window: Window) -> int | None:
        """No data, where there is nothing."""
        return self._between.uniform(window)

    def blocks(self, grid: BlockGrid) -> Iterable[int]:
        """The blocks that may hold anything but no data."""
        return self._between.blocks(grid)

    def segment_classes(self, window: Window) -> NDArray[np.uint32]:
        """Classes of the segments of a window."""
        codes = self.classes(window).astype(np.uint32)
        codes[codes == NODATA] = NO_SEGMENT
        return codes

    def segment_numbers(self, window: Window) -> NDArray[np.uint32]:
        """Numbers of the objects of a window, 0 between them."""
        numbers = self.objects.numbers(window)
        numbers[self._between.classes(window) == NODATA] = NO_SEGMENT
        return numbers


def paint_scene(
    plan: Plan,
    result: StoredResult,
    load: Callable[[], Iterable[Objects]],
    vector: VectorConfig,
    folder: Path,
    should_stop: Callable[[], bool],
) -> list[Path]:
    """Join the objects of a scene over seams, and find what becomes void in a panoptic map, for ``open_painted``.

    Args:
        plan: The scene's plan.
        result: What lies between objects.
        load: Gives what the tiles of each chunk saw; called twice.
        vector: Has the least area.
        folder: Where to; made if missing.
        should_stop: Asked before every block.

    Returns:
        The files written.

    Raises:
        Interrupted: ``should_stop`` said so.
    """
    objects = join_scene(plan.grid, load, folder, plan.area, result.hidden if result.has_coverage else None)
    shutil.rmtree(folder / VOIDS, ignore_errors=True)
    files = [folder / name for name in OBJECT_FILES]
    if plan.task == "panoptic" and vector.min_area_m2:
        threads = plan.threads or cores()
        codes, painted = codes_between(plan, (c.value for c in plan.card.classes)), Painted(result, objects)
        files += _find_voids(painted, codes, vector.min_area_m2, folder / VOIDS, threads, should_stop)
    return files


def open_painted(plan: Plan, result: ClassRaster, folder: Path) -> Painted:
    """Open what ``paint_scene`` left."""
    return Painted(result, ObjectStore(folder, plan.grid.scene.shape), folder / VOIDS)


def codes_between(plan: Plan, codes: Iterable[int]) -> tuple[int, ...]:
    """Those of some classes that have no objects."""
    return tuple(sorted(set(codes) - set(plan.card.object_classes)))


def _find_voids(
    painted: Painted, codes: Iterable[int], minimum: float, folder: Path, threads: int, should_stop: Callable[[], bool]
) -> list[Path]:
    """Find regions of some classes under a minimum area, for ``Painted``.

    Args:
        painted: The map without voids.
        codes: The classes; objects' are not among them.
        minimum: Least area in square metres; in pixels without a CRS.
        folder: Where to; made, and not there yet.
        threads: Blocks that are worked on at once.
        should_stop: Asked before every block.

    Returns:
        A file for each block that has voids: bits of its pixels.
    """
    folder.mkdir(parents=True)
    grid = BlockGrid(*painted.shape, FINE_BLOCK)
    blocks = sorted(painted.blocks(grid))

    def read(block: int) -> Bytes:
        if should_stop():
            raise Interrupted("stopped before a block")
        return painted.classes(grid.framed(block))

    with ThreadPoolExecutor(threads, thread_name_prefix="geoseg-void") as pool:
        run = block_runner(pool, threads)
        found = drop_small(grid, blocks, read, painted.georeference, minimum, codes, VOID, run=run)

        def write(block: int) -> None:
            np.save(folder / f"{block}.npy", np.packbits(found.apply(grid, block, read(block)) == VOID))

        run(write, sorted(found.changes))
    return sorted(folder.iterdir())
