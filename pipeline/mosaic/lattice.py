"""The lattice of a mosaic: one grid of pixels without end, on which all of its scenes lie."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from geoseg.crs import crs_of
from geoseg.documents import Json
from geoseg.errors import ConfigError, GeoreferenceError
from geoseg.georeference import Georeference
from geoseg.models.card import Card
from geoseg.scenes.opening import open_scene
from geoseg.scenes.overlap import SAME_PLACE_PX, farthest, outline_in
from geoseg.scenes.scene import Scene
from geoseg.scenes.sources import SceneRef
from geoseg.windows import Window
from pipeline.config.sections import Config
from pipeline.plan.options import open_options

__all__ = ["Lattice", "lattice_of", "natively"]

PHASE_DECIMALS = 6
"""Of a pixel, to which the place of the lattice is rounded."""
NEARLY = 0.01
"""Pixels that differ by less than this share in metres and on the map have the size that was asked for."""


@dataclass(frozen=True, slots=True)
class Lattice:
    """Pixels of one size over all of a CRS, north up; windows count from its corner, and may begin before it."""

    crs: str
    """WKT."""
    pixel: tuple[float, float]
    """Width and height of a pixel in units of the CRS."""
    corner: tuple[float, float]
    """x and y of the corner of row 0 and column 0, less than a pixel from the origin of the CRS."""

    @classmethod
    def of(cls, document: object) -> Lattice | None:
        """Read it from a document; None where that is none."""
        if not isinstance(document, Mapping):
            return None
        try:
            (width, height), (x, y) = document["pixel"], document["corner"]
            found = cls(str(document["crs"]), (float(width), float(height)), (float(x), float(y)))
        except (KeyError, TypeError, ValueError):
            return None
        return found if min(found.pixel) > 0 and all(map(math.isfinite, found.pixel + found.corner)) else None

    def document(self) -> dict[str, Json]:
        """As JSON."""
        return {"crs": self.crs, "pixel": list(self.pixel), "corner": list(self.corner)}

    def georeference(self, row: int = 0, col: int = 0) -> Georeference:
        """That of a raster whose first pixel is at a row and a column of the lattice."""
        (width, height), (x, y) = self.pixel, self.corner
        return Georeference((width, 0.0, x + col * width, 0.0, -height, y - row * height), self.crs)

    def window(self, place: Georeference, shape: tuple[int, int]) -> Window:
        """The least window around all of a raster.

        Raises:
            GeoreferenceError: It has no place in the CRS of the lattice.
        """
        outline = outline_in(self.georeference(), place, shape)
        if not np.isfinite(outline).all():
            raise GeoreferenceError(f"some of it has no place in {self.georeference().name}")
        rows, cols = outline.T
        return Window.between(_floor(rows.min()), -_floor(-rows.max()), _floor(cols.min()), -_floor(-cols.max()))

    def holds(self, place: Georeference, shape: tuple[int, int]) -> bool:
        """Whether the pixels of a raster are pixels of the lattice."""
        if place.crs is None or crs_of(place.crs) != crs_of(self.crs):
            return False
        around = self.window(place, shape)
        return farthest(self.georeference(around.row_off, around.col_off), place, shape) < SAME_PLACE_PX


def natively(config: Config, ref: SceneRef) -> Config:
    """The settings with which a scene is opened as it is; band files of several resolutions are as they are resampled."""
    resample = config.scene.resample and len(ref.paths) > 1
    return config.model_copy(update={"scene": config.scene.model_copy(update={"target_crs": None, "resample": resample})})


def lattice_of(ref: SceneRef, scene: Scene, config: Config, card: Card | None) -> Lattice:
    """The lattice that a mosaic gets from the first of its scenes, and from the settings.

    Where the settings leave the pixels of this scene as they are, they are pixels of the lattice.

    Args:
        ref: The scene as it was given.
        scene: It, as it is.
        config: The settings.
        card: The model's; None where there is none, and pixels keep their size.

    Raises:
        GeoreferenceError: The scene has no CRS.
        ConfigError: The model does not say to which size pixels are to be resampled.
    """
    own = scene.georeference
    if own.crs is None:
        raise GeoreferenceError(f"{scene.path}: no CRS; a mosaic needs to know where its scenes lie")
    if config.scene.target_crs is not None:
        there = config.model_copy(update={"scene": config.scene.model_copy(update={"resample": False})})
        moved = open_scene(ref.paths, ref.name, open_options(there, card), band_names=ref.band_names)
        if moved.georeference.crs is not None and crs_of(moved.georeference.crs) != crs_of(own.crs):
            scene = replace(moved, view=None)
    place = scene.georeference
    a, b, c, d, e, f = place.transform
    pixel, north_up = (math.hypot(a, d), math.hypot(b, e)), b == d == 0 and a > 0 > e
    if config.scene.resample and card is not None:
        pixel, north_up = _resampled(scene, card, pixel), False
    kept = north_up and place == own
    corner = (_phase(c, pixel[0]), _phase(f, pixel[1])) if kept else (0.0, 0.0)
    return Lattice(str(place.crs), pixel, corner)


def _resampled(scene: Scene, card: Card, pixel: tuple[float, float]) -> tuple[float, float]:
    """The size in units of the CRS of pixels that have the size in metres that the model was trained on."""
    if card.gsd_m is None:
        raise ConfigError("scene.resample: the model's card gives no pixel size (gsd_m) to resample to")
    metres = scene.pixel_size
    assert metres is not None
    nominal = Georeference((1.0, 0.0, 0.0, 0.0, -1.0, 0.0), scene.georeference.crs).nominal_pixel_m
    side = math.sqrt(pixel[0] * pixel[1]) * card.gsd_m / metres
    exact = card.gsd_m / nominal
    side = exact if scene.georeference.is_projected and abs(side / exact - 1) < NEARLY else side
    return side, side


def _phase(coordinate: float, pixel: float) -> float:
    """How far corners of pixels lie behind multiples of their size."""
    share = round(coordinate / pixel - math.floor(coordinate / pixel), PHASE_DECIMALS)
    return 0.0 if share in (0.0, 1.0) else share * pixel


def _floor(value: float) -> int:
    """Rounded down, but for what is nearly whole."""
    return round(value) if abs(value - round(value)) < SAME_PLACE_PX else math.floor(value)
