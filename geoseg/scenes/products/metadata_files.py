"""Reading of products: the one place that knows which module reads which kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from geoseg.errors import NotARasterError
from geoseg.scenes.products.container import Container, open_beside, open_container
from geoseg.scenes.products.hls import read_hls
from geoseg.scenes.products.landsat import read_landsat
from geoseg.scenes.products.planet import read_planet
from geoseg.scenes.products.product import Product
from geoseg.scenes.products.product_facts import ProductKind
from geoseg.scenes.products.recognizing import kind_of, scene_of
from geoseg.scenes.products.sentinel2 import read_sentinel2

__all__ = ["read_product"]

READERS: Mapping[ProductKind, Callable[[Container], Product]] = {
    "sentinel2": read_sentinel2,
    "landsat": read_landsat,
    "hls": read_hls,
}
"""Those of folders and archives; a PlanetScope scene is a file, known by its name among others."""


def read_product(path: str) -> Product:
    """A product, as its metadata describe it.

    Raises:
        SceneError: It is none, or its metadata are missing, damaged, or contradict themselves.
    """
    kind = kind_of(path)
    if kind is None:
        raise NotARasterError(f"{path}: no product that is known")
    if kind == "planet":
        return read_planet(path, open_beside(path, scene_of(path)))
    return READERS[kind](open_container(path))
