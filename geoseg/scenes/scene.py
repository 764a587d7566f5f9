"""A scene: what is known of one source image before its pixels are read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from geoseg.errors import SceneChangedError
from geoseg.georeference import Georeference
from geoseg.scenes.block_sizes import MemoryLimit
from geoseg.scenes.fingerprint import fingerprint
from geoseg.scenes.gdal import gdal_env, open_dataset
from geoseg.scenes.preflight import MAX_BLOCK_BYTES
from geoseg.scenes.quality import QualityLayer
from geoseg.scenes.remote import shown

__all__ = ["Band", "MemoryLimit", "OpenOptions", "Scene", "SceneFile", "View", "gdal_env", "open_dataset"]

Validity = Literal["all", "nodata", "mask", "alpha"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOptions:
    """Options of opening scenes; the defaults refuse whatever would have to be guessed."""

    allow_vrt: bool = False
    """Open GDAL virtual rasters, which can name any other file."""
    assume_crs: str | None = None
    """The CRS of files that have none."""
    pixel_coords: bool = False
    """Accept images without a place on Earth; their outputs are in pixels."""
    gcps: bool = False
    """Warp images that have ground control points only."""
    target_crs: str | None = None
    """Warp the scene to this CRS."""
    resample: float | None = None
    """Warp the scene to this pixel size in metres."""
    ignore_nodata: bool = False
    """Take all pixels as data, whatever nodata value, mask or alpha band say."""
    nodata: tuple[float, ...] | None = None
    """The value of all bands, or of each, that stands for no data, whatever the file says."""
    max_pixels: int = 10**12
    """Scenes with more pixels are refused."""
    max_block_bytes: int = MAX_BLOCK_BYTES
    """Files with blocks that decode to more bytes are refused."""
    memory: MemoryLimit | None = None
    """What reading may take; None where only ``max_block_bytes`` limits it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneFile:
    """One file of a scene."""

    path: str
    """A local path or an address."""
    driver: str
    """The only GDAL driver that may open it."""
    block_shape: tuple[int, int]
    """Rows and columns of a block."""
    interleaved: bool
    """Whether the bands of a block are stored together."""
    validity: Validity
    """What says which pixels are data, beside NaN and infinity."""
    alpha: int | None = None
    """Band number of the alpha band."""
    palette: bool = False
    """Whether its only band holds indices into a colour table."""
    block_bytes: int = 0
    """Bytes of its largest decoded block, all bands that are stored together, masks and overviews included."""
    blocks: tuple[int, int] = (1, 1)
    """Rows and columns of blocks."""

    @property
    def reading_bytes(self) -> int:
        """Memory that reading a window smaller than a block takes at most.

        GDAL decodes a block and copies its bands, and up to four blocks that the window touches are kept until it is read.
        """
        return (2 + min(2, self.blocks[0]) * min(2, self.blocks[1])) * self.block_bytes

    told_nodata: float | None = None
    """The value that stands for no data in its first band, where the user has said it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """One band of a scene."""

    file: int
    """Which file."""
    index: int
    """Band number in the file, from 1; for a palette, 1..3 are the red, green and blue that it stands for."""
    name: str | None
    """Its name in lower case, from the file's name or the band's description."""
    color: str
    """Its colour interpretation."""
    dtype: str
    """Data type of the pixels."""
    scale: float
    """Physical value = pixel * scale + offset."""
    offset: float
    """Physical value = pixel * scale + offset."""
    nodata: float | None
    """The value that stands for no data."""
    role: str | None = None
    """What its name or its wavelength says it is: ``red``, ``nir``; None where they say nothing."""
    told_color: bool = True
    """Whether somebody chose its colour interpretation; else it is the one that GDAL gives any file of this kind."""
    conflict: str | None = None
    """Where what is written about it differs: both in words."""

    @property
    def label(self) -> str:
        """The name of the band in messages."""
        return self.name or self.color


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A grid that the scene is warped to while it is read."""

    crs: str
    """WKT of the grid's CRS."""
    transform: tuple[float, float, float, float, float, float]
    """Affine transform of the grid."""
    height: int
    """Rows."""
    width: int
    """Columns."""
    resampling: str
    """Name of the resampling method."""
    source_crs: str | None
    """CRS of the source where the file does not say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One source image: its files, bands, grid and identity. Pixels are read by ``SceneReader``."""

    name: str
    """Path of its output folder under the run's output, without extension."""
    files: tuple[SceneFile, ...]
    """Its files; band files of one scene have the same grid."""
    bands: tuple[Band, ...]
    """Its bands, alpha left out."""
    height: int
    """Rows."""
    width: int
    """Columns."""
    georeference: Georeference
    """Where its pixels lie."""
    acquired: str | None
    """Acquisition date as ISO 8601; None where neither tags nor name say it."""
    fingerprint: str
    """sha256 of what identifies its content."""
    modified: str | None
    """Time of the last change of its newest file, ISO 8601, a bound for the acquisition; None where it is not known."""
    view: View | None = None
    """The grid that it is warped to, if any."""
    margin: tuple[int, int] = (0, 0)
    """Rows above and columns left of the first pixel of its files that it has, too, without data."""
    ignore_nodata: bool = False
    """Whether all pixels are data, whatever nodata value, mask or alpha band say."""
    quality: tuple[QualityLayer, ...] = ()
    """What its product says of each pixel: clouds, shadows, snow."""
    warnings: tuple[str, ...] = field(default=(), compare=False)
    """What the user should know."""
    dates: tuple[Scene, ...] = ()
    """Of a stack, the scene of each date on the common grid; see ``geoseg.dates.stack``."""
    least_dates: int = 1
    """Of a stack, how many dates must hold data where anything is analysed."""
    date_flags: bool = False
    """Of a stack, whether a band for each date that says where it holds data follows those asked for."""
    masks: tuple[str | None, ...] = ()
    """Cloud masks of a stack by date: files of rasters or polygons."""
    mask_values: tuple[int, ...] = ()
    """Values of such rasters that stand for clouds; all but 0 where none are given."""
    mask_band: str | None = None
    """Of such rasters, the number or the name of the band that says it; None where they have one, or their names tell."""

    @property
    def dtype(self) -> str:
        """Data type of the first band."""
        return self.bands[0].dtype

    @property
    def path(self) -> str:
        """The first file, as it may be shown."""
        return shown(self.files[0].path)

    @property
    def pixel_size(self) -> float | None:
        """Side of a pixel in metres; None without a CRS."""
        return self.georeference.pixel_size(self.height, self.width)

    def verify_unchanged(self) -> None:
        """Check that the files are still those that were opened.

        Raises:
            SceneChangedError: One of them was written to since.
        """
        paths = [file.path for file in self.files] + [path for path in self.masks if path is not None]
        if fingerprint(paths) != self.fingerprint:
            raise SceneChangedError(
                f"{self.path}: the file changed while it was read, so the result would mix two images; run again when it is "
                "complete"
            )
