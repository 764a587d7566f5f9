"""Rasters that hide the ground: masks of any kind, on any grid."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
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
from geoseg.dialect import setting
from geoseg.errors import BandError, GeoreferenceError, ReadError
from geoseg.georeference import Georeference
from geoseg.redaction import cause_of
from geoseg.scenes.bands.alpha import alpha_of, is_mask, some_values, without_alpha
from geoseg.scenes.bands.roles import roles_of
from geoseg.scenes.gdal import IMAGES, gdal_env, open_raster
from geoseg.scenes.overlap import SAME_PLACE_PX, farthest, share_ground
from geoseg.scenes.remote import is_remote, shown
from geoseg.scenes.stac.signer import Signer
from geoseg.scenes.stac.signing import probe_signed, signed
from geoseg.transient import is_transient
from geoseg.windows import Window

__all__ = ["AlignedRaster", "Hidden", "HiddenRaster", "MaskRule", "open_signed"]

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
    settings: tuple[str, str] = ("mask_values", "mask_band")
    """Names of the settings that say both, for messages."""


class Hidden(Protocol):
    """What hides the ground of one scene: clouds and their shadows."""

    def read(self, window: Window) -> Bools:
        """(h, w), True under clouds and shadows, or where it is not known to be clear."""
        ...


class AlignedRaster:
    """A raster read in the grid of a scene, by the nearest of its pixels.

    Args:
        path: The file.
        opened: Opens it.
        place: Of the scene.
        shape: Rows and cols of the scene.
        alpha: The number of its alpha band.

    Raises:
        SceneError: It can't be opened.
        GeoreferenceError: It can't be laid over the scene.
    """

    def __init__(
        self, path: str, opened: Callable[[], Any], place: Georeference, shape: tuple[int, int], *, alpha: int | None = None
    ) -> None:
        self.path, self._open, self._place, self._shape, self._alpha = path, opened, place, shape, alpha
        self._local = threading.local()
        with self._open() as dataset:
            self._same = self._lies_on_scene(dataset)

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

    def read(self, bands: Sequence[int], window: Window) -> tuple[NDArray[Any], Bools | None]:
        """Values (bands, h, w) of some bands, and (h, w) where the raster does not reach; None where it has the scene's grid.

        Raises:
            ReadError: A block can't be read.
        """
        try:
            return self._read(bands, window)
        except rasterio.errors.RasterioError as error:
            if not is_remote(self.path):
                raise self._unreadable(error) from error
            # A signature may have ended: it is opened anew, with one that is good.
            self._local.owner = None
        try:
            return self._read(bands, window)
        except rasterio.errors.RasterioError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> ReadError:
        told = ReadError(f"{shown(self.path)}: the mask can't be read: {cause_of(error, self.path)}")
        told.transient = is_transient(error)
        return told

    def _read(self, bands: Sequence[int], window: Window) -> tuple[NDArray[Any], Bools | None]:
        area = window.for_rasterio()
        with gdal_env(remote=is_remote(self.path)):
            dataset = self._dataset()
            values = dataset.read(list(bands), window=area)
            return values, None if self._same else dataset.read(dataset.count, window=area) == 0


def open_signed(path: str, signer: Signer | None, drivers: Sequence[str]) -> rasterio.DatasetReader:
    """Open a raster, at an address with a signature that is good; raises as ``open_raster``."""
    if signer is not None:
        # Where a signature is denied, another one is got.
        probe_signed(path, signer)
    return open_raster(signed(path, signer), drivers)


class HiddenRaster:
    """A raster that is a cloud mask; its nearest pixel decides, and what lies outside of it is not known to be clear.

    Args:
        path: The file.
        place: Of the scene.
        shape: Rows and cols of the scene.
        rule: What of it hides the ground. A nodata value of the file means nothing else.
        signer: How its address is signed.

    Raises:
        SceneError: It can't be opened.
        BandError: It has several bands, and nothing says which of them; or its values are none of a mask.
        GeoreferenceError: It can't be laid over the scene.
    """

    def __init__(
        self,
        path: str,
        place: Georeference,
        shape: tuple[int, int],
        rule: MaskRule = MaskRule(),
        signer: Signer | None = None,
    ) -> None:
        self.path, self._settings, self._signer = path, rule.settings, signer
        self.note: str | None = None
        with self._open() as dataset:
            self._alpha, _ = alpha_of(dataset, roles_of(dataset.descriptions, [dataset.tags(i) for i in dataset.indexes]))
            self._band = self._band_of(dataset, rule.band)
            self._clear = not rule.values and self.note is not None
            self._values = np.array(sorted(rule.values), np.int64)
            if not rule.values and not self._clear:
                self._check_values(some_values(dataset, self._band))
        self._raster = AlignedRaster(path, self._open, place, shape, alpha=self._alpha)

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
        by_value, by_band = self._settings
        raise BandError(
            f"{shown(self.path)}: a mask of {len(names)} bands ({listed}); "
            + (
                f"none of them is {asked!r}: give one of these with {setting(by_band)}"
                if asked is not None
                else f"say which of them hides the ground with {setting(by_band)}, and which of its values with "
                f"{setting(by_value)} (all but 0 where none are given; Planet's UDM2 is {setting(by_band, '1')} "
                f"{setting(by_value, '0')})"
            )
        )

    def _check_values(self, values: NDArray[Any]) -> None:
        """Refuse a classification and flags in bits, of which all but 0 hide nothing in particular."""
        found = np.unique(values[values != 0])
        if len(found) >= MANY_VALUES and not is_mask(values):
            few = ", ".join(f"{value:g}" for value in found[:MANY_VALUES].tolist())
            raise BandError(
                f"{shown(self.path)}: its values ({few} …) are not those of a mask, where all but 0 hides the ground; say "
                f"which do with {setting(self._settings[0])} (of Sentinel-2's scene classification 3,8,9,10,11)"
            )

    def _open(self) -> Any:
        return open_signed(self.path, self._signer, IMAGES)

    def read(self, window: Window) -> Bools:
        """(h, w), True under clouds and shadows, or where it is not known to be clear.

        Raises:
            ReadError: A block can't be read.
        """
        (values,), outside = self._raster.read([self._band], window)
        hidden = np.asarray(np.isin(values, self._values) if self._values.size else (values == 0) == self._clear)
        return hidden if outside is None else hidden | outside
