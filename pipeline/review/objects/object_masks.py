"""The objects of a map as masks, read from its raster of numbers, with what its polygons say of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import rasterio.features
import shapely
from rasterio.transform import Affine

from geoseg.arrays import I32, I64, U8
from geoseg.codes import NODATA
from geoseg.crs import between
from geoseg.errors import ConfigError
from geoseg.georeference import Georeference
from geoseg.instances.masks import Masks
from geoseg.scenes.gdal import gdal_env, open_raster
from geoseg.vectors.polygon_file import PolygonFile
from geoseg.windows import Window
from pipeline.files.class_rasters import RasterFile

__all__ = ["NUMBERS", "ObjectFacts", "ObjectMasks", "drawn_mask", "facts_of", "outline_in_pixels"]

NUMBERS = "instances.tif"
STRIP = 256
"""Rows of the raster that are read at once, over its whole width: so no run is cut at a border."""
COLUMNS = ("id", "instance", "code", "score", "confidence_p10", "confidence_p50", "confidence_p90")


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """What is known of an object."""

    id: int
    code: int
    score: float | None = None
    """None where people say what it is."""
    confidence: tuple[int, int, int] = (0, 0, 0)
    """Quantiles in percent."""


@dataclass(slots=True)
class ObjectMasks:
    """The pixels of objects by number; some 0.4 KB each."""

    shape: tuple[int, int]
    runs: dict[int, I32] = field(default_factory=dict)
    """Row, first column, column after the last one."""

    @classmethod
    def read(cls, path: Path) -> ObjectMasks:
        """Read a raster of numbers.

        Raises:
            ConfigError: A pixel has a number that no object can have.
        """
        with gdal_env(), open_raster(path) as dataset:
            height, width = dataset.shape
            owners, runs = [np.empty(0, np.int64)], [np.empty((0, 3), np.int32)]
            for row in range(0, height, STRIP):
                window = Window.between(row, min(row + STRIP, height), 0, width)
                numbers, labels = np.unique(dataset.read(1, window=window.for_rasterio()), return_inverse=True)
                if not numbers.any():
                    continue
                # Numbers from 1 without gaps; 0 is none.
                labels = labels.reshape(window.shape).astype(np.int32) + (numbers[0] != 0)
                known = numbers[numbers > 0].astype(np.int64)
                masks = Masks.of_labels(labels, len(known), window.row_off, 0)
                owners.append(known[masks.owners])
                runs.append(masks.runs)
        owner, every = np.concatenate(owners), np.concatenate(runs)
        order = np.lexsort((every[:, 1], every[:, 0], owner))
        owner, every = owner[order], np.ascontiguousarray(every[order])
        numbers, starts = np.unique(owner, return_index=True)
        return cls((height, width), dict(zip(numbers.tolist(), np.split(every, starts[1:]), strict=True)))

    def boxes(self) -> tuple[I64, I32]:
        """(N,) numbers, and (N, 4) first row, row after the last, first column, column after the last of each."""
        return np.array([*self.runs], np.int64), Masks.of_runs([*self.runs.values()]).boxes

    def others_in(self, runs: I32, without: int) -> dict[int, I32]:
        """Masks of the objects, but for one, that may share pixels with a mask."""
        numbers, boxes = self.boxes()
        (box,) = Masks.of_runs([runs]).boxes
        near = (boxes[:, 0] < box[1]) & (boxes[:, 1] > box[0]) & (boxes[:, 2] < box[3]) & (boxes[:, 3] > box[2])
        return {number: self.runs[number] for number in numbers[near].tolist() if number != without}


def facts_of(polygons: PolygonFile) -> dict[int, ObjectFacts]:
    """What polygons say of objects, by number.

    Raises:
        ConfigError: They are not those of objects.
    """
    if missing := [name for name in COLUMNS if name not in polygons.fields]:
        raise ConfigError(f"{polygons.path}: has no column {missing[0]}; reviews need the polygons as geoseg wrote them")
    found: dict[int, ObjectFacts] = {}
    for _, values in polygons.batches(COLUMNS):
        for row in zip(*(values[name] for name in COLUMNS), strict=True):
            number, instance, code, score, *quantiles = row
            known = score is not None and score == score  # noqa: PLR0124 - not a number
            shares = tuple(0 if value is None or value != value else int(value) for value in quantiles)  # noqa: PLR0124
            found[int(instance)] = ObjectFacts(
                int(number), int(code), float(score) if known else None, (shares[0], shares[1], shares[2])
            )
    return found


def outline_in_pixels(shape: shapely.Geometry, place: Georeference) -> shapely.Geometry:
    """A polygon in longitude and latitude as columns and rows of a raster."""
    move = between("OGC:CRS84", str(place.crs))
    on_map = shapely.transform(shape, lambda xy: np.stack(move.transform(xy[:, 0], xy[:, 1]), axis=1))
    return shapely.transform(on_map, lambda xy: np.stack(place.rows_cols(xy)[::-1], axis=1))


def drawn_mask(outline: shapely.Geometry, raster: RasterFile) -> I32:
    """The runs of the pixels whose centres lie in an outline of columns and rows, as GDAL has it; none where there is no data."""
    left, top, right, bottom = outline.bounds
    around = Window.between(
        max(0, int(np.floor(top))), max(1, int(np.ceil(bottom))), max(0, int(np.floor(left))), max(1, int(np.ceil(right)))
    )
    window = around & Window.of(raster.shape)
    if window is None:
        return np.empty((0, 3), np.int32)
    moved = Affine.translation(window.col_off, window.row_off)
    inside: U8 = rasterio.features.rasterize([(outline, 1)], window.shape, transform=moved, dtype="uint8")
    inside[raster.classes(window) == NODATA] = 0
    return Masks.of_labels(inside.astype(np.int32), 1, window.row_off, window.col_off)[0]
