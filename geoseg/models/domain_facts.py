"""Facts of a card on the images that a model has learned from."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["SHARES", "DomainFacts"]

SHARES = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99)
"""Of the pixels that lie at or below each quantile."""


class DomainFacts(BaseModel):
    """Statistics of the images that a model has learned from, in the values that it takes; see ``geoseg.domain``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: tuple[float, ...] = Field(min_length=1)
    """Of all valid pixels, by band."""
    stddev: tuple[float, ...]
    """Of all valid pixels, by band."""
    quantiles: tuple[tuple[float, ...], ...]
    """By band, at ``SHARES``."""
    windows: int = Field(ge=1)
    """Number of windows that the features were measured in."""
    features: tuple[float, ...]
    """Mean of the features of windows."""
    covariance: tuple[tuple[float, ...], ...]
    """Of these features."""
    limit: float = Field(gt=0)
    """Images with a higher score are far from those: it lies above that of every scene of them, measured against the others."""
    saturated: float = Field(0.0, ge=0, le=1)
    """Largest share of the pixels of a scene that lie at an end of the range."""
    constant: float = Field(0.0, ge=0, le=1)
    """Largest share of the pixels of a scene that equal their neighbour."""
    repeated: float = Field(0.0, ge=0, le=1)
    """Largest share of the pixels of a scene with one and the same value in all bands."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        bands, size = len(self.mean), len(self.features)
        if len(self.stddev) != bands or len(self.quantiles) != bands or any(len(q) != len(SHARES) for q in self.quantiles):
            raise ValueError(f"domain: mean, stddev and quantiles are not of {bands} bands")
        if any(value <= 0 for value in self.stddev):
            raise ValueError("domain.stddev: is not above 0")
        if (
            size != bands + 3 * (2 * bands - 1)
            or len(self.covariance) != size
            or any(len(row) != size for row in self.covariance)
        ):
            raise ValueError(f"domain: features and covariance are not those of {bands} bands")
        return self
