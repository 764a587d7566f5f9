"""Sampling frame: a class map, its analysed pixels, and the strata of its pixels or blocks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg.codes import MAX_CLASS
from geoseg.errors import ConfigError
from geoseg.georeference import Georeference
from geoseg.sampling.draw import OUTSIDE
from geoseg.scenes.scene import OpenOptions
from geoseg.windows import Window
from pipeline.files.areas import measure_codes
from pipeline.files.class_rasters import RasterFile, open_class_raster

__all__ = ["LARGEST_BLOCK", "ClassMap", "block_strata", "check_buffer", "open_map", "pixel_strata", "same_place"]

SIDE = 1024
LARGEST_BLOCK = 1024
"""Side of the largest blocks, which are read at once."""
LARGEST_BUFFER = 2048
"""Largest buffer in pixels: so much more is read on each side of a window."""
SAME_PLACE_PX = 0.01
"""Grids whose corners differ by less than this part of a pixel are the same."""
Strata = Callable[[Window], NDArray[np.int16]]


@dataclass(frozen=True, slots=True, eq=False)
class ClassMap:
    """A class raster with its legend, and what it holds."""

    path: Path
    """The file."""
    raster: RasterFile
    """Its pixels."""
    names: Mapping[int, str]
    """Names by code; made up where the file has none."""
    pixels: Mapping[str, int]
    """Pixels by code."""
    area: Mapping[str, float]
    """Square metres by code; pixels without a CRS."""
    mask_sha256: str
    """Of which pixels were analysed."""

    @property
    def analysed(self) -> int:
        """Pixels that have a class."""
        return sum(count for code, count in self.pixels.items() if int(code) <= MAX_CLASS)

    @property
    def analysed_area(self) -> float:
        """Their area."""
        return sum(area for code, area in self.area.items() if int(code) <= MAX_CLASS)


def open_map(path: str) -> ClassMap:
    """Open a class raster and read it through once, window by window.

    Raises:
        SceneError: It can't be read, or is no class raster.
        ConfigError: Its legend does not distinguish its classes.
    """
    if "://" in path:
        raise ConfigError(f"{path}: samples know their map by the sha256 of its file; copy it to a folder, and give that")
    raster, legend = open_class_raster(path, OpenOptions())
    pixels: dict[str, int] = {}
    area: dict[str, float] = {}
    mask = hashlib.sha256()
    for window in Window.of(raster.shape).parts(SIDE):
        classes = raster.classes(window)
        mask.update(np.packbits(classes <= MAX_CLASS).tobytes())
        counts, areas = measure_codes(classes, window, raster.georeference)
        for code, count in counts.items():
            pixels[code] = pixels.get(code, 0) + count
            area[code] = area.get(code, 0.0) + areas.get(code, float(count))
    codes = sorted(int(code) for code in pixels if int(code) <= MAX_CLASS)
    names = {code: name for code, name in legend.names.items() if code <= MAX_CLASS} or {k: f"class {k}" for k in codes}
    unnamed = [code for code in codes if code not in names]
    if unnamed:
        raise ConfigError(
            f"{path}: {pixels[str(unnamed[0])]:,} pixels have the code {unnamed[0]}, which its legend does not name; it names "
            f"{', '.join(map(str, names))}: name it, or make it no data, or these pixels could not be drawn"
        )
    if len(set(names.values())) < len(names):
        twice = next(name for name in names.values() if list(names.values()).count(name) > 1)
        raise ConfigError(f"{path}: two codes are named {twice!r}; a label could mean either: give each a name of its own")
    return ClassMap(Path(path), raster, names, pixels, area, mask.hexdigest())


def same_place(place: Georeference, transform: Sequence[float], shape: Sequence[int]) -> bool:
    """Whether the corners of a grid lie where those of another transform lie, to a hundredth of a pixel."""
    height, width = shape
    other = Georeference(tuple(transform), place.crs)  # type: ignore[arg-type]  # six numbers
    away = place.corners(height, width) - other.corners(height, width)
    return bool((np.abs(away) <= SAME_PLACE_PX * abs(other.determinant) ** 0.5).all())


def check_buffer(raster: RasterFile, buffer_m: float) -> None:
    """Refuse a buffer that holds no pixel, or more than is read at once.

    Raises:
        ConfigError: It does.
    """
    sides = _sides(raster)
    if buffer_m < min(sides):
        raise ConfigError(f"--buffer: {buffer_m:g} m hold no pixel, which has {min(sides):.3g} m; give at least that")
    if buffer_m / min(sides) > LARGEST_BUFFER:
        raise ConfigError(
            f"--buffer: {buffer_m:g} m are {buffer_m / min(sides):.0f} pixels; up to {LARGEST_BUFFER}, "
            f"{LARGEST_BUFFER * min(sides):.4g} m, work"
        )


def _sides(raster: RasterFile) -> tuple[float, float]:
    middle = Window.at((raster.shape[0] // 2, raster.shape[1] // 2), (1, 1))
    return raster.georeference.pixel_sides(middle) or (1.0, 1.0)


def pixel_strata(raster: RasterFile, basis: RasterFile, codes: Sequence[int], around: tuple[int, ...], buffer_m: float) -> Strata:
    """The stratum of each analysed pixel.

    Args:
        raster: The map; what it has not analysed is in no stratum.
        basis: The raster whose classes are the strata; may be the map.
        codes: Its classes, in the order of the strata.
        around: Those with a stratum around them, the last one.
        buffer_m: How far that reaches.
    """
    table = np.full(256, OUTSIDE, np.int16)
    table[list(codes)] = np.arange(len(codes))

    def read(window: Window) -> NDArray[np.int16]:
        found = table[basis.classes(window)]
        if around:
            found[_near(basis, window, around, buffer_m) & (found != OUTSIDE)] = len(codes)
        if basis is not raster:
            found[raster.classes(window) > MAX_CLASS] = OUTSIDE
        return found

    return read


def _near(raster: RasterFile, window: Window, around: tuple[int, ...], buffer_m: float) -> NDArray[np.bool_]:
    """Pixels of other classes within a distance of some classes; metres are those in the middle of the raster."""
    from scipy import ndimage

    row_m, col_m = _sides(raster)
    rows, cols = int(np.ceil(buffer_m / row_m)) + 1, int(np.ceil(buffer_m / col_m)) + 1
    wide = window.grown(rows, cols)
    inside = wide & Window.of(raster.shape)
    assert inside is not None
    own = np.isin(raster.classes(inside), around)
    if not own.any():
        return np.zeros(window.shape, np.bool_)
    near = ndimage.distance_transform_edt(~own, sampling=(row_m, col_m)) <= buffer_m
    return np.asarray((near & ~own)[window.slices_in(inside)])


def block_strata(raster: RasterFile, basis: RasterFile, block: int, around: tuple[int, ...]) -> Strata:
    """Blocks without some classes (0) and with them (1); those without an analysed pixel are in no stratum.

    Windows are counted in blocks. Not more is read at once than a window of about 1024 pixels a side.
    """
    scene = Window.of(raster.shape)

    def read(window: Window) -> NDArray[np.int16]:
        found = np.full(window.shape, OUTSIDE, np.int16)
        for part in window.parts(max(1, SIDE // block)):
            pixels = Window.at((part.row_off * block, part.col_off * block), (part.height * block, part.width * block)) & scene
            assert pixels is not None
            known = _any_in_blocks(raster.classes(pixels) <= MAX_CLASS, block)
            inside = _any_in_blocks(np.isin(basis.classes(pixels), around), block) if around else np.zeros_like(known)
            found[part.slices_in(window)] = np.where(known, inside.astype(np.int16), OUTSIDE)
        return found

    return read


def _any_in_blocks(values: NDArray[np.bool_], block: int) -> NDArray[np.bool_]:
    height, width = values.shape
    padded = np.pad(values, [(0, -height % block), (0, -width % block)])
    return np.asarray(padded.reshape(-(-height // block), block, -(-width // block), block).any(axis=(1, 3)))
