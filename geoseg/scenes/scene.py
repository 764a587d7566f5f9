"""A scene: what is known of one source image before its pixels are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from geoseg.errors import SceneChangedError
from geoseg.georeference import Georeference
from geoseg.scenes.block_sizes import MemoryLimit
from geoseg.scenes.clouds import Clouds
from geoseg.scenes.fingerprint import FileState, fingerprint
from geoseg.scenes.gdal import gdal_env, open_dataset
from geoseg.scenes.preflight import MAX_BLOCK_BYTES
from geoseg.scenes.products.product_facts import ProductFacts, Quantity
from geoseg.scenes.products.quality import QualityLayer
from geoseg.scenes.remote import shown
from geoseg.scenes.stac.signer import Signer

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
    pixel_size: float | None = None
    """The pixel size in metres that is wanted of a product which has several; the finest where it is None."""
    sign: str | None = None
    """How addresses are signed: ``planetary-computer``, the address of such a token service, or a command."""
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

    signer: Signer | None = None
    """How its address is signed when it is opened."""
    told_nodata: float | None = None
    """The value that stands for no data in its first band, where the user or the product has said it."""
    resampling: str | None = None
    """How it is brought to the grid of the scene where its own is another; None where it lies on it."""


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
    wavelength: float | None = None
    """Its centre in micrometres, as far as a product says it."""
    quantity: Quantity | None = None
    """What its physical value is, as far as a product says it."""

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
    product: ProductFacts | None = None
    """What the metadata of its product tell; None for other files."""
    sources: tuple[str, ...] = ()
    """Products that its files are part of, whose content is its own; empty where it is that of its files alone."""
    clouds: Clouds | None = None
    """What hides the ground, where that was asked for."""
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
        """The product or the first file, as it may be shown."""
        return shown(self.own_paths[0])

    @property
    def own_paths(self) -> tuple[str, ...]:
        """Files and products whose content is that of the scene; cloud masks left out."""
        return self.sources or tuple(file.path for file in self.files)

    def view_of(self, file: SceneFile) -> View | None:
        """The grid that a file is warped to while it is read; None where it is read as it is stored."""
        if self.view is not None:
            return self.view if file.resampling is None else replace(self.view, resampling=file.resampling)
        if file.resampling is None:
            return None
        return View(
            crs=self.georeference.crs or "",
            transform=self.georeference.transform,
            height=self.height,
            width=self.width,
            resampling=file.resampling,
            source_crs=None,
        )

    @property
    def paths(self) -> list[str]:
        """All files that its pixels depend on: its own, then what hides the ground."""
        masks = [path for path in self.masks if path is not None]
        return [*self.own_paths] + masks + [path for found in self.every_clouds for path in found.files]

    @property
    def every_clouds(self) -> list[Clouds]:
        """What hides the ground: its own, or that of each date."""
        return [one.clouds for one in self.dates or (self,) if one.clouds is not None]

    def with_clouds(self, change: Callable[[Clouds], Clouds]) -> Scene:
        """The same scene with a change to what hides its ground, and that of its dates."""
        dates = tuple(date.with_clouds(change) for date in self.dates)
        return replace(self, dates=dates, clouds=None if self.clouds is None else change(self.clouds))

    @property
    def signers(self) -> dict[str, Signer | None]:
        """How the addresses of its files are signed."""
        masks = (item for found in self.every_clouds for item in found.signers.items())
        return dict.fromkeys(self.sources, self.files[0].signer) | dict(masks) | {file.path: file.signer for file in self.files}

    @property
    def pixel_size(self) -> float | None:
        """Side of a pixel in metres; None without a CRS."""
        return self.georeference.pixel_size(self.height, self.width)

    def fingerprint_now(self, states: Iterable[FileState] = ()) -> str:
        """The fingerprint of its files as they are; those that are as at an earlier look are not read again.

        Raises:
            ReadError: One has gone.
        """
        return fingerprint(self.paths, signers=self.signers, states=states)

    def verify_unchanged(self) -> None:
        """Check that the files are still those that were opened.

        Raises:
            SceneChangedError: One of them was written to since.
        """
        if self.fingerprint_now() != self.fingerprint:
            raise SceneChangedError(
                f"{self.path}: the file changed while it was read, so the result would mix two images; run again when it is "
                "complete"
            )
