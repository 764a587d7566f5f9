"""Features of blocks on the disk: written as these are traced, in whatever order, and left in that of the blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BlockSpool", "block_spool"]


class BlockSpool:
    """A spool that is being written, as an Arrow stream."""

    def __init__(self, file: pa.OSFile, writer: pa.RecordBatchStreamWriter, header: int) -> None:
        """Write to a new file; its header has some bytes, and is written with the first batch."""
        self._file, self._writer = file, writer
        self._ends: list[int] = [header]
        self._blocks: list[int] = []
        """Of each batch."""
        self.count = 0
        """Number of features."""

    def write(self, block: int, batches: Iterable[pa.RecordBatch]) -> None:
        """Append features, which are to stand behind those of all blocks before theirs."""
        for batch in batches:
            self._writer.write_batch(batch)
            self._blocks.append(block)
            self._ends.append(self._file.tell())
            self.count += batch.num_rows

    def ranges(self) -> list[tuple[int, int]]:
        """The ranges of bytes that the file is to be put together from; none where it is in order."""
        order = sorted(range(len(self._blocks)), key=self._blocks.__getitem__)
        if order == list(range(len(order))):
            return []
        return [(0, self._ends[0]), *((self._ends[i], self._ends[i + 1]) for i in order)]


@contextmanager
def block_spool(path: Path, schema: pa.Schema) -> Iterator[BlockSpool]:
    """Write features of blocks in any order; the file is that of the same features written in order."""
    import pyarrow as pa

    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        spool = BlockSpool(file, writer, schema.serialize().size)
        yield spool
    ranges = spool.ranges()
    if not ranges:
        return
    # A batch is a message that stands for itself: none needs to be decoded.
    ordered, last = path.with_suffix(".ordered"), max(stop for _, stop in ranges)
    with path.open("rb") as source, ordered.open("wb") as target:
        for begin, stop in (*ranges, (last, path.stat().st_size)):
            source.seek(begin)
            target.write(source.read(stop - begin))
    ordered.replace(path)
