"""The receipt of a chunk: what travels back from a worker, and what the manifest records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from geoseg.documents import Json

__all__ = ["Receipt", "Receipts"]

SELDOM = ("notes", "transient", "hidden_pixels", "values")
"""What a record says only where there is something to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The outcome of a chunk; all that travels back from a worker."""

    index: int
    status: str
    """``done`` or ``failed``."""
    files: dict[str, str]
    """sha256 by file name; empty where there is no data."""
    content: str | None = None
    """sha256 of its pixels and objects, see ``ChunkStore.content``; None where there is no data."""
    machine: str = ""
    """What computed it, see ``pipeline.infer.machine``."""
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
    hidden_pixels: int = 0
    """Pixels that clouds hide."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time by step."""
    decoded: int = 0
    """Pixels decoded for it."""
    notes: tuple[str, ...] = ()
    """What happened to the engine that the results may depend on."""
    values: dict[str, int] = field(default_factory=dict)
    """Of a model that regresses, sums over codes; see ``pipeline.infer.value_sums``."""

    @classmethod
    def of(cls, index: int, record: Mapping[str, Any]) -> Receipt:
        """Read it from its record in the manifest."""
        return cls(index=index, **{key: value for key, value in record.items() if key != "chunk"})

    def record(self) -> dict[str, Json]:
        """Its record in the manifest."""
        return {key: value for key, value in asdict(self).items() if key != "index" and (key not in SELDOM or value)}


class Receipts(Mapping[int, Receipt]):
    """The receipts of a manifest by chunk, decoded when they are asked for."""

    def __init__(self, records: Mapping[int, Mapping[str, Any]]) -> None:
        self._records = records

    def __getitem__(self, index: int) -> Receipt:
        """The receipt of a chunk."""
        return Receipt.of(index, self._records[index])

    def __iter__(self) -> Iterator[int]:
        """Numbers of the chunks."""
        return iter(self._records)

    def __len__(self) -> int:
        """Number of entries."""
        return len(self._records)
