"""Class rasters of one lattice that touch or overlap, read as one."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from geoseg.arrays import U8, Bools
from geoseg.codes import MAX_CLASS, NODATA, NOT_ANALYSED
from geoseg.crs import crs_of
from geoseg.dialect import setting
from geoseg.errors import ConfigError, GeoreferenceError
from geoseg.georeference import Georeference
from geoseg.polygons.block_grid import BlockGrid
from geoseg.scenes.legend import Legend
from geoseg.scenes.overlap import SAME_PLACE_PX, farthest
from geoseg.scenes.scene import OpenOptions, Scene
from geoseg.windows import Window
from pipeline.files.class_rasters import RasterFile, codes_for, open_class_raster

__all__ = ["JoinedRaster", "open_joined"]

OPEN = 32
"""Pieces that stay open."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """One of the rasters."""

    path: str
    scene: Scene
    confidence: Scene | None
    own: bool
    """Whether 254 and 255 are codes of this program in it."""
    window: Window
    """What it fills of all."""


class JoinedRaster:
    """Several class rasters as one. Where they overlap, the first of them that has a class says it; as a class raster.

    What is no data in one, or not analysed, gives way to a class of another. Few files are open at a time.

    Args:
        pieces: They, the first one to ask first.
        place: Where the pixels of all lie.
        shape: Rows and columns of all.
        written: Values of the files by codes that stand for them, where the two differ.
    """

    def __init__(self, pieces: Sequence[Piece], place: Georeference, shape: tuple[int, int], written: Mapping[int, int]) -> None:
        self.shape, self.georeference, self.written = shape, place, written
        self.has_confidence = pieces[0].confidence is not None
        self.scene = replace(pieces[0].scene, georeference=place, height=shape[0], width=shape[1])
        self._pieces = pieces
        windows = [piece.window for piece in pieces]
        self._edges = np.array([(w.row_off, w.row_stop, w.col_off, w.col_stop) for w in windows], np.int64).T
        self._open: OrderedDict[int, RasterFile] = OrderedDict()
        self._lock = threading.Lock()

    def classes(self, window: Window) -> U8:
        """Class codes of a window."""
        return self._read(window)[0]

    def confidence(self, window: Window) -> U8:
        """Confidence of a window, of the piece that each class is of."""
        return self._read(window, with_confidence=True)[1]

    def uniform(self, window: Window) -> int | None:
        """No data, where no piece has blocks."""
        for number in self._near(window):
            common = self._pieces[number].window & window
            assert common is not None
            if self._opened(number).uniform(self._own(number, common)) is None:
                return None
        return NODATA

    def blocks(self, grid: BlockGrid) -> Iterable[int]:
        """The blocks over which a piece lies."""
        return iter(sorted({block for piece in self._pieces for block in grid.touched(piece.window)}))

    def _read(self, window: Window, *, with_confidence: bool = False) -> tuple[U8, U8]:
        """(h, w) class codes of a window, and (h, w) confidence, 0 where it is not asked for."""
        classes = np.full(window.shape, NODATA, np.uint8)
        confidence = np.zeros(window.shape, np.uint8)
        for number in self._near(window):
            common = self._pieces[number].window & window
            assert common is not None
            own, at = self._own(number, common), common.slices_in(window)
            raster = self._opened(number)
            found = raster.classes(own)
            taken = _goes_first(found, classes[at])
            classes[at][taken] = found[taken]
            if with_confidence:
                confidence[at][taken] = raster.confidence(own)[taken]
        return classes, confidence

    def _near(self, window: Window) -> list[int]:
        """Numbers of the pieces that a window touches, in their order."""
        top, bottom, left, right = self._edges
        rows = (top < window.row_stop) & (bottom > window.row_off)
        return [int(k) for k in np.flatnonzero(rows & (left < window.col_stop) & (right > window.col_off))]

    def _own(self, number: int, common: Window) -> Window:
        """A window of all as one of a piece."""
        whole = self._pieces[number].window
        return Window.at((common.row_off - whole.row_off, common.col_off - whole.col_off), common.shape)

    def _opened(self, number: int) -> RasterFile:
        """A piece; whoever reads of one that is closed meanwhile holds it until that is done."""
        with self._lock:
            raster = self._open.pop(number, None)
            if raster is None:
                piece = self._pieces[number]
                raster = RasterFile(piece.scene, piece.confidence, own=piece.own)
                raster.written = {} if piece.own else self.written
            self._open[number] = raster
            if len(self._open) > OPEN:
                self._open.popitem(last=False)
            return raster


def open_joined(
    paths: Sequence[str], options: OpenOptions, *, confidence: Sequence[str] = (), named: Collection[int] = ()
) -> tuple[JoinedRaster, Legend]:
    """Open class rasters that share a lattice as one, with the legend of all.

    In rasters of other programs, 254 and 255 are values like all, and get codes that are free in all rasters; that reads these
    through once.

    Args:
        paths: The rasters; where they overlap, they are asked in the order of their paths.
        options: How they are opened.
        confidence: That of each, in the order of the rasters, or of none.
        named: Codes of classes that get their names elsewhere.

    Raises:
        SceneError: One can't be read, or is no class raster.
        GeoreferenceError: They share no lattice.
        ConfigError: Their classes have other names, or some have no confidence.
    """
    if confidence and len(confidence) != len(paths):
        raise ConfigError(
            f"confidence: {len(confidence)} rasters for {len(paths)} class rasters; give one for each, in their order"
        )
    of_each: Sequence[str | None] = confidence or [None] * len(paths)
    sure = dict(zip(paths, of_each, strict=True))
    found = [(path, *open_class_raster(path, options, confidence=sure[path])) for path in sorted(sure)]
    first = found[0][1]
    if first.georeference.crs is None:
        raise GeoreferenceError(f"{first.scene.path}: has no CRS, so that rasters can't be joined by their places; give them one")
    corners = [_corner(raster, first) for _, raster, _ in found]
    top, left = (min(corner[k] for corner in corners) for k in (0, 1))
    pieces = [
        Piece(path, raster.scene, raster.confidence_scene, raster.own, Window.at((row - top, col - left), raster.shape))
        for (path, raster, _), (row, col) in zip(found, corners, strict=True)
    ]
    shape = max(piece.window.row_stop for piece in pieces), max(piece.window.col_stop for piece in pieces)
    legend = _legend_of([(path, legend) for path, _, legend in found], named)
    written = _written([raster for _, raster, _ in found])
    return JoinedRaster(pieces, _place(pieces, first, top, left), shape, written), legend


def _goes_first(found: U8, there: U8) -> Bools:
    """Where codes are taken rather than those that are there: classes over what is none, not analysed over no data."""
    return np.asarray(((found <= MAX_CLASS) & (there > MAX_CLASS)) | ((found == NOT_ANALYSED) & (there == NODATA)))


def _corner(raster: RasterFile, first: RasterFile) -> tuple[int, int]:
    """Row and column of a raster's first pixel, counted from that of the first raster.

    Raises:
        GeoreferenceError: Its pixels are not on the lattice of the first.
    """
    here, there = first.georeference, raster.georeference
    if there.crs is None or crs_of(there.crs) != crs_of(str(here.crs)):
        raise GeoreferenceError(
            f"{raster.scene.path}: is in {there.name}, and {first.scene.path} in {here.name}; rasters are joined in one "
            "CRS, so warp it to that one (gdalwarp -t_srs … -tap -tr …, nearest)"
        )
    (rows, cols) = here.rows_cols(there.xy(np.zeros(1), np.zeros(1)))
    row, col = round(float(rows[0])), round(float(cols[0]))
    off = farthest(_shifted(here, row, col), there, raster.shape)
    if not off < SAME_PLACE_PX:
        raise GeoreferenceError(
            f"{raster.scene.path}: its pixels are not those of {first.scene.path}: they lie up to {off:.2g} px off its "
            f"lattice, and {SAME_PLACE_PX:g} px is the most; bring it onto that lattice (gdalwarp -tap -tr …, nearest)"
        )
    return row, col


def _shifted(place: Georeference, rows: int, cols: int) -> Georeference:
    """The georeference of a raster that begins so many rows and columns further."""
    a, b, c, d, e, f = place.transform
    return replace(place, transform=(a, b, c + cols * a + rows * b, d, e, f + cols * d + rows * e))


def _place(pieces: Sequence[Piece], first: RasterFile, top: int, left: int) -> Georeference:
    """That of all: of a piece at its corner, where there is one, so that no coordinate is rounded."""
    at_corner = [piece for piece in pieces if (piece.window.row_off, piece.window.col_off) == (0, 0)]
    return at_corner[0].scene.georeference if at_corner else _shifted(first.georeference, top, left)


def _legend_of(legends: Sequence[tuple[str, Legend]], named: Collection[int]) -> Legend:
    """Names, colours and tags of all: those of the first that has them; tags that differ are left out.

    Raises:
        ConfigError: A class has two names.
    """
    names: dict[int, tuple[str, str]] = {}
    colors: dict[int, str] = {}
    for path, legend in legends:
        for code, name in legend.names.items():
            if code in named:
                continue
            before, where = names.setdefault(code, (name, path))
            if before != name:
                raise ConfigError(
                    f"{path}: class {code} is {name!r}, and {before!r} in {where}; joined rasters have one legend: say what it "
                    f"is with {setting('names', f'{code}=NAME')}, or correct one of them"
                )
        colors = dict(legend.colors) | colors
    tags = dict(legends[0][1].tags)
    for _, legend in legends[1:]:
        tags = {key: value for key, value in tags.items() if legend.tags.get(key) == value}
    return Legend({code: name for code, (name, _) in names.items()}, colors, tags)


def _written(rasters: Sequence[RasterFile]) -> dict[int, int]:
    """Codes for 254 and 255 of other programs that are free in all rasters."""
    if all(raster.own for raster in rasters):
        return {}
    there = np.zeros(NODATA + 1, np.bool_)
    reserved = np.zeros(NODATA + 1, np.bool_)
    for raster in rasters:
        values = raster.values_there()
        there[:NOT_ANALYSED] |= values[:NOT_ANALYSED]
        if not raster.own:
            reserved |= values
    there[NOT_ANALYSED:] = reserved[NOT_ANALYSED:]
    return codes_for(there, rasters[0].scene.path)
