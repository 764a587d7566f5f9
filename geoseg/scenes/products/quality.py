"""Quality layers of products: rasters that say of each pixel whether it shows the ground, a cloud, or something else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["QualityKind", "QualityLayer"]

QualityKind = Literal["scl", "qa", "fmask", "udm2"]
"""``scl``: scene classification of Sentinel-2 L2A; ``qa``: bits of Landsat Collection 2 (QA_PIXEL); ``fmask``: bits of HLS;
``udm2``: usable data mask of PlanetScope."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityLayer:
    """A raster of a product that says what each pixel shows; its grid may differ from that of the scene."""

    kind: QualityKind
    """Meaning of its values."""
    path: str
    """The file, as GDAL opens it."""
    driver: str
    """The only GDAL driver that may open it."""
    band: int = 1
    """Number of the band; of ``udm2`` the first."""
