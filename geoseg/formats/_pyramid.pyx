# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Loops over pixels for overviews."""

import numpy as np

from libc.stdint cimport uint8_t


def halve_mode(const uint8_t[:, ::1] image not None, uint8_t nodata):
    """The most frequent value of each 2 x 2 block: (H, W) uint8 to (ceil(H / 2), ceil(W / 2)) uint8.

    ``nodata`` counts only where nothing else is there. Among equally frequent values the one that comes first in the
    order of reading wins.
    """
    cdef Py_ssize_t height = image.shape[0], width = image.shape[1], row, col
    cdef Py_ssize_t out_height = (height + 1) // 2, out_width = (width + 1) // 2
    cdef uint8_t a, b, c, d
    cdef bint right, below
    out_ = np.empty((out_height, out_width), np.uint8)
    cdef uint8_t[:, ::1] out = out_
    with nogil:
        for row in range(out_height):
            below = 2 * row + 1 < height
            for col in range(out_width):
                right = 2 * col + 1 < width
                a = image[2 * row, 2 * col]
                b = image[2 * row, 2 * col + 1] if right else nodata
                c = image[2 * row + 1, 2 * col] if below else nodata
                d = image[2 * row + 1, 2 * col + 1] if right and below else nodata
                out[row, col] = mode(a, b, c, d, nodata)
    return out_


cdef inline uint8_t mode(uint8_t a, uint8_t b, uint8_t c, uint8_t d, uint8_t nodata) noexcept nogil:
    if a == b and c == d and (a != nodata or c == nodata):
        return a
    # Move what is nodata to the back, in order.
    if a == nodata:
        a = b
        b = c
        c = d
        d = nodata
        if a == nodata:
            a = b
            b = c
            c = nodata
            if a == nodata:
                a = b
                b = nodata
                return a
    # a is data; the votes for a, then for b, then for c.
    cdef int votes_a = 1 + (b == a) + (c == a) + (d == a)
    if votes_a >= 2:
        return a
    if b != nodata and (b == c or b == d):
        return b
    if c != nodata and c == d:
        return c
    return a


def halve_mean(const uint8_t[:, ::1] image not None, uint8_t limit, uint8_t nodata):
    """The mean of the values up to ``limit`` in each 2 x 2 block, rounded; where there is none, the mode of the codes.

    (H, W) uint8 to (ceil(H / 2), ceil(W / 2)) uint8.
    """
    cdef Py_ssize_t height = image.shape[0], width = image.shape[1], row, col, r, c
    cdef Py_ssize_t out_height = (height + 1) // 2, out_width = (width + 1) // 2
    cdef int total, count
    cdef uint8_t code, value
    out_ = np.empty((out_height, out_width), np.uint8)
    cdef uint8_t[:, ::1] out = out_
    with nogil:
        for row in range(out_height):
            for col in range(out_width):
                total = 0
                count = 0
                code = nodata
                for r in range(2 * row, min(2 * row + 2, height)):
                    for c in range(2 * col, min(2 * col + 2, width)):
                        value = image[r, c]
                        if value <= limit:
                            total += value
                            count += 1
                        elif code == nodata:
                            code = value
                if count:
                    out[row, col] = <uint8_t> ((2 * total + count) // (2 * count))
                else:
                    out[row, col] = code
    return out_
