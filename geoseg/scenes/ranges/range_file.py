"""A file on a server as one that can be sought: for its directories, and for GDAL where it is to read the file as a whole."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

from geoseg.scenes.ranges.range_client import RangeClient
from geoseg.scenes.remote import HEAD

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["Pieces", "RangeFile"]

MOST = 256 << 20
"""Bytes of the directories of a file: those of two hundred million blocks have fewer."""
MOST_KEPT = 64
"""Pieces that are kept beside the first where pixels are read, too."""


class Pieces:
    """What was got of a file; of one thread.

    Args:
        client: Gets it.
        size: Bytes of the file.
        head: Its first bytes, as far as they are known.
        most: Bytes that may be got in all; None where pixels are read, of which only the last are kept.
        least: Bytes that are got at once.
    """

    def __init__(
        self, client: RangeClient, size: int, head: bytes | memoryview = b"", most: int | None = MOST, least: int = HEAD
    ) -> None:
        self.size = size
        self.failure: Exception | None = None
        """Why bytes could not be got at last; GDAL does not tell, and may take what it lacks for what is not there."""
        self._client, self._left, self._least = client, most, least
        self._kept: list[tuple[int, bytes | memoryview]] = [(0, head)]
        self._held: list[tuple[int, bytes | memoryview]] = []

    def hold(self, spans: Sequence[tuple[int, int]]) -> None:
        """Get parts of the file at once, in place of those that were held before.

        Args:
            spans: Of each, its first byte and their number; in the order of the file.

        Raises:
            ReadError: The server fails.
        """
        self._held = []
        parts = self._client.get_all(spans)
        self._held = [(first, part.data) for (first, _), part in zip(spans, parts, strict=True)]

    def get(self, first: int, count: int) -> memoryview:
        """Bytes of the file, all of which lie in it.

        Raises:
            ValueError: More is read than directories have.
            ReadError: The server fails.
        """
        at = bisect_right(self._held, first, key=lambda piece: piece[0]) - 1
        for start, data in (*self._held[max(0, at) : at + 1], *self._kept):
            if start <= first and first + count <= start + len(data):
                return memoryview(data)[first - start :][:count]
        wanted = min(max(count, self._least), self.size - first)
        if self._left is not None:
            self._left -= wanted
            if self._left < 0:
                raise ValueError(f"its directories have more than {MOST >> 20} MiB")
        elif len(self._kept) > MOST_KEPT:
            del self._kept[1]
        data = self._client.get(first, wanted).data
        if len(data) < count:
            raise ValueError("the file is shorter than it was")
        self._kept.append((first, data))
        return memoryview(data)[:count]


class RangeFile(io.RawIOBase):
    """A place in a file on a server, from which it is read."""

    def __init__(self, pieces: Pieces) -> None:
        super().__init__()
        self._pieces, self._place = pieces, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._pieces.size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill a buffer as far as the file goes.

        Raises:
            ValueError: More is read than directories have.
            ReadError: The server fails.
        """
        view = memoryview(buffer).cast("B")
        count = min(len(view), self._pieces.size - self._place)
        if count <= 0:
            return 0
        try:
            view[:count] = self._pieces.get(self._place, count)
        except Exception as error:
            self._pieces.failure = error
            raise
        self._place += count
        return count
