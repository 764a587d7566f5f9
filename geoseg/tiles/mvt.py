"""Mapbox Vector Tiles 2.1: layers of polygons and points as protocol buffers, all features of a layer at once.

The format: https://github.com/mapbox/vector-tile-spec/tree/master/2.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from geoseg.arrays import I64, U8

__all__ = ["EXTENT", "Shapes", "Value", "layer_bytes", "tile_bytes", "varint"]

EXTENT = 4096
"""Units of a tile's side."""
POINT, POLYGON = 1, 3
MOVE_ONE, LINE, CLOSE = 9, 2, 15
"""Command integers: move to one point; a line to so many, in the upper bits; close the ring."""
Value = str | int | float | None


@dataclass(frozen=True, slots=True, eq=False)
class Shapes:
    """Rings, or points, of the features of a layer, one feature after the other."""

    xy: I64
    """(N, 2) units of the tile, y downwards; rings without their last point, which would be the first again."""
    rings: I64
    """(R + 1,) where each ring begins in ``xy``."""
    features: I64
    """(F + 1,) where each feature begins in ``rings``."""


def tile_bytes(layers: Sequence[bytes]) -> bytes:
    """A tile of layers."""
    return b"".join(b"\x1a" + varint(len(layer)) + layer for layer in layers)


def layer_bytes(name: str, shapes: Shapes, ids: I64, columns: Mapping[str, Sequence[Value]], *, points: bool = False) -> bytes:
    """A layer.

    Args:
        name: Of the layer.
        shapes: The F features; of points, each has one ring of one point.
        ids: (F,) numbers of the features.
        columns: Their attributes; None where a feature has none.
        points: Whether they are points.
    """
    geometry, ends = _geometry(shapes, points=points)
    values: dict[tuple[type, Value], int] = {}
    tags: list[bytearray] = [bytearray() for _ in range(len(ids))]
    for key, column in enumerate(columns.values()):
        for row, value in enumerate(column):
            if value is not None:
                tags[row] += varint(key) + varint(values.setdefault((type(value), value), len(values)))
    kind = b"\x18" + bytes([POINT if points else POLYGON])
    out = bytearray(b"\x78\x02" + _text(0x0A, name))
    begin = 0
    for number, tag, end in zip(ids.tolist(), tags, ends.tolist(), strict=True):
        drawn = geometry[begin:end]
        body = b"\x08" + varint(number) + b"\x12" + varint(len(tag)) + tag + kind + b"\x22" + varint(len(drawn)) + drawn
        out += b"\x12" + varint(len(body)) + body
        begin = end
    for key_name in columns:
        out += _text(0x1A, key_name)
    for _, value in values:
        entry = _value(value)
        out += b"\x22" + varint(len(entry)) + entry
    return bytes(out + b"\x28" + varint(EXTENT))


def _geometry(shapes: Shapes, *, points: bool) -> tuple[bytes, I64]:
    """Commands of all features as bytes, and where each feature ends in them."""
    xy, first = shapes.xy, shapes.rings[:-1]
    count = np.diff(shapes.rings)
    # Offsets go from point to point through a feature, whose cursor begins at the origin.
    step = np.diff(xy, axis=0, prepend=np.zeros((1, 2), np.int64))
    begin = shapes.rings[shapes.features[:-1]]
    step[begin] = xy[begin]
    numbers = (step << 1) ^ (step >> 63)
    extra = 1 if points else 3
    ring_of = np.repeat(np.arange(len(count)), count)
    place = 2 * np.arange(len(xy)) + extra * ring_of + 1
    within = np.arange(len(xy)) - first[ring_of]
    place += (within > 0) & (not points)
    words = np.empty(2 * len(xy) + extra * len(count), np.int64)
    words[place], words[place + 1] = numbers[:, 0], numbers[:, 1]
    words[place[first] - 1] = MOVE_ONE
    ends = 2 * shapes.rings[1:] + extra * np.arange(1, len(count) + 1)
    if not points:
        words[place[first] + 2] = (count - 1) << 3 | LINE
        words[ends - 1] = CLOSE
    raw, size = _varints(words)
    offsets = np.concatenate([[0], np.cumsum(size)])
    word_ends = np.concatenate([[0], ends])[shapes.features[1:]]
    return raw.tobytes(), offsets[word_ends]


def _varints(words: I64) -> tuple[U8, I64]:
    """Whole numbers below 2**35 as varints, and how many bytes each takes."""
    size: I64 = np.asarray(1 + np.sum([words >= 1 << (7 * k) for k in range(1, 5)], axis=0), np.int64)
    groups = np.stack([(words >> (7 * k)) & 0x7F for k in range(5)], axis=1).astype(np.uint8)
    at = np.arange(5)
    groups[at < (size - 1)[:, None]] |= 0x80
    return groups[at < size[:, None]], size


def varint(number: int) -> bytes:
    """A whole number that is not negative in groups of seven bits, the lowest first, as protocol buffers have it."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _text(tag: int, text: str) -> bytes:
    raw = text.encode()
    return bytes([tag]) + varint(len(raw)) + raw


def _value(value: Value) -> bytes:
    if isinstance(value, str):
        return _text(0x0A, value)
    if isinstance(value, bool | np.bool_):
        return b"\x38" + bytes([bool(value)])
    if isinstance(value, int):
        return b"\x30" + varint((value << 1) ^ (value >> 63))
    return b"\x19" + np.float64(value).tobytes()
