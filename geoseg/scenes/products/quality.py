"""Quality layers of products: rasters that say of each pixel whether it shows the ground, a cloud, or something else."""

from __future__ import annotations

from dataclasses import dataclass

from geoseg.scenes.products.product_facts import QualityKind
from geoseg.scenes.stac.signer import Signer

__all__ = ["QualityLayer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityLayer:
    """A raster of a product that says what each pixel shows; its grid may differ from that of the scene."""

    kind: QualityKind
    """Meaning of its values."""
    path: str
    """The file, as GDAL opens it, or an address."""
    driver: str
    """The only GDAL driver that may open it."""
    band: int = 1
    """Number of the band; of ``udm2`` the first."""
    signer: Signer | None = None
    """How its address is signed when it is opened."""
