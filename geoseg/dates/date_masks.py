"""Cloud masks of dates, each a file given for it."""

from __future__ import annotations

from geoseg.clouds.hidden import Hidden, MaskRule
from geoseg.clouds.opening import VECTORS, open_mask
from geoseg.scenes.scene import Scene

__all__ = ["masks_of", "notes_of_masks"]


def masks_of(scene: Scene) -> list[Hidden | None]:
    """Cloud masks by date of a stack, as far as files are given for them."""
    return [None if path is None else _mask(scene, path) for path in scene.masks]


def _mask(scene: Scene, path: str) -> Hidden:
    return open_mask(path, scene.georeference, (scene.height, scene.width), MaskRule(scene.mask_values, scene.mask_band))


def notes_of_masks(scene: Scene) -> list[str]:
    """Notes on the rasters that are cloud masks of the dates of a stack; refuses those that can't be used.

    Raises:
        SceneError: As ``HiddenRaster``.
    """
    rasters = dict.fromkeys(path for path in scene.masks if path is not None and not path.lower().endswith(VECTORS))
    return [note for path in rasters if (note := getattr(_mask(scene, path), "note", None)) is not None]
