"""What hides the ground at a date: rasters or polygons of clouds and shadows, on any grid."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import rasterio
import rasterio.errors
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterioWindow

from geoseg.errors import GeoreferenceError, ReadError
from geoseg.georeference import Georeference
from geoseg.redaction import cause_of
from geoseg.scenes.opening import IMAGES, gdal_env, open_raster
from geoseg.scenes.overlap import SAME_PLACE_PX, farthest, share_ground
from geoseg.scenes.remote import is_remote, shown
from geoseg.scenes.scene import Scene
from geoseg.windows import Window

__all__ = ["Hidden", "HiddenRaster", "hidden_of"]


class Hidden(Protocol):
    """What hides the ground at one date: clouds, their shadows."""

    def read(self, window: Window) -> NDArray[np.bool_]:
        """(h, w), True where the ground is hidden."""
        ...


class HiddenRaster:
    """A raster that says what is hidden; its nearest pixel decides, and what lies outside of it is not known to be clear.

    Args:
        path: The file.
        place: Of the scene.
        shape: Rows and cols of the scene.
        values: Values that hide the ground; all but 0 where there are none. A nodata value of the file means nothing else.

    Raises:
        SceneError: It can't be opened.
        GeoreferenceError: It can't be laid over the scene.
    """

    def __init__(self, path: str, place: Georeference, shape: tuple[int, int], values: Sequence[int]) -> None:
        self.path, self._place, self._shape = path, place, shape
        self._values = np.array(sorted(values), np.int64)
        self._local = threading.local()
        with self._open() as dataset:
            self._same = self._lies_on_scene(dataset)

    def _open(self) -> Any:
        return open_raster(self.path, IMAGES)

    def _lies_on_scene(self, dataset: Any) -> bool:
        """Whether its pixels are those of the scene."""
        there = Georeference(tuple(dataset.transform)[:6], dataset.crs.to_wkt() if dataset.crs else None)
        same_size = dataset.shape == self._shape
        if there.crs is None or self._place.crs is None:
            # Without a CRS, pixels can only be those of the scene.
            unplaced = there.crs is None and dataset.transform.is_identity
            if same_size and (unplaced or farthest(there, self._place, self._shape) < SAME_PLACE_PX):
                return True
            raise GeoreferenceError(
                f"{shown(self.path)}: a mask without a CRS of {dataset.height} x {dataset.width} pixels can't be laid over an image of "
                f"{self._shape[0]} x {self._shape[1]}; give it the CRS of the image, or its size and place"
                if there.crs is None
                else f"{shown(self.path)}: the image has no CRS, so that a mask of another place can't be laid over it; give it one"
            )
        if not share_ground(self._place, self._shape, there, dataset.shape):
            raise GeoreferenceError(f"{shown(self.path)}: the mask does not overlap the image; is it that of another scene?")
        if not same_size or dataset.crs != rasterio.crs.CRS.from_wkt(self._place.crs):
            return False
        return farthest(there, self._place, self._shape) < SAME_PLACE_PX

    def _dataset(self) -> Any:
        """This thread's handle; a process that was forked makes its own."""
        if getattr(self._local, "owner", None) != os.getpid():
            dataset = self._open()
            if not self._same:
                assert self._place.crs is not None
                has_alpha = ColorInterp.alpha in dataset.colorinterp
                dataset = WarpedVRT(
                    dataset, crs=rasterio.crs.CRS.from_wkt(self._place.crs), transform=Affine(*self._place.transform),
                    height=self._shape[0], width=self._shape[1], resampling=Resampling.nearest, src_nodata=None,
                    add_alpha=not has_alpha, tolerance=1e-6,
                )  # fmt: skip
            self._local.dataset, self._local.owner = dataset, os.getpid()
        return self._local.dataset

    def read(self, window: Window) -> NDArray[np.bool_]:
        """(h, w), True where the ground is hidden, or not known not to be.

        Raises:
            ReadError: A block can't be read.
        """
        area = RasterioWindow(window.col_off, window.row_off, window.width, window.height)
        try:
            with gdal_env(remote=is_remote(self.path)):
                dataset = self._dataset()
                values = dataset.read(1, window=area)
                outside = None if self._same else dataset.read(dataset.count, window=area) == 0
        except rasterio.errors.RasterioError as error:
            raise ReadError(f"{shown(self.path)}: the mask can't be read: {cause_of(error, self.path)}") from error
        hidden = np.asarray(np.isin(values, self._values) if self._values.size else values != 0)
        return hidden if outside is None else hidden | outside


class HiddenPolygons:
    """A file of polygons that say what is hidden."""

    def __init__(self, path: str, place: Georeference, shape: tuple[int, int]) -> None:
        from geoseg.training.labels import open_labels

        known = place if place.crs is not None else None
        self._labels = open_labels(path, known, *shape, {"": 1}, outside=0)

    def read(self, window: Window) -> NDArray[np.bool_]:
        """(h, w), True where the centre of a pixel is hidden."""
        return np.asarray(self._labels.read(window)[0] == 1)


def hidden_of(scene: Scene) -> list[Hidden | None]:
    """By date of a stack, what hides the ground."""
    return [None if path is None else _hidden(scene, path) for path in scene.masks]


def _hidden(scene: Scene, path: str) -> Hidden:
    from geoseg.training.labels import is_vector

    shape = scene.height, scene.width
    if is_vector(path):
        return HiddenPolygons(path, scene.georeference, shape)
    return HiddenRaster(path, scene.georeference, shape, scene.mask_values)
