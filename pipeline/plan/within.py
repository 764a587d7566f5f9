"""An area of interest in a plan: which chunks and tiles it needs, what is read of them, and what stays of their results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from geoseg.codes import NODATA
from geoseg.dialect import setting
from geoseg.errors import ConfigError, OutsideAreaError
from geoseg.grid import Chunk, Grid
from geoseg.polygons.block_grid import BlockGrid
from geoseg.polygons.class_raster import ClassRaster
from geoseg.scenes.names import folder_name, name_key
from geoseg.scenes.reader import Pixels
from geoseg.scenes.scene import Scene
from geoseg.scenes.sources import SceneRef
from geoseg.vectors.area_of_interest import AreaOfInterest, area_on
from geoseg.vectors.given_area import areas_by_value, read_area
from geoseg.windows import Window

if TYPE_CHECKING:
    from geoseg.arrays import U8
    from pipeline.config.sections import Config
    from pipeline.plan.plan import Task

__all__ = [
    "Feature",
    "RasterWithin",
    "area_of",
    "chunks_in",
    "clear_outside",
    "each_area",
    "features_of",
    "read_chunk",
    "refs_in",
    "tiles_in",
    "window_of",
]

Made = TypeVar("Made")


class Reader(Protocol):
    """Reads windows of a scene, of one date or of several."""

    def read(self, window: Window) -> Pixels:
        """Read a window that lies within the scene."""
        ...


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature of the file of areas of interest, which has maps of its own."""

    value: str
    """In the column that names features."""
    folder: str
    """Its folder of the output."""
    digest: str
    """sha256 of its polygon and the CRS of the file."""

    def of(self, ref: SceneRef) -> SceneRef:
        """A scene as it is mapped within this feature."""
        return replace(ref, name=f"{self.folder}/{ref.name}", area=self.value)


def features_of(config: Config) -> tuple[Feature, ...]:
    """The features that have maps of their own, in the order of their file; none without a column that names them.

    Raises:
        ConfigError: The file can't be read, or names of features are missing or the same.
    """
    area = config.area
    if area.aoi is None or area.aoi_column is None:
        return ()
    areas = areas_by_value(area.aoi, area.aoi_column, config.scene.assume_crs)
    found = tuple(Feature(value, folder_name(value), one.digest) for value, one in areas.items())
    keys = Counter(name_key(one.folder) for one in found)
    if same := [one.value for one in found if keys[name_key(one.folder)] > 1]:
        raise ConfigError(
            f"{setting('aoi_column')}: {' and '.join(same[:2])} would be one folder on many file systems; give them other names"
        )
    return found


def refs_in(refs: Iterable[SceneRef], config: Config) -> list[SceneRef]:
    """Scenes to map: each once, or once for each feature of the file of areas, in a folder of its name.

    Raises:
        ConfigError: Names of features are missing, or are the same.
    """
    features = features_of(config)
    return [feature.of(ref) for ref in refs for feature in features] if features else list(refs)


def each_area(
    ref: SceneRef,
    config: Config,
    make: Callable[[SceneRef], Made],
    left_out: Callable[[SceneRef, OutsideAreaError], None],
) -> list[Made]:
    """Do something of a scene, once or for each feature of the file of areas; what was made, in their order.

    Args:
        ref: The scene.
        config: The settings.
        make: Does it.
        left_out: Is told of features that the scene does not touch.

    Raises:
        OutsideAreaError: It touches none.
        ConfigError: Names of features are missing, or are the same.
    """
    found, outside = list[Made](), list[tuple[SceneRef, OutsideAreaError]]()
    for one in refs_in([ref], config):
        try:
            found.append(make(one))
        except OutsideAreaError as error:
            outside.append((one, error))
    if outside and not found:
        raise outside[0][1]
    for beside in outside:
        left_out(*beside)
    return found


def area_of(scene: Scene, config: Config, feature: str | None = None) -> AreaOfInterest | None:
    """The area of interest of a configuration, on a scene; None where it names none.

    Args:
        scene: The scene.
        config: The settings.
        feature: Of several areas, the one of this name; see ``refs_in``.

    Raises:
        OutsideAreaError: The scene lies outside of it.
        ConfigError: It can't be read.
    """
    area = config.area
    if area.aoi is None:
        return None
    if area.aoi_column is not None and feature is None:
        raise ConfigError(f"{setting('aoi_column')}: a map of each feature can't be made here; give one area")
    given = read_area(area.aoi, config.scene.assume_crs, area.aoi_column, feature)
    return area_on(given, scene.georeference, (scene.height, scene.width), scene.path)


def chunks_in(area: AreaOfInterest, grid: Grid, chunks: Iterable[int], task: Task) -> tuple[int, ...]:
    """Those of some chunks that hold a pixel of the area; for objects, also those of which a tile sees one."""
    if task != "semantic":
        return tuple(i for i in chunks if area.touches(grid.chunk_at(i).window))
    if grid.phase is not None:
        return tuple(i for i in chunks if area.touches(grid.chunk_core(i)))
    side = tuple(axis.per_chunk * axis.step for axis in (grid.rows, grid.cols))
    cells = area.cells((side[0], side[1]))
    return tuple(i for i in chunks if divmod(i, grid.cols.chunks) in cells)


def tiles_in(area: AreaOfInterest | None, grid: Grid, chunk: Chunk, task: Task) -> Chunk:
    """The chunk with those of its tiles that the area needs, at least one.

    Classes of a pixel follow from the tile whose core holds it; where tiles are blended, and of objects, from all that see it.
    """
    if area is None:
        return chunk
    if grid.blend or task != "semantic":
        needed = tuple(tile for tile in chunk.tiles if area.touches(tile.window))
    else:
        needed = tuple(tile for tile in chunk.tiles if area.touches(tile.core))
    return replace(chunk, tiles=needed or chunk.tiles[:1])


def window_of(grid: Grid, chunk: Chunk) -> Window:
    """What is read of a chunk: the windows of its tiles, within the scene."""
    tiles = [tile.window for tile in chunk.tiles]
    whole = Window.between(
        min(w.row_off for w in tiles),
        max(w.row_stop for w in tiles),
        min(w.col_off for w in tiles),
        max(w.col_stop for w in tiles),
    )
    found = whole & grid.scene
    assert found is not None
    return found


def read_chunk(reader: Reader, grid: Grid, chunk: Chunk) -> Pixels:
    """Pixels of ``chunk.window``, of which what none of its tiles sees is not read and holds no data."""
    window = window_of(grid, chunk)
    read = reader.read(window)
    if window == chunk.window:
        return read
    rows, cols = window.slices_in(chunk.window)
    data = np.zeros((len(read.data), *chunk.window.shape), read.data.dtype)
    valid = np.zeros(chunk.window.shape, np.bool_)
    data[:, rows, cols], valid[rows, cols] = read.data, read.valid
    bad = None if read.bad is None else np.zeros(chunk.window.shape, np.bool_)
    if bad is not None and read.bad is not None:
        bad[rows, cols] = read.bad
    return Pixels(data, valid, bad)


class RasterWithin:
    """A class raster that holds no data outside of an area; as a class raster."""

    def __init__(self, base: ClassRaster, area: AreaOfInterest) -> None:
        self.shape, self.georeference, self.has_confidence = base.shape, base.georeference, base.has_confidence
        self._base, self._area = base, area

    def classes(self, window: Window) -> U8:
        """Class codes of a window."""
        return np.where(self._area.mask(window), self._base.classes(window), np.uint8(NODATA))

    def confidence(self, window: Window) -> U8:
        """Confidence of a window; no data outside of the area."""
        return np.where(self._area.mask(window), self._base.confidence(window), np.uint8(NODATA))

    def uniform(self, window: Window) -> int | None:
        """No data, outside of the area and where there is none."""
        empty = not self._area.touches(window) or self._base.uniform(window) == NODATA
        return NODATA if empty else None

    def blocks(self, grid: BlockGrid) -> Iterable[int]:
        """The blocks that may hold anything but no data."""
        return (block for block in self._base.blocks(grid) if self._area.touches(grid.core(block)))


def clear_outside(area: AreaOfInterest | None, core: Window, layers: Iterable[U8]) -> None:
    """Make what lies outside of the area no data, in layers (..., h, w) of a core."""
    if area is None:
        return
    # Pixel by pixel only where the area may be: it can be a small part of a chunk.
    near = core & area.window
    inside, part = (np.zeros((0, 0), np.bool_), np.s_[:0, :0]) if near is None else (area.mask(near), near.slices_in(core))
    for layer in layers:
        kept = np.where(inside, layer[(..., *part)], np.uint8(NODATA))
        layer[...] = NODATA
        layer[(..., *part)] = kept
