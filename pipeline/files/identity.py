"""The identity of a run, as manifests and records hold it: what its results depend on."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

__all__ = ["GridFacts", "RunIdentity"]


class GridFacts(NamedTuple):
    """A scene's grid, in pixels."""

    height: int
    width: int
    tile: int
    margin: int
    stride: int
    blend: bool
    """Whether overlapping tiles are blended."""
    one_shape: bool = False
    """Whether tiles at the border are moved inward rather than cut."""


class RunIdentity(BaseModel):
    """The facts that chunk results depend on, and the chunks that they are stored by."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    scene: str
    """Fingerprint of the source."""
    model: str
    """sha256 of the model."""
    config: str
    """sha256 of the settings that can change chunk results."""
    code: str
    """Version of geoseg."""
    engine: Literal["onnx", "torch"]
    grid: GridFacts
    chunk: int
    """Side of a chunk in pixels."""
    area: str | None = None
    """sha256 of the area of interest in pixels, where there is one."""
    dates: tuple[str | None, ...] | None = None
    """Acquisition dates, where there are several."""
    clouds: tuple[str, ...] | None = None
    """Identities of models that map clouds, where some do."""
    compiled: bool = False
    """Whether a GPU has compiled the network."""
    provider: str = "cpu"
    """Execution provider of ONNX Runtime."""

    @classmethod
    def of(cls, document: object) -> RunIdentity | None:
        """Read it from a document; None where that is no identity of a map."""
        try:
            return cls.model_validate(document)
        except ValidationError:
            return None
