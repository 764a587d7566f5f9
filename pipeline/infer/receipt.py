"""What is known of a chunk once it has been computed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Receipt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of a chunk; all that travels back from a worker."""

    index: int
    status: str
    """``done`` or ``failed``."""
    files: dict[str, str]
    """sha256 by file name; empty where there is no data."""
    content: str | None = None
    """sha256 of its pixels and objects, see ``ChunkStore.content``; None where there is no data."""
    machine: str = ""
    """What computed it, see ``pipeline.files.machine``."""
    reason: str | None = None
    """Why it failed."""
    transient: bool = False
    """Whether that may pass: a lost worker, lack of memory."""
    pixels: dict[str, int] = field(default_factory=dict)
    """Number of pixels by code."""
    area_m2: dict[str, float] = field(default_factory=dict)
    """Geodesic area by code; empty without a CRS."""
    tiles: int = 0
    """Tiles that went through the network."""
    isolated: int = 0
    """Pixels without data among pixels with data on all four sides."""
    bad_pixels: int = 0
    """Pixels in blocks that could not be read."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time by step."""
    decoded: int = 0
    """Pixels decoded for it."""

    def record(self) -> dict[str, Any]:
        """The line of the manifest."""
        return {key: value for key, value in asdict(self).items() if key != "index" and (key != "transient" or value)}
