"""References of an ONNX file, read from its bytes: protobuf's wire format needs no library, and no tensor is copied.

A tensor of ONNX may lie in another file (``external_data``). Such a model is not what its file says: other weights under the
same hash, or any file that can be read. So it is refused, wherever in the graph the tensor stands.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from geoseg.errors import ModelError

__all__ = ["BYTES", "fields", "refuse_external_data", "varint"]

MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
"""Fields by number that lead to tensors (onnx.proto, version 10 of the format)."""
EXTERNAL_DATA, DATA_LOCATION = 13, 14
"""Fields of a tensor that say that it lies elsewhere."""
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_FIELDS, MAX_DEPTH = 10_000_000, 100
"""More than any network has; protobuf itself goes no deeper."""


def refuse_external_data(path: Path) -> None:
    """Look through an ONNX file for tensors that lie in other files.

    Raises:
        ModelError: There is one, or the file is damaged.
    """
    if path.stat().st_size == 0:
        raise ModelError(f"{path}: an empty file; copy or download it again")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            outside = _names_others(data)
        except (ValueError, IndexError) as error:
            raise ModelError(f"{path}: can't be loaded: not a whole ONNX file ({error}); copy or download it again") from error
    if outside:
        raise ModelError(
            f"{path}: has weights in another file, by which a model of the same hash could be another; write them into it: "
            "onnx.save(onnx.load('model.onnx'), 'model.onnx')"
        )


def _names_others(data: mmap.mmap) -> bool:
    waiting = [("model", 0, len(data), 0)]
    count = 0
    while waiting:
        kind, start, stop, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"its graphs lie more than {MAX_DEPTH} deep in each other")
        inside = MESSAGES[kind]
        for number, wire, begin, end in fields(data, start, stop):
            count += 1
            if count > MAX_FIELDS:
                raise ValueError(f"it has more than {MAX_FIELDS:,} fields")
            if kind == "tensor" and _lies_elsewhere(data, number, wire, begin):
                return True
            if wire == BYTES and number in inside:
                waiting.append((inside[number], begin, end, depth + 1))
    return False


def _lies_elsewhere(data: mmap.mmap, number: int, wire: int, begin: int) -> bool:
    if number == DATA_LOCATION and wire == VARINT:
        # An enumeration has 32 bits; others are cut off.
        return varint(data, begin, len(data))[0] & 0xFFFFFFFF != 0
    return number == EXTERNAL_DATA and wire == BYTES


def fields(data: mmap.mmap | bytes, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, begin and end of the value of each field of a message."""
    at = start
    while at < stop:
        tag, at = varint(data, at, stop)
        number, wire = (tag & 0xFFFFFFFF) >> 3, tag & 7
        if wire == VARINT:
            begin, end = at, varint(data, at, stop)[1]
        elif wire == BYTES:
            length, begin = varint(data, at, stop)
            end = begin + length
        elif wire in (FIXED32, FIXED64):
            begin, end = at, at + (4 if wire == FIXED32 else 8)
        else:
            raise ValueError(f"field {number} is of the unknown kind {wire}")
        if end > stop or number == 0:
            raise ValueError(f"field {number} ends past its message")
        yield number, wire, begin, end
        at = end


def varint(data: mmap.mmap | bytes, at: int, stop: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    value = shift = 0
    while True:
        if at >= stop or shift > 63:
            raise ValueError("a number does not end")
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
