# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Loops over pixels that count codes."""

import numpy as np

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy


def count_codes(const uint8_t[:, :] codes not None):
    """How often each code is there: (h, w) uint8, whose rows may lie apart, to (256,) int64."""
    cdef Py_ssize_t height = codes.shape[0], width = codes.shape[1], row, col
    cdef Py_ssize_t whole = width - width % 8 if codes.strides[1] == 1 else 0
    cdef uint64_t eight
    out_ = np.zeros(256, np.int64)
    cdef int64_t[::1] out = out_
    with nogil:
        for row in range(height):
            for col in range(0, whole, 8):
                # Neighbours most often have one code.
                memcpy(&eight, &codes[row, col], 8)
                if eight == codes[row, col] * <uint64_t> 0x0101010101010101:
                    out[codes[row, col]] += 8
                else:
                    out[codes[row, col]] += 1
                    out[codes[row, col + 1]] += 1
                    out[codes[row, col + 2]] += 1
                    out[codes[row, col + 3]] += 1
                    out[codes[row, col + 4]] += 1
                    out[codes[row, col + 5]] += 1
                    out[codes[row, col + 6]] += 1
                    out[codes[row, col + 7]] += 1
            for col in range(whole, width):
                out[codes[row, col]] += 1
    return out_
