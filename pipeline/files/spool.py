"""Features on the disk, between tracing and writing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["SPOOL", "FeatureSpool"]

SPOOL = "features.arrow"


@dataclass(frozen=True, slots=True)
class FeatureSpool:
    """Features on disk, in the Arrow stream format."""

    path: Path
    count: int
    """Number of features."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All features, batch by batch."""
        import pyarrow as pa

        # Not mapped: pages of a file that a process has mapped and read count as its memory, up to all of the file.
        with pa.OSFile(str(self.path)) as source, pa.ipc.open_stream(source) as reader:
            yield from reader

    @property
    def schema(self) -> pa.Schema:
        """Its fields."""
        import pyarrow as pa

        with pa.OSFile(str(self.path)) as source, pa.ipc.open_stream(source) as reader:
            return reader.schema

    def codes(self) -> tuple[int, ...]:
        """The class codes that occur."""
        return tuple(sorted({code for batch in self.batches() for code in batch.column("code").unique().to_pylist()}))
