"""Opening what hides the ground of a scene."""

from __future__ import annotations

import numpy as np

from geoseg.arrays import Bools
from geoseg.clouds.hidden import Hidden, HiddenRaster, MaskRule
from geoseg.clouds.quality_rules import HiddenQuality
from geoseg.georeference import Georeference
from geoseg.labels.labels import VECTORS, is_vector, open_labels
from geoseg.scenes.clouds import CloudFile, CloudLayer
from geoseg.scenes.stac.signer import Signer
from geoseg.windows import Window

__all__ = ["VECTORS", "HiddenPolygons", "open_mask", "open_source"]


class HiddenPolygons:
    """A file of polygons that is a cloud mask."""

    def __init__(self, path: str, place: Georeference, shape: tuple[int, int]) -> None:
        known = place if place.crs is not None else None
        self._labels = open_labels(path, known, *shape, {"": 1}, outside=0)

    def read(self, window: Window) -> Bools:
        """(h, w), True where the centre of a pixel lies in one of the polygons."""
        return np.asarray(self._labels.read(window)[0] == 1)


def open_mask(path: str, place: Georeference, shape: tuple[int, int], rule: MaskRule, signer: Signer | None = None) -> Hidden:
    """A raster or a file of polygons, which its ending tells, as a mask in the grid of a scene.

    Raises:
        SceneError: As ``HiddenRaster``.
        ConfigError: The file of polygons can't be used.
    """
    if is_vector(path):
        return HiddenPolygons(path, place, shape)
    return HiddenRaster(path, place, shape, rule, signer)


def open_source(source: CloudFile | CloudLayer, place: Georeference, shape: tuple[int, int]) -> Hidden:
    """A file, or a quality layer of the product.

    Raises:
        SceneError: It can't be opened, or laid over the scene.
        ConfigError: It can't be used.
    """
    if isinstance(source, CloudLayer):
        return HiddenQuality(source, place, shape)
    rule = MaskRule(source.values, source.band, ("cloud_classes", "cloud_band"))
    return open_mask(source.path, place, shape, rule, source.signer)
