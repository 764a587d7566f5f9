"""Plans of scenes that a catalogue tells of: how much they are together, without a file being opened."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from geoseg.crs import crs_of
from geoseg.documents import Json
from geoseg.errors import GeosegError
from geoseg.georeference import Georeference
from geoseg.grid import Grid
from geoseg.models.card import Card
from geoseg.scenes.sources import SceneRef
from geoseg.scenes.stac.told import ToldFile
from pipeline.config.sections import Config
from pipeline.plan.memory import chunk_side
from pipeline.plan.task import grid_of_shape

__all__ = ["Catalogued", "catalogued", "is_catalogued", "totals"]

DISK_SHARE = 1.5
"""Bytes of chunk results and outputs together by pixel, as in the plan of an open scene."""


@dataclass(frozen=True, slots=True)
class Catalogued:
    """A scene, as its catalogue tells of it."""

    ref: SceneRef
    shape: tuple[int, int] | None
    """Rows and columns of what is mapped; None where the catalogue does not say."""
    computed_pixels: int = 0
    """Pixels that pass through the network."""
    chunks: int = 0

    @property
    def pixels(self) -> int:
        """Of the scene; 0 where that is not known."""
        return 0 if self.shape is None else self.shape[0] * self.shape[1]

    def describe(self) -> dict[str, Json]:
        """The facts of a line."""
        told = self.ref.told
        assert told is not None
        return {
            "scene": self.ref.name,
            "acquired": told.acquired,
            "cloud_cover": told.cloud_cover,
            "size": None if self.shape is None else list(self.shape),
            "crs": told.files[0].crs if told.files else None,
            "chunks": self.chunks or None,
        }


def is_catalogued(refs: Sequence[SceneRef]) -> bool:
    """Whether scenes are planned by what their catalogue says: several, of all of which one tells."""
    return len(refs) > 1 and all(ref.told is not None and not ref.later for ref in refs)


def catalogued(refs: Iterable[SceneRef], card: Card, config: Config) -> Iterator[Catalogued]:
    """Scenes by what their catalogue says, in their order; nothing is opened.

    Args:
        refs: They, with what is told of them.
        card: The model's.
        config: The settings.

    Raises:
        ConfigError: The settings don't fit the model.
    """

    @lru_cache(maxsize=1024)
    def grid_of(shape: tuple[int, int]) -> Grid:
        return grid_of_shape(shape, card, config, chunk_side(config), "semantic" if card.instances is None else "instances")

    for ref in refs:
        shape = _shape(ref.told.files if ref.told is not None else (), card.gsd_m if config.scene.resample else None)
        if shape is None:
            yield Catalogued(ref, None)
            continue
        grid = grid_of(shape)
        yield Catalogued(ref, shape, int(grid.height * grid.width * grid.waste), grid.n_chunks)


def totals(found: Sequence[Catalogued], card: Card, config: Config) -> dict[str, Json]:
    """What the scenes are together, in the order that one reads it."""
    known = [scene for scene in found if scene.shape is not None]
    pixels = sum(scene.pixels for scene in known)
    whole = " (each as a whole: an area of interest is cut when they are opened)" if config.area.aoi is not None else ""
    return {
        "scenes": f"{len(found):,}; size not known of {len(found) - len(known):,}",
        "sizes": f"as the catalogue says (proj:shape); nothing was opened{whole}",
        "pixels": f"{pixels:,}",
        "model": f"{card.name} {card.version}",
        "chunks": f"{sum(scene.chunks for scene in known):,}",
        "computed": f"{sum(scene.computed_pixels for scene in known):,} px",
        "disk": f"{pixels * DISK_SHARE / 1e9:.2f} GB",
    }


def _shape(files: Sequence[ToldFile], metres: float | None) -> tuple[int, int] | None:
    """Rows and columns of a scene on the grid of its first file, or in pixels of so many metres."""
    if not files or any(file.shape is None for file in files):
        return None
    first = files[0]
    assert first.shape is not None
    if metres is None:
        return first.shape
    if first.transform is None or first.crs is None:
        return None
    size = _pixel_size(first.shape, first.transform, first.crs)
    if size is None:
        return None
    height, width = (max(1, round(side * size / metres)) for side in first.shape)
    return height, width


@lru_cache(maxsize=4096)
def _pixel_size(shape: tuple[int, int], transform: tuple[float, float, float, float, float, float], crs: str) -> float | None:
    """Side of a pixel in metres; tiles of a catalogue come again and again."""
    try:
        return Georeference(transform, crs_of(crs).to_wkt()).pixel_size(*shape)
    except (GeosegError, ValueError, RuntimeError):
        return None
