"""Facts that the metadata of a product tell of its acquisition, for reports and catalogues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from geoseg.documents import Json

__all__ = ["AbsentBand", "ProductFacts", "ProductKind", "QualityKind", "Quantity"]

ProductKind = Literal["sentinel2", "landsat", "hls", "planet"]
Quantity = Literal["surface reflectance", "top-of-atmosphere reflectance", "radiance", "temperature"]
"""What the physical values of a band are: reflectance where 1 is all of the light, W / (m² sr µm), or kelvin."""


QualityKind = Literal["scl", "qa", "fmask", "udm2"]
"""``scl``: scene classification of Sentinel-2 L2A; ``qa``: bits of Landsat Collection 2 (QA_PIXEL); ``fmask``: bits of HLS;
``udm2``: usable data mask of PlanetScope."""


@dataclass(frozen=True, slots=True)
class AbsentBand:
    """A band that a product should have, and whose file can't be used."""

    name: str
    """As the product calls it, in lower case."""
    role: str | None
    """What it shows: ``red``, ``nir``."""
    reason: str
    """Which file, and what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductFacts:
    """Facts of a product; None where its metadata do not tell."""

    kind: ProductKind
    name: str
    """Of the product, as its archive calls it."""
    platform: str | None = None
    """The satellite: ``Sentinel-2B``, ``Landsat-8``."""
    instruments: tuple[str, ...] = ()
    level: str | None = None
    """Processing level: ``L2A``, ``L2SP``."""
    baseline: str | None = None
    """Version of the processing: a baseline of Sentinel-2, the collection of Landsat."""
    acquired: str | None = None
    """Date, or date and time in UTC, ISO 8601."""
    cloud_cover: float | None = None
    """Percent of the scene."""
    sun_azimuth: float | None = None
    """Degrees from north, clockwise; mean of the scene."""
    sun_elevation: float | None = None
    """Degrees above the horizon; mean of the scene."""
    off_nadir: float | None = None
    """Degrees between the line of sight and the vertical; mean of the bands."""
    view_azimuth: float | None = None
    """Degrees from north, clockwise."""
    absent: tuple[AbsentBand, ...] = ()
    """Bands whose files are not there or not whole."""

    def document(self) -> dict[str, Json]:
        """The facts that are known, as JSON."""
        facts: dict[str, Json] = {
            "kind": self.kind,
            "name": self.name,
            "platform": self.platform,
            "instruments": list(self.instruments),
            "level": self.level,
            "baseline": self.baseline,
            "acquired": self.acquired,
            "cloud_cover": self.cloud_cover,
            "sun_azimuth": self.sun_azimuth,
            "sun_elevation": self.sun_elevation,
            "off_nadir": self.off_nadir,
            "view_azimuth": self.view_azimuth,
            "absent": [f"{band.name}: {band.reason}" for band in self.absent],
        }
        return {key: value for key, value in facts.items() if value is not None and value != []}

    def properties(self) -> dict[str, Json]:
        """The facts as properties of a STAC item: common metadata, and those of the extensions eo, view and processing."""
        facts: dict[str, Json] = {
            "platform": self.platform.lower() if self.platform else None,
            "instruments": [name.lower() for name in self.instruments] or None,
            "eo:cloud_cover": self.cloud_cover,
            "view:sun_azimuth": self.sun_azimuth,
            "view:sun_elevation": self.sun_elevation,
            "view:off_nadir": self.off_nadir,
            "view:azimuth": self.view_azimuth,
            "processing:level": self.level,
            "processing:version": self.baseline,
        }
        return {key: value for key, value in facts.items() if value is not None}
