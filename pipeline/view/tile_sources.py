"""Raster layers of a map: its classes, their confidence, and images, tile by tile as bytes of pictures."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import numpy as np

from geoseg.arrays import F64, U8
from geoseg.codes import MAX_CONFIDENCE
from geoseg.errors import ConfigError
from geoseg.formats.styles import ClassStyle
from geoseg.scenes.opening import open_scene
from geoseg.scenes.scene import Band, OpenOptions, Scene
from geoseg.tiles.raster_tiles import RasterTiles, TilePlace
from geoseg.tiles.tile_pictures import CLEAR, confidence_palette, palette_of, png_of_codes, webp_of_image
from geoseg.tiles.web_mercator import TILE_PX, Tile
from pipeline.view.viewed_inputs import SourceImage

__all__ = ["PNG", "WEBP", "CodeTiles", "ImageTiles", "TileSource", "classes_of", "confidence_of", "image_of"]

PNG, WEBP = "png", "webp"
COLORS = ("red", "green", "blue")
PERCENTILES = (2, 98)


class TileSource(Protocol):
    """A raster layer as tiles."""

    @property
    def suffix(self) -> str:
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

    def __init__(self, files: Sequence[tuple[RasterTiles, tuple[int, ...]]]) -> None:
        """Of the bands of red, green and blue, or of one that is gray, by the files that hold them."""
        self._files = files
        self._limits: F64 | None = None
        self._lock = threading.Lock()

    @property
    def place(self) -> TilePlace:
        """Where its tiles are."""
        return max((raster.place for raster, _ in self._files), key=lambda place: place.max_zoom)

    @property
    def limits(self) -> F64:
        """(bands, 2) the values that are black and white; measured once, when the first tile is asked for."""
        with self._lock:
            if self._limits is None:
                self._limits = np.concatenate([_stretch(raster, bands) for raster, bands in self._files])
            return self._limits

    def picture(self, tile: Tile) -> bytes | None:
        """A tile as WebP."""
        read = [raster.read(tile, bands) for raster, bands in self._files]
        found = [one for one in read if one is not None]
        valid = np.logical_and.reduce([one[1] for one in found]) if len(found) == len(read) else np.zeros(1, np.bool_)
        if not valid.any():
            return None
        low, high = self.limits.T[:, :, None, None]
        data = np.nan_to_num(np.concatenate([one[0] for one in found]).astype(np.float32))
        shade = (np.clip((data - low) / np.maximum(high - low, 1e-9), 0, 1) * 255).astype(np.uint8)
        rgb: U8 = np.broadcast_to(shade, (len(COLORS), TILE_PX, TILE_PX)).transpose(1, 2, 0)
        return webp_of_image(rgb, valid)


def _stretch(raster: RasterTiles, bands: tuple[int, ...]) -> F64:
    """(bands, 2) percentiles of each."""
    limits: list[tuple[float, float]] = []
    for values in raster.sampled(bands).astype(np.float64):
        known = values[np.isfinite(values)]
        low, high = np.percentile(known, PERCENTILES).tolist() if known.size else (0.0, 1.0)
        limits.append((low, high))
    return np.array(limits)


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
    scene = open_scene(list(image.paths), options=OpenOptions(assume_crs=image.assume_crs))
    files: list[tuple[RasterTiles, tuple[int, ...]]] = []
    for number, group in groupby(_shown_bands(scene), key=lambda band: band.file):
        file = scene.files[number]
        if file.palette:
            raise ConfigError(f"{file.path}: an image with a palette, which is shown only as a class raster")
        tiles = RasterTiles(file.path, file.driver, smooth=True, crs=scene.georeference.crs)
        files.append((tiles, tuple(band.index for band in group)))
    return ImageTiles(files)


def _shown_bands(scene: Scene) -> list[Band]:
    for key in ("role", "name", "color"):
        chosen = [next((band for band in scene.bands if getattr(band, key) == color), None) for color in COLORS]
        if all(chosen):
            return [band for band in chosen if band is not None]
    return list(scene.bands[:3] if len(scene.bands) >= 3 else scene.bands[:1])
