"""A file on a server as one that can be sought: for its directories, not for its pixels."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from geoseg.scenes.ranges.range_client import RangeClient

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["RangeFile"]

PIECE = 64 << 10
"""Bytes that are asked for at least: the directories of most files are within as many at their beginning."""
MOST = 256 << 20
"""Bytes that are read in all: the directories of two hundred million blocks have fewer."""


class RangeFile(io.RawIOBase):
    """The bytes of a file, got piece by piece and kept while it is open."""

    def __init__(self, client: RangeClient) -> None:
        super().__init__()
        first = client.get(0, PIECE)
        self.size, self.version = first.size, first.version
        self._client, self._place = client, 0
        self._pieces = [(0, first.data)]
        self._left = MOST - len(first.data)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill a buffer as far as the file goes.

        Raises:
            ValueError: More is read than directories have.
            ReadError: The server fails.
        """
        view = memoryview(buffer).cast("B")
        count = min(len(view), self.size - self._place)
        if count <= 0:
            return 0
        start, data = self._piece(self._place, count)
        at = self._place - start
        view[:count] = data[at : at + count]
        self._place += count
        return count

    def _piece(self, first: int, count: int) -> tuple[int, bytearray]:
        for start, data in self._pieces:
            if start <= first and first + count <= start + len(data):
                return start, data
        wanted = min(max(count, PIECE), self.size - first)
        self._left -= wanted
        if self._left < 0:
            raise ValueError(f"its directories have more than {MOST >> 20} MiB")
        self._pieces.append((first, self._client.get(first, wanted).data))
        return self._pieces[-1]
