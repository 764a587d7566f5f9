"""Facts that a catalogue tells of a scene's files: when, by whom, which bands, on which grid."""

from __future__ import annotations

from dataclasses import dataclass

from geoseg.scenes.products.product_facts import QualityKind

__all__ = ["Told", "ToldBand", "ToldFile", "ToldQuality"]


@dataclass(frozen=True, slots=True)
class ToldBand:
    """A band of a file."""

    name: str | None = None
    """As the catalogue calls it: ``B04``, ``red``."""
    role: str | None = None
    """What it shows, as STAC's common names: ``red``."""
    scale: float | None = None
    """Physical value = pixel * scale + offset; None where it is not told."""
    offset: float | None = None
    """As scale."""


@dataclass(frozen=True, slots=True)
class ToldFile:
    """A file of a scene."""

    bands: tuple[ToldBand, ...] = ()
    """Its bands in their order; none where they are not told."""
    shape: tuple[int, int] | None = None
    """Rows and columns."""
    transform: tuple[float, float, float, float, float, float] | None = None
    """Affine transform, pixel to CRS."""
    crs: str | None = None
    """``EPSG:32721``."""


@dataclass(frozen=True, slots=True)
class ToldQuality:
    """A raster that says of each pixel whether it shows the ground."""

    kind: QualityKind
    """Meaning of its values."""
    path: str
    """A local path or an address."""


@dataclass(frozen=True, slots=True)
class Told:
    """A scene, as its catalogue tells of it."""

    files: tuple[ToldFile, ...] = ()
    """Each of its files."""
    acquired: str | None = None
    """Acquisition date, ISO 8601."""
    platform: str | None = None
    """The satellite."""
    cloud_cover: float | None = None
    """Clouds in percent."""
    collection: str | None = None
    """The collection that it belongs to."""
    quality: tuple[ToldQuality, ...] = ()
    """What it has beside its files that says where the ground is hidden."""
