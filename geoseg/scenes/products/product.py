"""Products as values: their bands with scale, offset and wavelength, their quality layers and facts; nothing is opened here."""

from __future__ import annotations

import math
from dataclasses import dataclass

from geoseg.scenes.products.container import Container
from geoseg.scenes.products.product_facts import ProductFacts, QualityKind, Quantity

__all__ = ["Product", "ProductBand", "azimuth", "number"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductBand:
    """A band of a product, before its file is opened."""

    file: str
    """Its file, relative to the product."""
    index: int = 1
    """Number in the file."""
    name: str
    """As the product calls it, in lower case: ``b02``."""
    role: str | None
    """What it shows, as STAC's common names have it: ``blue``."""
    wavelength: float | None
    """Its centre in micrometres."""
    pixel_size: float
    """Side of its pixels in metres, nominal."""
    scale: float
    """Physical value = pixel * scale + offset."""
    offset: float
    nodata: float | None
    """The value that stands for no data."""
    quantity: Quantity
    """What the physical value is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A product, as its metadata describe it."""

    container: Container
    """Its files."""
    bands: tuple[ProductBand, ...]
    """In the order of the sensor; those of other kinds (thermal) last."""
    sizes: tuple[float, ...]
    """Pixel sizes in metres that a scene of it can have; the first one where nothing asks for another."""
    quality: tuple[tuple[QualityKind, str], ...]
    """Kinds and files of what says of each pixel what it shows."""
    facts: ProductFacts

    def size_for(self, wanted: float | None) -> float:
        """The pixel size that is nearest, by ratio, to one in metres."""
        return self.sizes[0] if wanted is None else min(self.sizes, key=lambda size: abs(math.log(size / wanted)))


def number(text: str | float | None) -> float | None:
    """A finite number of metadata; None where there is none."""
    try:
        found = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def azimuth(text: str | float | None) -> float | None:
    """An angle from north in 0 to 360 degrees; None where there is none."""
    found = number(text)
    return None if found is None else found % 360
