"""A GeoTIFF on an HTTP server: its directories are read once, and the blocks of a window are asked for at once.

GDAL asks for the blocks of a window in parts that it finds while it decodes them, and forgets what it learned of a file with
each handle. Here, what lies together in the file is one request, requests go side by side, and GDAL decodes in memory.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import numpy as np

from geoseg.addresses import shown
from geoseg.errors import ReadError
from geoseg.scenes.ranges.excerpt import decodable, excerpt
from geoseg.scenes.ranges.range_client import RangeClient
from geoseg.scenes.ranges.range_file import RangeFile
from geoseg.scenes.remote import is_http
from geoseg.tiff import read_structure
from geoseg.windows import Window

__all__ = ["RemoteTiff", "merged", "remote_tiff"]

GAP = 64 << 10
"""Bytes between blocks that are got with them: a further request would take longer."""
MOST_MERGED = 8 << 20
"""Bytes of a request for several blocks."""
SPARE = 64 << 10
"""Bytes that a compressed block may have beyond twice those that it decodes to."""


def remote_tiff(address: str) -> RemoteTiff | None:
    """The image of a file at an address with its signature; None where GDAL is to read it, which knows more kinds.

    Raises:
        ReadError: The server fails.
    """
    if not _direct(address):
        return None
    try:
        found = RemoteTiff(address)
    except (ValueError, EOFError):
        return None
    if found.usable:
        return found
    found.close()
    return None


def _direct(address: str) -> bool:
    """Whether a server is asked without GDAL: by HTTP, and through no proxy."""
    if not is_http(address):
        return False
    parts = urlsplit(address)
    return parts.scheme.lower() not in getproxies() or bool(proxy_bypass(parts.hostname or ""))


class RemoteTiff:
    """The image of a file; may be used by several threads.

    Args:
        address: Its HTTP address, with the signature that it needs.

    Raises:
        ReadError: The server fails.
        ValueError: It is not a TIFF file, or its directories are damaged.
        EOFError: The file ends before its directories do.
    """

    def __init__(self, address: str) -> None:
        self._client = RangeClient(address)
        try:
            file = RangeFile(self._client)
            self.structure = read_structure(io.BufferedReader(file))
            self.version = file.version
        except (ReadError, ValueError, EOFError):
            self.close()
            raise
        image = self.structure.main
        self._image, self._shape = image, image.blocks
        self._offsets, self._counts = image.offsets, image.byte_counts

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    @property
    def usable(self) -> bool:
        """Whether excerpts can be made of it."""
        return decodable(self._image) and self._offsets.size == self._counts.size == math.prod(self._shape)

    def excerpt(self, window: Window, bands: Sequence[int]) -> tuple[bytes, Window]:
        """A TIFF file of the blocks that a window touches, and what part of the image it holds.

        Args:
            window: The window.
            bands: Numbers, from 1, of the bands that are read; those of others may be missing.

        Raises:
            ReadError: The server fails, or a block is larger than it can be.
        """
        rows, cols = window.cells(self._image.block_shape)
        first, last = (Window.cell(place, self._image.block_shape) for place in ((rows[0], cols[0]), (rows[-1], cols[-1])))
        part = Window.between(first.row_off, last.row_stop, first.col_off, last.col_stop) & Window.of(self._image.shape)
        assert part is not None
        numbers = np.ravel_multi_index(np.ix_(range(self._shape[0]), rows, cols), self._shape)
        planes = numbers if len(numbers) == 1 else numbers[[band - 1 for band in bands]]
        found = self._blocks([int(number) for number in planes.ravel()])
        return excerpt(self._image, part.shape, [found.get(int(number)) for number in numbers.ravel()]), part

    def _blocks(self, numbers: Sequence[int]) -> dict[int, memoryview]:
        """The bytes of blocks, by number; of those that were written."""
        most = 2 * self._image.block_bytes + SPARE
        written = []
        for number in numbers:
            offset, count = int(self._offsets[number]), int(self._counts[number])
            if count > most or offset + count > self.structure.size:
                raise ReadError(
                    f"{shown(self._client.address)}: its block {number} is to have {count:,} bytes at byte {offset:,}, of "
                    f"{self.structure.size:,}; its directory is damaged"
                )
            if offset and count:
                written.append((offset, count, number))
        spans = merged(written)
        found = {}
        for (first, _, blocks), part in zip(spans, self._client.get_all([span[:2] for span in spans]), strict=True):
            view = memoryview(part.data)
            for offset, count, number in blocks:
                found[number] = view[offset - first : offset - first + count]
                if len(found[number]) < count:
                    raise ReadError(f"{shown(self._client.address)}: the file is shorter than it was")
        return found


Block = tuple[int, int, int]
"""First byte, number of bytes, number of the block."""


def merged(blocks: Sequence[Block]) -> list[tuple[int, int, list[Block]]]:
    """Requests for blocks: first byte, number of bytes, and the blocks within; neighbours in the file are got together."""
    spans: list[tuple[int, int, list[Block]]] = []
    for block in sorted(blocks):
        offset, count, _ = block
        if spans:
            first, length, own = spans[-1]
            reach = max(length, offset + count - first)
            if offset - (first + length) <= GAP and reach <= MOST_MERGED:
                spans[-1] = (first, reach, [*own, block])
                continue
        spans.append((offset, count, [block]))
    return spans
