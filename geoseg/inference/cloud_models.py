"""Models that map clouds: networks of geoseg, and the pixel classifier of s2cloudless."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
import threading
from collections import OrderedDict
from typing import Any

import numpy as np

from geoseg.arrays import F64, I64, Bools
from geoseg.clouds.growing import Grown, pixel_sides
from geoseg.clouds.hidden import Hidden
from geoseg.dialect import setting
from geoseg.errors import BandError, ConfigError, ModelError
from geoseg.grid import Grid
from geoseg.inference.choice import open_engine
from geoseg.inference.decision import Decision
from geoseg.inference.engine import TileBatch
from geoseg.inference.normalization import Normalization
from geoseg.models.model_folder import load_model
from geoseg.parallel import cores
from geoseg.scenes.bands.choosing import choose_bands
from geoseg.scenes.clouds import CloudNetwork, CloudTrees
from geoseg.scenes.inset import reader_of_files
from geoseg.scenes.scene import Scene
from geoseg.windows import Window

__all__ = ["S2CLOUDLESS", "open_model", "trees_of"]

S2CLOUDLESS = "s2cloudless"
BANDS = ("b01", "b02", "b04", "b05", "b08", "b8a", "b09", "b10", "b11", "b12")
"""Of Sentinel-2 L1C, in the order of the classifier."""
THRESHOLD = 0.4
"""Probability of a cloud; the package's own."""
AVERAGE_M, GROW_M = 220.0, 110.0
"""Radius over which probabilities are averaged, and by which clouds grow: 22 and 11 pixels of 10 m."""
KEPT_TILES = 64
STEPS = 10_000
"""Probabilities are added up in whole steps, so that sums are exact, whatever window is read."""


def open_model(scene: Scene, source: CloudNetwork | CloudTrees) -> Hidden:
    """A model as the mask of what it finds in a scene.

    Args:
        scene: The scene, of one date, without ``clouds``.
        source: The model.

    Raises:
        ModelError: It is not there, damaged, or another than it was planned with.
        ConfigError: A package that it needs is not installed.
    """
    if isinstance(source, CloudNetwork):
        return _Network(scene, source)
    shape = scene.height, scene.width
    rows, cols = pixel_sides(scene.georeference, shape)
    return Grown(_Trees(scene, source, round(AVERAGE_M / math.sqrt(rows * cols))), shape, (GROW_M / rows, GROW_M / cols))


class _Network:
    """Tiles of a lattice over the scene, whatever window is read, so that results depend on no chunk."""

    def __init__(self, scene: Scene, source: CloudNetwork) -> None:
        model = load_model(source.path)
        if model.sha256 != source.sha256:
            raise ModelError(f"{source.path}: the model changed since the plan was made; run again")
        self._engine = open_engine(
            "torch" if source.engine == "torch" else "onnx",
            model,
            Normalization.of(model.card, source.values),
            threads=source.threads,
            device=source.device,
        )
        self._decision = Decision.of(model.card)
        self._codes = list(source.codes)
        self._reader = reader_of_files(scene, source.bands, threads=1, cache_bytes=32 << 20)
        self._grid = Grid(
            scene.height,
            scene.width,
            tile=source.tile,
            halo=source.halo,
            stride=model.card.stride,
            chunk=max(256, source.tile),
            blend=False,
        )
        self._kept: OrderedDict[tuple[int, int], Bools] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, window: Window) -> Bools:
        """(h, w), True where the most probable class is one of those that hide the ground.

        Raises:
            ReadError: A block can't be read.
        """
        out = np.zeros(window.shape, np.bool_)
        rows, cols = window.cells((self._grid.step, self._grid.step))
        for place in ((row, col) for row in rows for col in cols):
            core = self._grid.tile_at(*place).core
            common = core & window
            assert common is not None
            out[common.slices_in(window)] = self._tile(place)[common.slices_in(core)]
        return out

    def _tile(self, place: tuple[int, int]) -> Bools:
        # One at a time: two threads that want the same tile would both compute it.
        with self._lock:
            if place in self._kept:
                self._kept.move_to_end(place)
                return self._kept[place]
            tile = self._grid.tile_at(*place)
            seen = tile.window & self._grid.scene
            assert seen is not None
            pixels = self._reader.read(seen)
            batch = TileBatch([pixels.data], [pixels.valid], tile.window.shape, [tile.core.slices_in(tile.window)])
            ((part,),) = self._engine.classify([batch], self._decision)
            hidden = np.isin(part.classes, self._codes)
            self._kept[place] = hidden
            while len(self._kept) > KEPT_TILES:
                self._kept.popitem(last=False)
        return hidden


def trees_of(scene: Scene, threads: int = 0) -> CloudTrees:
    """The classifier of s2cloudless, with the bands that it takes of a scene.

    Args:
        scene: The scene.
        threads: CPU threads; 0 for all.

    Raises:
        ConfigError: The package is not installed.
        BandError: The scene has not its bands.
    """
    if importlib.util.find_spec(S2CLOUDLESS) is None:
        raise ConfigError(f"clouds: model:{S2CLOUDLESS} needs a package: pip install 'geoseg[s2cloudless]'")
    try:
        bands, _ = choose_bands(scene, BANDS, None)
    except BandError as error:
        raise BandError(
            f"{scene.path}: {S2CLOUDLESS} takes the bands {', '.join(BANDS).upper()} of Sentinel-2 L1C, which are not all there; "
            f"of L2A use {setting('clouds', 'scl')}"
        ) from error
    if scene.georeference.crs is None:
        raise BandError(f"{scene.path}: {S2CLOUDLESS} needs the size of pixels, and the image has no CRS")
    chosen = [scene.bands[i] for i in bands]
    counts = [np.issubdtype(np.dtype(band.dtype), np.integer) and band.scale == 1 for band in chosen]
    return CloudTrees(
        version=importlib.metadata.version(S2CLOUDLESS),
        bands=bands,
        scale=tuple(1e-4 if plain else band.scale for plain, band in zip(counts, chosen, strict=True)),
        offset=tuple(0.0 if plain else band.offset for plain, band in zip(counts, chosen, strict=True)),
        threads=threads,
    )


class _Trees:
    """Probabilities of clouds pixel by pixel, averaged over a disk."""

    def __init__(self, scene: Scene, source: CloudTrees, radius: int) -> None:
        self._detector = _detector()
        self._reader = reader_of_files(scene, source.bands, threads=1, cache_bytes=32 << 20)
        self._scale, self._offset = (np.array(values, np.float64)[:, None, None] for values in (source.scale, source.offset))
        self._whole, self._radius = Window.of((scene.height, scene.width)), radius
        # LightGBM would take all cores of the machine, also those that this process may not use.
        self._threads = source.threads or cores()

    def read(self, window: Window) -> Bools:
        """(h, w), True where the mean of the probabilities around is above the threshold.

        Raises:
            ReadError: A block can't be read.
        """
        seen = window.grown(self._radius) & self._whole
        assert seen is not None
        pixels = self._reader.read(seen)
        reflectance = pixels.data * self._scale + self._offset
        steps = np.where(pixels.valid, np.rint(self._probability(reflectance) * STEPS), 0).astype(np.int64)
        inside = window.slices_in(seen)
        total, count = (_disk_sums(values, self._radius)[inside] for values in (steps, pixels.valid.astype(np.int64)))
        return np.asarray(total > THRESHOLD * STEPS * count)

    def _probability(self, reflectance: F64) -> F64:
        pixels = np.moveaxis(reflectance, 0, -1)[None]
        found: F64 = self._detector.get_cloud_probability_maps(pixels, num_threads=self._threads)[0]
        return found


def _detector() -> Any:
    try:
        from s2cloudless import S2PixelCloudDetector
    except ImportError as error:
        raise ConfigError(f"clouds: model:{S2CLOUDLESS} needs a package: pip install 'geoseg[s2cloudless]' ({error})") from error
    return S2PixelCloudDetector()


def _disk_sums(values: I64, radius: int) -> I64:
    """(h, w) sums over the disk around each pixel, as far as it lies within the array."""
    height, width = values.shape
    along = np.concatenate([np.zeros((height, 1), np.int64), np.cumsum(values, axis=1)], axis=1)
    out, cols = np.zeros_like(values), np.arange(width)
    for shift in range(-min(radius, height - 1), min(radius, height - 1) + 1):
        half = int((radius**2 - shift**2) ** 0.5)
        rows = slice(max(0, shift), height + min(0, shift))
        part = along[rows]
        sums = part[:, np.minimum(cols + half + 1, width)] - part[:, np.maximum(cols - half, 0)]
        out[max(0, -shift) : height + min(0, -shift)] += sums
    return out
