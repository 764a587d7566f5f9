"""A file on an HTTP server that GDAL reads through our own requests: images whose blocks are not got apart, as JPEG 2000."""

from __future__ import annotations

import io
from collections.abc import Sequence

from geoseg.scenes.ranges.range_client import RangeClient
from geoseg.scenes.ranges.range_file import Pieces, RangeFile
from geoseg.scenes.remote import RemoteFacts
from geoseg.windows import Window

__all__ = ["ServedFile"]

LEAST = 1 << 20
"""Bytes that are got at once: a tile of an image of Sentinel-2 has about as many."""


class ServedFile:
    """A file; may be used by several threads, as a ``RemoteTiff`` none of whose blocks are known.

    Args:
        address: Its address, with the signature that it needs.
        facts: What its server tells of it.
    """

    usable = False
    written = None

    def __init__(self, address: str, facts: RemoteFacts) -> None:
        self._client, self._facts = RangeClient(address), facts

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def pieces(self) -> Pieces:
        """The whole file, for one thread that reads it by GDAL."""
        return Pieces(self._client, self._facts.size, self._facts.head, most=None, least=LEAST)

    def spans(self, window: Window, bands: Sequence[int]) -> list[tuple[int, int]]:
        """None: which bytes a window needs is not known."""
        del window, bands
        return []

    def stream(self) -> io.BufferedReader:
        """The file, to be sought: for its headers."""
        return io.BufferedReader(RangeFile(self.pieces()))
