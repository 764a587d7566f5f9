"""Chunk results as they are stored, and the rasters that they add up to."""

from __future__ import annotations

import hashlib
import io
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import product

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from geoseg.arrays import U16
from geoseg.codes import NODATA
from geoseg.formats.pyramid import Read
from geoseg.grid import Grid
from geoseg.inference.chunks import ChunkLayers
from geoseg.inference.value_chunks import VALUE_BYTES, from_bytes
from geoseg.instances.objects import Objects
from geoseg.models.model_folder import file_hash
from geoseg.scenes.gdal import gdal_env, open_written
from geoseg.windows import Window
from pipeline.infer.storage import Storage
from pipeline.plan.memory import KEPT_BYTES
from pipeline.plan.result_layers import LAYERS, LayerName, Layers

__all__ = ["ChunkStore"]

Bytes = NDArray[np.uint8]
TILE = 512
"""Side of the tiles of a chunk's file, and of the pieces that are kept."""
READ_ONCE = KEPT_BYTES // 4
"""Windows of more pixels are squares of rasters, each of which is read once: nothing of them is kept."""


class ChunkStore:
    """The chunk results of a scene; may be read by several threads."""

    def __init__(self, storage: Storage, grid: Grid, layers: Layers = LAYERS) -> None:
        self.storage, self.grid, self.layers = storage, grid, layers
        self._first = {name: 1 + sum(count for _, count in layers[:i]) for i, (name, _) in enumerate(layers)}
        self._cache: OrderedDict[tuple[int, int, Window], Bytes] = OrderedDict()
        self._cached = 0
        self._lock = threading.Lock()

    def write(
        self, index: int, layers: ChunkLayers, thumbnail: NDArray[np.generic], objects: Objects | None = None
    ) -> dict[str, str]:
        """Write a chunk's layers, and its objects; returns the sha256 of each file by name. Chunks without data have no file."""
        if (layers.classes == NODATA).all():
            return {}
        files = {_raster(index): _encoded(layers, [name for name, _ in self.layers]), _small(index): _as_npy(thumbnail)}
        if objects is not None and len(objects):
            files[_seen(index)] = objects.to_bytes()
        for name, data in files.items():
            self.storage.put(name, data)
        return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}

    def content(self, layers: ChunkLayers, objects: Objects | None = None) -> str | None:
        """sha256 of what a chunk holds, however it is compressed: its layers' pixels in their order, then its objects.

        None where it holds no data.
        """
        if (layers.classes == NODATA).all():
            return None
        digest = hashlib.sha256()
        for name, _ in self.layers:
            pixels = np.ascontiguousarray(getattr(layers, name))
            digest.update(f"{name} {pixels.dtype.str} {pixels.shape}\n".encode())
            digest.update(pixels.data)
        if objects is not None and len(objects):
            digest.update(b"objects\n" + objects.to_bytes())
        return digest.hexdigest()

    def verify(self, files: Mapping[str, str]) -> bool:
        """Whether the files are there with these hashes."""
        return all(self._sha256(name) == digest for name, digest in files.items())

    def _sha256(self, name: str) -> str | None:
        path = self.storage.path(name)
        try:
            return file_hash(path) if path is not None else hashlib.sha256(self.storage.get(name)).hexdigest()
        except FileNotFoundError:
            return None

    def thumbnail(self, index: int) -> NDArray[np.generic] | None:
        """The chunk's part of the thumbnail; None where it has none."""
        try:
            part: NDArray[np.generic] = np.load(io.BytesIO(self.storage.get(_small(index))), allow_pickle=False)
        except FileNotFoundError:
            return None
        return part

    def objects(self, index: int) -> Objects:
        """Objects that the tiles of a chunk saw."""
        try:
            return Objects.from_bytes(self.storage.get(_seen(index)))
        except FileNotFoundError:
            return Objects.empty()

    def values(self, window: Window, filled: Collection[int]) -> U16:
        """Codes of values of a window, as ``values.tif`` has them; arguments are those of ``read``."""
        high, low = (self.read("values", window, filled, band) for band in range(VALUE_BYTES))
        return from_bytes(np.stack([high, low]), self.read("classes", window, filled))

    def read(self, layer: LayerName, window: Window, filled: Collection[int], band: int = 0) -> Bytes:
        """A window of one band of a layer, put together from the chunks that it touches.

        Args:
            layer: The layer.
            window: The window.
            filled: The chunks that have files; all others hold no data.
            band: The band, from 0.
        """
        number = self._first[layer] + band
        out = np.full(window.shape, NODATA, np.uint8)
        for index in self._touching(window):
            if index not in filled:
                continue
            core = self.grid.chunk_core(index)
            common = core & window
            assert common is not None
            self._fill(out[common.slices_in(window)], index, number, common.within(core), cached=window.pixels <= READ_ONCE)
        return out

    def reader(self, layer: LayerName, filled: Collection[int], band: int) -> Read:
        """What reads windows of one band of a layer as its raster has them; arguments are those of ``read``."""
        if layer == "values":
            return partial(self.values, filled=filled)
        return partial(self.read, layer, filled=filled, band=band)

    def read_bands(self, window: Window, filled: Collection[int]) -> Bytes:
        """(bands, h, w) of a window: all bands of all layers in their order, of each chunk no more than is asked for."""
        out = np.full((sum(count for _, count in self.layers), *window.shape), NODATA, np.uint8)
        for index in self._touching(window):
            if index not in filled:
                continue
            core = self.grid.chunk_core(index)
            common = core & window
            assert common is not None
            with gdal_env(), self._open(_raster(index)) as dataset:
                place = out[(slice(None), *common.slices_in(window))]
                dataset.read(window=common.within(core).for_rasterio(), out=place)
        return out

    def is_empty(self, window: Window, filled: Collection[int]) -> bool:
        """Whether no chunk that a window touches has a file."""
        return not any(index in filled for index in self._touching(window))

    def _touching(self, window: Window) -> list[int]:
        return self.grid.chunks_touched(window)

    def _fill(self, out: Bytes, index: int, number: int, part: Window, *, cached: bool) -> None:
        """Fill an array with a part of a band of a chunk, counted from the chunk's first pixel."""
        if not cached:
            with gdal_env(), self._open(_raster(index)) as dataset:
                dataset.read(number, window=part.for_rasterio(), out=out)
            return
        whole = Window.of(self.grid.chunk_core(index).shape)
        cells = (Window.cell(place, (TILE, TILE)) & whole for place in product(*part.cells((TILE, TILE))))
        pieces = [cell for cell in cells if cell is not None]
        for piece, pixels in zip(pieces, self._pieces(index, number, pieces), strict=True):
            common = piece & part
            assert common is not None
            out[common.slices_in(part)] = pixels[common.slices_in(piece)]

    def _pieces(self, index: int, number: int, pieces: Sequence[Window]) -> list[Bytes]:
        """The pixels of pieces of a band; those that were not kept are decoded, and kept for the next blocks."""
        found = dict[Window, Bytes]()
        with self._lock:
            for piece in pieces:
                if (key := (index, number, piece)) in self._cache:
                    self._cache.move_to_end(key)
                    found[piece] = self._cache[key]
        missing = [piece for piece in pieces if piece not in found]
        if missing:
            with gdal_env(), self._open(_raster(index)) as dataset:
                found |= {piece: dataset.read(number, window=piece.for_rasterio()) for piece in missing}
            self._keep({(index, number, piece): found[piece] for piece in missing})
        return [found[piece] for piece in pieces]

    def _keep(self, pieces: Mapping[tuple[int, int, Window], Bytes]) -> None:
        with self._lock:
            for key, pixels in pieces.items():
                if key not in self._cache:
                    self._cache[key] = pixels
                    self._cached += pixels.nbytes
            while self._cached > KEPT_BYTES:
                self._cached -= self._cache.popitem(last=False)[1].nbytes

    @contextmanager
    def _open(self, name: str) -> Iterator[rasterio.DatasetReader]:
        with open_written(self.storage.path(name) or self.storage.get(name)) as dataset:
            yield dataset


def _raster(index: int) -> str:
    return f"{index:07d}.tif"


def _small(index: int) -> str:
    return f"{index:07d}.npy"


def _seen(index: int) -> str:
    return f"{index:07d}.objects.npz"


def _as_npy(array: NDArray[np.generic]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _encoded(layers: ChunkLayers, names: Iterable[LayerName]) -> bytes:
    """The layers as a GeoTIFF, made in memory: GDAL may close a file on a full disk without a word."""
    height, width = layers.classes.shape
    bands = [band for name in names for band in getattr(layers, name).reshape(-1, height, width)]
    with gdal_env(), MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            height=height,
            width=width,
            count=len(bands),
            dtype="uint8",
            nodata=NODATA,
            interleave="band",
            tiled=height >= 256 and width >= 256,
            blockxsize=TILE,
            blockysize=TILE,
            compress="zstd",
            zstd_level=1,
            bigtiff="IF_SAFER",
        ) as dataset:
            for number, band in enumerate(bands, start=1):
                dataset.write(band, number)
        data: bytes = memory.read()
    return data
