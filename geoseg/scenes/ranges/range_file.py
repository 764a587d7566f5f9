"""A file on a server as one that can be sought: for its directories, not for its pixels."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from geoseg.scenes.ranges.range_client import RangeClient
from geoseg.scenes.remote import HEAD

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["RangeFile"]

MOST = 256 << 20
"""Bytes that are read in all: the directories of two hundred million blocks have fewer."""


class RangeFile(io.RawIOBase):
    """The bytes of a file, got piece by piece and kept while it is open.

    Args:
        client: Gets them.
        size: Bytes of the file.
        head: Its first bytes, as far as they are known.
    """

    def __init__(self, client: RangeClient, size: int, head: bytes | bytearray) -> None:
        super().__init__()
        self._client, self._size, self._place = client, size, 0
        self._pieces: list[tuple[int, bytes | bytearray]] = [(0, head)]
        self._left = MOST

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill a buffer as far as the file goes.

        Raises:
            ValueError: More is read than directories have.
            ReadError: The server fails.
        """
        view = memoryview(buffer).cast("B")
        count = min(len(view), self._size - self._place)
        if count <= 0:
            return 0
        start, data = self._piece(self._place, count)
        at = self._place - start
        view[:count] = data[at : at + count]
        self._place += count
        return count

    def _piece(self, first: int, count: int) -> tuple[int, bytes | bytearray]:
        for start, data in self._pieces:
            if start <= first and first + count <= start + len(data):
                return start, data
        wanted = min(max(count, HEAD), self._size - first)
        self._left -= wanted
        if self._left < 0:
            raise ValueError(f"its directories have more than {MOST >> 20} MiB")
        self._pieces.append((first, self._client.get(first, wanted).data))
        return self._pieces[-1]
