"""A GeoTIFF on an HTTP server: its directories are read once, and the blocks of a window are asked for at once.

GDAL asks for the blocks of a window in parts that it finds while it decodes them, and forgets what it learned of a file with
each handle. Here, what lies together in the file is one request, requests go side by side, and GDAL decodes in memory.
"""

from __future__ import annotations

import io
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import numpy as np
from numpy.typing import NDArray

from geoseg.addresses import shown
from geoseg.arrays import U64, Bools
from geoseg.errors import ReadError, TruncatedError
from geoseg.scenes.ranges.excerpt import decodable, excerpt
from geoseg.scenes.ranges.range_client import RangeClient
from geoseg.scenes.ranges.range_file import Pieces, RangeFile
from geoseg.scenes.remote import HEAD, TRIES, RemoteFacts, is_http
from geoseg.tiff import Ifd, TiffStructure, read_structure
from geoseg.transient import is_transient
from geoseg.windows import Window

__all__ = ["RemoteTiff", "merged", "remote_tiff"]

GAP = 64 << 10
"""Bytes between blocks that are got with them: a further request would take longer."""
MOST_MERGED = 8 << 20
"""Bytes of a request for several blocks."""
KEPT_S, MOST_KEPT = 30.0, 32
"""Seconds that directories are kept for the next reader, and of how many files."""
MOST_HELD = 256 << 20
"""Bytes that are got ahead of GDAL."""
SPARE = 64 << 10
"""Bytes that a compressed block may have beyond twice those that it decodes to."""


def remote_tiff(address: str, facts: RemoteFacts | None = None) -> RemoteTiff | None:
    """The image of a file at an address with its signature; None where GDAL is to read it, which knows more kinds.

    What one call reads of the directories, the next one takes, where that follows soon.

    Args:
        address: The address.
        facts: What its server has just told.

    Raises:
        ReadError: The server fails.
        TruncatedError: The file ends before its directories do.
    """
    if not _direct(address):
        return None
    client = RangeClient(address)
    structure = None if facts is not None else _recent.take(address)
    try:
        if structure is None:
            # Without facts it is a reader that asks, which tries again by itself.
            structure = _structure(client, None) if facts is None else _tried_again(partial(_structure, client, facts))
            _recent.put(address, structure)
        return RemoteTiff(client, structure)
    except ReadError:
        # Is a ValueError, too; GDAL would take a directory that it can't get for the end of the file, and lose the mask.
        client.close()
        raise
    except ValueError:
        client.close()
        return None
    except EOFError as error:
        client.close()
        raise TruncatedError(f"{shown(address)}: truncated: {error}; the server should be given the whole file") from error


def _tried_again(read: Callable[[], TiffStructure]) -> TiffStructure:
    """What is read of directories, again where the server fails for a moment, as when it is asked for the file at first."""
    delay = 0.25
    for _ in range(TRIES - 1):
        try:
            return read()
        except ReadError as error:
            if not is_transient(error):
                raise
        time.sleep(delay)
        delay *= 2
    return read()


class _Recent:
    """Directories of files by address, each for the one who reads its pixels after somebody has opened it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[float, TiffStructure]] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, address: str, structure: TiffStructure) -> None:
        """Keep directories for a while."""
        with self._lock:
            self._kept[address] = time.monotonic() + KEPT_S, structure
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)

    def take(self, address: str) -> TiffStructure | None:
        """The directories of a file, which are kept no longer."""
        with self._lock:
            until, structure = self._kept.pop(address, (0.0, None))
        return structure if time.monotonic() < until else None


_recent = _Recent()


def _structure(client: RangeClient, facts: RemoteFacts | None) -> TiffStructure:
    if facts is None:
        first = client.get(0, HEAD)
        pieces = Pieces(client, first.size, first.data)
    else:
        pieces = Pieces(client, facts.size, facts.head)
    return read_structure(io.BufferedReader(RangeFile(pieces)))


def _direct(address: str) -> bool:
    """Whether a server is asked without GDAL: by HTTP, and through no proxy."""
    if not is_http(address):
        return False
    parts = urlsplit(address)
    return parts.scheme.lower() not in getproxies() or bool(proxy_bypass(parts.hostname or ""))


Key = tuple[int, int]
"""A block: 0 of the image, 1 of its mask; and its number."""
Block = tuple[int, int, Key]
"""First byte, number of bytes, and which block it is."""
Span = tuple[int, int, list[Block]]
"""First byte and number of bytes of what is got at once, and the blocks within."""


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """An image, or a mask; what is asked of its directory for each window is read from it once."""

    ifd: Ifd
    blocks: tuple[int, int, int]
    """Planes, rows and columns of blocks."""
    most: int
    """Bytes that a compressed block can have."""
    offsets: U64
    """Of its blocks, by plane, row and column."""
    counts: U64

    @classmethod
    def of(cls, ifd: Ifd) -> _Layer:
        return cls(ifd, ifd.blocks, 2 * ifd.block_bytes + SPARE, ifd.offsets, ifd.byte_counts)

    @property
    def usable(self) -> bool:
        return decodable(self.ifd) and self.offsets.size == self.counts.size == math.prod(self.blocks)


class RemoteTiff:
    """The image of a file; may be used by several threads.

    Args:
        client: Gets parts of it.
        structure: Its directories.
    """

    def __init__(self, client: RangeClient, structure: TiffStructure) -> None:
        self._client, self.structure = client, structure
        image, mask = structure.main, structure.mask
        self._shape, self._block_shape = image.shape, image.block_shape
        written = image.written()
        self.written: Bools | None = None if written.all() else written
        """(block rows, block cols); None where every block was written."""
        self._layers = [_Layer.of(ifd) for ifd in ((image,) if mask is None else (image, mask))]
        self.usable = all(layer.usable for layer in self._layers) and (
            mask is None or (mask.shape, mask.block_shape) == (self._shape, self._block_shape)
        )
        """Whether excerpts can be made of it."""

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def excerpt(self, window: Window, bands: Sequence[int]) -> tuple[bytes, Window]:
        """A TIFF file of the blocks that a window touches, and what part of the image it holds.

        Args:
            window: The window.
            bands: Numbers, from 1, of the bands that are read; those of others may be missing.

        Raises:
            ReadError: The server fails, or a block is larger than it can be.
        """
        rows, cols = window.cells(self._block_shape)
        numbers, wanted = self._numbers(window, bands)
        first, last = (Window.cell(place, self._block_shape) for place in ((rows[0], cols[0]), (rows[-1], cols[-1])))
        part = Window.between(first.row_off, last.row_stop, first.col_off, last.col_stop) & Window.of(self._shape)
        assert part is not None
        spans = merged(self._written(wanted))
        # Spans lie one behind the other, with what lies between their blocks.
        places = np.cumsum([0, *(count for _, count, _ in spans)])
        found = {
            key: (int(place) + offset - start, count)
            for (start, _, blocks), place in zip(spans, places, strict=False)
            for offset, count, key in blocks
        }
        images = []
        for i, layer in enumerate(self._layers):
            laid = np.array([found.get((i, int(number)), (0, 0)) for number in numbers[i].ravel()], np.uint64)
            images.append((layer.ifd, laid[:, 0], laid[:, 1]))
        return excerpt(part.shape, images, int(places[-1]), partial(self._fill, spans)), part

    def pieces(self) -> Pieces:
        """The whole file, for one thread that reads it by GDAL."""
        return Pieces(self._client, self.structure.size, most=None)

    def spans(self, window: Window, bands: Sequence[int]) -> list[tuple[int, int]]:
        """First byte and number of bytes of parts of the file that hold the blocks of a window; none where those are too many.

        Arguments and errors are those of ``excerpt``.
        """
        if not self.usable:
            return []
        found = [span[:2] for span in merged(self._written(self._numbers(window, bands)[1]))]
        return found if sum(count for _, count in found) <= MOST_HELD else []

    def _numbers(self, window: Window, bands: Sequence[int]) -> tuple[list[NDArray[np.intp]], list[Key]]:
        """By layer the numbers of the blocks that a window touches, (planes, rows, cols); and those that are read."""
        rows, cols = window.cells(self._block_shape)
        numbers = [np.ravel_multi_index(np.ix_(range(layer.blocks[0]), rows, cols), layer.blocks) for layer in self._layers]
        wanted = [layer if len(layer) == 1 else layer[[band - 1 for band in bands]] for layer in numbers]
        return numbers, [(i, int(number)) for i, layer in enumerate(wanted) for number in layer.ravel()]

    def _written(self, keys: Sequence[Key]) -> list[Block]:
        """The blocks among some that were written."""
        written = []
        for key in keys:
            layer = self._layers[key[0]]
            offset, count = int(layer.offsets[key[1]]), int(layer.counts[key[1]])
            if count > layer.most or offset + count > self.structure.size:
                raise ReadError(
                    f"{shown(self._client.address)}: its block {key[1]} is to have {count:,} bytes at byte {offset:,}, of "
                    f"{self.structure.size:,}; its directory is damaged"
                )
            if offset and count:
                written.append((offset, count, key))
        return written

    def _fill(self, spans: Sequence[Span], body: memoryview) -> None:
        """Get parts of the file, one behind the other."""
        rooms, place = [], 0
        for _, count, _ in spans:
            rooms.append(body[place : place + count])
            place += count
        parts = self._client.get_all([span[:2] for span in spans], rooms)
        if any(len(part.data) < len(room) for part, room in zip(parts, rooms, strict=True)):
            raise ReadError(f"{shown(self._client.address)}: the file is shorter than it was")
        for view in (*rooms, *(part.data for part in parts)):
            view.release()


def merged(blocks: Sequence[Block]) -> list[Span]:
    """Requests for blocks: first byte, number of bytes, and the blocks within; neighbours in the file are got together."""
    spans: list[Span] = []
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
