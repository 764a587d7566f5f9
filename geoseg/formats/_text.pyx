# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# distutils: language=c++
"""Loops over vertices for text formats."""

import numpy as np

from libc.math cimport fabs
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy
from libcpp.vector cimport vector


cdef inline char* write_number(char* at, double value, int decimals, double factor) noexcept nogil:
    # The value rounded to so many decimals, without trailing zeros; at most 24 characters.
    cdef int64_t number = <int64_t> (fabs(value) * factor + 0.5)
    cdef char digits[24]
    cdef int count = 0, i, zeros = 0
    if value < 0 and number:
        at[0] = b"-"
        at += 1
    while number or count <= decimals:
        digits[count] = <char> (48 + number % 10)
        number //= 10
        count += 1
    while zeros < decimals and digits[zeros] == 48:
        zeros += 1
    for i in range(count - 1, decimals - 1, -1):
        at[0] = digits[i]
        at += 1
    if zeros < decimals:
        at[0] = b"."
        at += 1
        for i in range(decimals - 1, zeros - 1, -1):
            at[0] = digits[i]
            at += 1
    return at


def coordinates_text(
    const double[:, ::1] xy not None,
    const int64_t[::1] rings not None,
    const int64_t[::1] polygons not None,
    int decimals,
):
    """The ``coordinates`` of GeoJSON polygons as text.

    ``xy`` (V, 2), each ring closed by its repeated first vertex; ``rings`` (R + 1,) offsets into it; ``polygons``
    (P + 1,) offsets into the rings. Numbers are rounded to so many decimals.

    Returns ``data`` uint8 and ``offsets`` (P + 1,) int64 into it.
    """
    cdef Py_ssize_t n_polygons = polygons.shape[0] - 1, p, ring, i
    cdef double factor = 10.0 ** decimals
    cdef Py_ssize_t vertices = xy.shape[0], n_rings = rings.shape[0] - 1
    data_ = np.empty(max(1, 52 * vertices + 4 * n_rings + 4 * n_polygons), np.uint8)
    offsets_ = np.empty(n_polygons + 1, np.int64)
    cdef uint8_t[::1] data = data_
    cdef int64_t[::1] offsets = offsets_
    cdef char* begin = <char*> &data[0]
    cdef char* at = begin
    with nogil:
        for p in range(n_polygons):
            offsets[p] = at - begin
            at[0] = b"["
            at += 1
            for ring in range(polygons[p], polygons[p + 1]):
                if ring > polygons[p]:
                    at[0] = b","
                    at += 1
                at[0] = b"["
                at += 1
                for i in range(rings[ring], rings[ring + 1]):
                    if i > rings[ring]:
                        at[0] = b","
                        at += 1
                    at[0] = b"["
                    at += 1
                    at = write_number(at, xy[i, 0], decimals, factor)
                    at[0] = b","
                    at += 1
                    at = write_number(at, xy[i, 1], decimals, factor)
                    at[0] = b"]"
                    at += 1
                at[0] = b"]"
                at += 1
            at[0] = b"]"
            at += 1
        offsets[n_polygons] = at - begin
    return data_[: at - begin], offsets_
