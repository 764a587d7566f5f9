"""Arrays as scenes: what is mapped stays in memory, and the files that it took on the way are gone."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.dtypes import check_dtype
from rasterio.errors import CRSError, NotGeoreferencedWarning

from geoseg.errors import ConfigError, DtypeError, GeosegError
from geoseg.scenes.files.muting import muted
from pipeline.api.scene_map import SceneMap

__all__ = ["map_array", "written"]

NAME = "array"
BLOCK = 512


@contextmanager
def written(array: object, transform: Sequence[float] | None, crs: object | None) -> Iterator[tuple[Path, Path]]:
    """An array as a file, and a folder for what becomes of it; both are gone at the end.

    Errors that tell of the file tell of the array instead.

    Args:
        array: (bands, h, w) or (h, w) numbers; where a masked array is masked in any band, there is no data.
        transform: The affine transform ``(a, b, c, d, e, f)``.
        crs: Anything that rasterio takes.

    Raises:
        DtypeError: The array is no image.
        ConfigError: The transform or the CRS is none.
    """
    bands: np.ma.MaskedArray = np.ma.asarray(array)
    if bands.ndim == 2:
        bands = bands[None]
    if bands.ndim != 3 or not bands.size or bands.dtype.kind not in "uif" or not check_dtype(bands.dtype):
        raise DtypeError(f"array: {bands.shape} of {bands.dtype}; an image is (bands, h, w) or (h, w), of numbers")
    with tempfile.TemporaryDirectory(prefix="geoseg-") as folder:
        file = Path(folder) / f"{NAME}.tif"
        _write(file, bands, _affine(transform), _crs(crs))
        try:
            yield file, Path(folder) / "out"
        except GeosegError as error:
            told = str(error).replace(str(file), NAME)
            if told == str(error):
                raise
            raise type(error)(told) from None


def map_array(mapped: SceneMap, file: Path) -> SceneMap:
    """A map with the contents of its files; what they tell of the file is told of the array."""
    folder = mapped.folder
    contents = {name: (folder / name).read_bytes() for name in mapped.files}
    reason = None if mapped.reason is None else mapped.reason.replace(str(file), NAME)
    return replace(mapped, place=contents, reason=reason)


def _write(file: Path, bands: NDArray[np.generic], transform: rasterio.Affine | None, crs: CRS | None) -> None:
    count, height, width = bands.shape
    mask = np.ma.getmaskarray(bands).any(axis=0)
    profile = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": bands.dtype.name}
    if min(height, width) >= BLOCK:
        profile |= {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK}
    # Three bands of bytes are colours, the fourth of more is another band, not opacity.
    profile |= {"photometric": "RGB" if count == 3 and bands.dtype == np.uint8 else "MINISBLACK", "alpha": "NO"}
    placed = {key: value for key, value in (("transform", transform), ("crs", crs)) if value is not None}
    # Whether an image without a place is accepted is said where it is opened.
    with (
        muted(NotGeoreferencedWarning),
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(file, "w", BIGTIFF="IF_SAFER", **profile, **placed) as out,
    ):
        out.write(np.ma.getdata(bands))
        if mask.any():
            out.write_mask(~mask)


def _affine(transform: Sequence[float] | None) -> rasterio.Affine | None:
    if transform is None:
        return None
    try:
        found = rasterio.Affine(*(float(number) for number in tuple(transform)[:6]))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"transform: {transform!r:.200} is no affine transform; give (a, b, c, d, e, f)") from error
    if not np.isfinite(found[:6]).all() or found.is_degenerate:
        raise ConfigError(f"transform: {tuple(found)[:6]} gives pixels no area; give (a, b, c, d, e, f) with a * e - b * d not 0")
    return found


def _crs(crs: object | None) -> CRS | None:
    from geoseg.crs import check_crs

    if crs is None:
        return None
    try:
        return CRS.from_user_input(check_crs(crs) if isinstance(crs, str) else crs)
    except (ValueError, CRSError) as error:
        raise ConfigError(f"crs: {error}") from error
