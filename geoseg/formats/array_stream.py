"""Arrays one behind the other in NumPy's format: small to write and to read, and without pickles."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_arrays", "write_arrays"]


def write_arrays(arrays: Iterable[NDArray[np.generic]]) -> bytes:
    """The arrays as bytes."""
    file = io.BytesIO()
    for array in arrays:
        np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
    return file.getvalue()


def read_arrays(data: bytes) -> Iterator[NDArray[np.generic]]:
    """The arrays that ``write_arrays`` was given; each has memory of its own."""
    file = io.BytesIO(data)
    while file.tell() < len(data):
        found: NDArray[np.generic] = np.lib.format.read_array(file, allow_pickle=False)
        yield found
