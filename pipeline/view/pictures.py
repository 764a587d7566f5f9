"""Raster layers of a map: its classes, their confidence, and images, tile by tile as bytes of pictures."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np

from geoseg.arrays import F64, U8
from geoseg.codes import MAX_CONFIDENCE
from geoseg.errors import ConfigError
from geoseg.formats.styles import ClassStyle
from geoseg.scenes.opening import open_scene
from geoseg.scenes.scene import Band, OpenOptions, Scene
from geoseg.tiles.pictures import CLEAR, confidence_palette, palette_of, png_of_codes, webp_of_image
from geoseg.tiles.raster_tiles import RasterTiles, TilePlace
from geoseg.tiles.web_mercator import TILE_PX, Tile
from pipeline.view.found import SourceImage

__all__ = ["PNG", "WEBP", "CodeTiles", "ImageTiles", "TileSource", "classes_of", "confidence_of", "image_of"]

PNG, WEBP = "png", "webp"
COLORS = ("red", "green", "blue")
PERCENTILES = (2, 98)
OPENING = ("assume_crs", "ignore_nodata", "nodata")
"""Settings of a run that say how its image is shown; those that warp it say nothing here."""


class TileSource(Protocol):
    """A raster layer as tiles."""

    suffix: str
    """Of its tiles' names."""

    @property
    def place(self) -> TilePlace:
        """Where its tiles are."""

    def picture(self, tile: Tile) -> bytes | None:
        """A tile as the bytes of a picture; None where the layer has nothing."""


@dataclass(frozen=True, slots=True)
class CodeTiles:
    """Tiles of codes with a palette."""

    raster: RasterTiles
    palette: tuple[bytes, bytes]
    most: int = CLEAR
    """The largest code; what is above is transparent."""
    suffix: str = PNG

    @property
    def place(self) -> TilePlace:
        """Where its tiles are."""
        return self.raster.place

    def picture(self, tile: Tile) -> bytes | None:
        """A tile as PNG."""
        found = self.raster.read(tile)
        if found is None or not found[1].any():
            return None
        data, valid = found
        within = valid & (data[0] >= 0) & (data[0] <= self.most)
        return png_of_codes(np.where(within, data[0], CLEAR).astype(np.uint8), self.palette)


class ImageTiles:
    """Tiles of an image in three colours, each stretched between percentiles of the whole image."""

    suffix = WEBP

    def __init__(self, bands: Sequence[tuple[RasterTiles, int]]) -> None:
        """Of the bands of red, green and blue, or of one that is gray."""
        self._bands = bands
        self._limits: F64 | None = None
        self._lock = threading.Lock()

    @property
    def place(self) -> TilePlace:
        """Where its tiles are."""
        return max((raster.place for raster, _ in self._bands), key=lambda place: place.max_zoom)

    @property
    def limits(self) -> F64:
        """(bands, 2) the values that are black and white; measured once, when the first tile is asked for."""
        with self._lock:
            if self._limits is None:
                self._limits = np.array([_stretch(raster, band) for raster, band in self._bands])
            return self._limits

    def picture(self, tile: Tile) -> bytes | None:
        """A tile as WebP."""
        rgb: U8 = np.zeros((TILE_PX, TILE_PX, 3), np.uint8)
        valid = np.ones((TILE_PX, TILE_PX), np.bool_)
        for channel, (raster, band) in enumerate(self._bands):
            found = raster.read(tile, (band,))
            if found is None:
                return None
            low, high = self.limits[channel]
            data = np.nan_to_num(found[0][0].astype(np.float64))
            shade = (np.clip((data - low) / max(high - low, 1e-9), 0, 1) * 255).astype(np.uint8)
            for target in (channel,) if len(self._bands) > 1 else range(3):
                rgb[..., target] = shade
            valid &= found[1]
        return webp_of_image(rgb, valid) if valid.any() else None


def _stretch(raster: RasterTiles, band: int) -> tuple[float, float]:
    values = raster.sampled((band,))[0].astype(np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values, PERCENTILES).tolist()
    return low, high


def classes_of(path: str, styles: Iterable[ClassStyle]) -> CodeTiles:
    """Tiles of a class raster in the colours of its legend.

    Raises:
        SceneError: It can't be read, or has no place on Earth.
    """
    return CodeTiles(RasterTiles(path), palette_of((style.code, style.rgb) for style in styles))


def confidence_of(path: str) -> CodeTiles:
    """Tiles of confidence in percent.

    Raises:
        SceneError: It can't be read, or has no place on Earth.
    """
    return CodeTiles(RasterTiles(path), confidence_palette(), MAX_CONFIDENCE)


def image_of(image: SourceImage) -> ImageTiles:
    """Tiles of an image: of its bands of red, green and blue, or the first three, or the only one.

    Raises:
        SceneError: It can't be read, or has no place on Earth.
        ConfigError: It is one that only a run can bring together.
    """
    known = {one.name for one in fields(OpenOptions)}
    given = {key: value for key, value in image.options.items() if key in OPENING and key in known and value is not None}
    if isinstance(given.get("nodata"), list):
        given["nodata"] = tuple(given["nodata"])
    scene = open_scene(list(image.paths), options=OpenOptions(**given))
    opened: dict[int, RasterTiles] = {}
    for band in (bands := _shown_bands(scene)):
        if band.file not in opened:
            file = scene.files[band.file]
            if file.palette:
                raise ConfigError(f"{file.path}: an image with a palette, which is shown only as a class raster")
            opened[band.file] = RasterTiles(file.path, file.driver, smooth=True, crs=scene.georeference.crs)
    return ImageTiles([(opened[band.file], band.index) for band in bands])


def _shown_bands(scene: Scene) -> list[Band]:
    for key in ("role", "name", "color"):
        chosen = [next((band for band in scene.bands if getattr(band, key) == color), None) for color in COLORS]
        if all(chosen):
            return [band for band in chosen if band is not None]
    return list(scene.bands[:3] if len(scene.bands) >= 3 else scene.bands[:1])
