"""Cloud masks of dates: rasters or polygons of clouds and shadows, on any grid."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import rasterio
import rasterio.errors
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT

from geoseg.arrays import Bools
from geoseg.dates.overlap import SAME_PLACE_PX, farthest, share_ground
from geoseg.dialect import setting
from geoseg.errors import BandError, GeoreferenceError, ReadError
from geoseg.georeference import Georeference
from geoseg.redaction import cause_of
from geoseg.scenes.bands.alpha import alpha_of, is_mask, some_values, without_alpha
from geoseg.scenes.bands.roles import roles_of
from geoseg.scenes.gdal import IMAGES, gdal_env, open_raster
from geoseg.scenes.remote import is_remote, shown
from geoseg.scenes.scene import Scene
from geoseg.windows import Window

__all__ = ["Hidden", "HiddenRaster", "MaskRule", "hidden_of", "notes_of_masks"]

CLEAR, OTHERS = "clear", ("cloud", "shadow", "snow", "haze")
"""Names in the usable data masks of Planet of the band that is 1 where it is clear, and of those of clouds and shadows."""
MANY_VALUES = 5
"""A mask of so many values, none of which is most of it, is a classification, or flags in bits."""


@dataclass(frozen=True, slots=True)
class MaskRule:
    """A rule by which the band and the values of a raster are a cloud mask."""

    values: tuple[int, ...] = ()
    """Values that hide it; all but 0 where there are none."""
    band: str | None = None
    """Number or name of the band; None where the raster has one, or its names tell."""


class Hidden(Protocol):
    """The cloud mask of one date: clouds and their shadows."""

    def read(self, window: Window) -> Bools:
        """(h, w), True under clouds and shadows."""
        ...


class HiddenRaster:
    """A raster that is a cloud mask; its nearest pixel decides, and what lies outside of it is not known to be clear.

    Args:
        path: The file.
        place: Of the scene.
        shape: Rows and cols of the scene.
        rule: What of it hides the ground. A nodata value of the file means nothing else.

    Raises:
        SceneError: It can't be opened.
        BandError: It has several bands, and nothing says which of them; or its values are none of a mask.
        GeoreferenceError: It can't be laid over the scene.
    """

    def __init__(self, path: str, place: Georeference, shape: tuple[int, int], rule: MaskRule = MaskRule()) -> None:
        self.path, self._place, self._shape = path, place, shape
        self._local = threading.local()
        self.note: str | None = None
        with self._open() as dataset:
            self._alpha, _ = alpha_of(dataset, roles_of(dataset.descriptions, [dataset.tags(i) for i in dataset.indexes]))
            self._band = self._band_of(dataset, rule.band)
            self._clear = not rule.values and self.note is not None
            self._values = np.array(sorted(rule.values), np.int64)
            if not rule.values and not self._clear:
                self._check_values(some_values(dataset, self._band))
            self._same = self._lies_on_scene(dataset)

    def _band_of(self, dataset: Any, asked: str | None) -> int:
        """The number of the band that is read."""
        names: dict[int, str] = {
            i: (dataset.descriptions[i - 1] or "").strip().lower() for i in dataset.indexes if i != self._alpha
        }
        if asked is not None:
            text = asked.strip().lower()
            found = next((i for i, name in names.items() if text == str(i) or (name and text == name)), None)
            if found is not None:
                return found
        elif len(names) == 1:
            return next(iter(names))
        else:
            clear = [i for i, name in names.items() if name == CLEAR]
            if len(clear) == 1 and any(word in name for name in names.values() for word in OTHERS):
                self.note = f"{shown(self.path)}: of its {len(names)} bands, band {clear[0]} ({CLEAR}) is taken as the mask"
                return clear[0]
        listed = ", ".join(f"{i} {name}".strip() for i, name in names.items())
        raise BandError(
            f"{shown(self.path)}: a mask of {len(names)} bands ({listed}); "
            + (
                f"none of them is {asked!r}: give one of these with {setting('mask_band')}"
                if asked is not None
                else f"say which of them hides the ground with {setting('mask_band')}, and which of its values with "
                f"{setting('mask_values')} (all but 0 where none are given; Planet's UDM2 is {setting('mask_band', '1')} "
                f"{setting('mask_values', '0')})"
            )
        )

    def _check_values(self, values: NDArray[Any]) -> None:
        """Refuse a classification and flags in bits, of which all but 0 hide nothing in particular."""
        found = np.unique(values[values != 0])
        if len(found) >= MANY_VALUES and not is_mask(values):
            few = ", ".join(f"{value:g}" for value in found[:MANY_VALUES].tolist())
            raise BandError(
                f"{shown(self.path)}: its values ({few} …) are not those of a mask, where all but 0 hides the ground; say "
                f"which do with {setting('mask_values')} (of Sentinel-2's scene classification 3,8,9,10,11)"
            )

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
                f"{shown(self.path)}: a mask without a CRS of {dataset.height} x {dataset.width} pixels can't be laid over an "
                f"image of {self._shape[0]} x {self._shape[1]}; give it the CRS of the image, or its size and place"
                if there.crs is None
                else f"{shown(self.path)}: the image has no CRS, so that a mask of another place can't be laid over it; give "
                "it one"
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
                has_alpha = self._alpha is not None
                if not has_alpha:
                    self._local.views = ExitStack()
                    dataset = self._local.views.enter_context(without_alpha(dataset))
                dataset = WarpedVRT(
                    dataset,
                    crs=rasterio.crs.CRS.from_wkt(self._place.crs),
                    transform=Affine(*self._place.transform),
                    height=self._shape[0],
                    width=self._shape[1],
                    resampling=Resampling.nearest,
                    src_nodata=None,
                    add_alpha=not has_alpha,
                    tolerance=1e-6,
                )
            self._local.dataset, self._local.owner = dataset, os.getpid()
        return self._local.dataset

    def read(self, window: Window) -> Bools:
        """(h, w), True under clouds and shadows, or where it is not known to be clear.

        Raises:
            ReadError: A block can't be read.
        """
        area = window.for_rasterio()
        try:
            with gdal_env(remote=is_remote(self.path)):
                dataset = self._dataset()
                values = dataset.read(self._band, window=area)
                outside = None if self._same else dataset.read(dataset.count, window=area) == 0
        except rasterio.errors.RasterioError as error:
            raise ReadError(f"{shown(self.path)}: the mask can't be read: {cause_of(error, self.path)}") from error
        hidden = np.asarray(np.isin(values, self._values) if self._values.size else (values == 0) == self._clear)
        return hidden if outside is None else hidden | outside


class HiddenPolygons:
    """A file of polygons that is a cloud mask."""

    def __init__(self, path: str, place: Georeference, shape: tuple[int, int]) -> None:
        from geoseg.labels.labels import open_labels

        known = place if place.crs is not None else None
        self._labels = open_labels(path, known, *shape, {"": 1}, outside=0)

    def read(self, window: Window) -> Bools:
        """(h, w), True where the centre of a pixel lies in one of the polygons."""
        return np.asarray(self._labels.read(window)[0] == 1)


def hidden_of(scene: Scene) -> list[Hidden | None]:
    """Cloud masks by date of a stack."""
    return [None if path is None else _hidden(scene, path) for path in scene.masks]


def _hidden(scene: Scene, path: str) -> Hidden:
    from geoseg.labels.labels import is_vector

    shape = scene.height, scene.width
    if is_vector(path):
        return HiddenPolygons(path, scene.georeference, shape)
    return HiddenRaster(path, scene.georeference, shape, MaskRule(scene.mask_values, scene.mask_band))


def notes_of_masks(scene: Scene) -> list[str]:
    """Notes on the rasters that are cloud masks of the dates of a stack; refuses those that can't be used.

    Raises:
        SceneError: As ``HiddenRaster``.
    """
    from geoseg.labels.labels import VECTORS

    rasters = dict.fromkeys(path for path in scene.masks if path is not None and not path.lower().endswith(VECTORS))
    return [note for path in rasters if (note := getattr(_hidden(scene, path), "note", None)) is not None]
