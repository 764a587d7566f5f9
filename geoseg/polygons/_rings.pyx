# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# distutils: language=c++
"""Loops over rings: tracing the edges of labelled pixels, joining arcs, and writing rings as well-known binary.

Vertices are corners of pixels, (row, col), with row 0 and col 0 at the block's upper left corner. Rings are traced with
their region on the left, rows counted downward: outer rings run west along upper edges, and are counter-clockwise on a
north-up map.
"""

import numpy as np

from libc.math cimport sqrt
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t
from libc.string cimport memcpy
from libcpp.algorithm cimport rotate
from libcpp.vector cimport vector

# Headings, each a left turn after the one before.
cdef enum:
    WEST = 0
    SOUTH = 1
    EAST = 2
    NORTH = 3

NODE = 1
PORTAL = 2
PINCH = 4
HEADING_SHIFT = 3
cdef enum:
    node_bit = 1
    portal_bit = 2
    pinch_bit = 4
    heading_shift = 3

cdef int* STEP_ROW = [0, 1, 0, -1]
cdef int* STEP_COL = [-1, 0, 1, 0]
# Pixels around a vertex, as (row, col) steps from the vertex to the pixel in the padded raster (vertex (r, c) has its
# upper left pixel at padded (r, c)): what lies behind left (the ring's own), behind right, ahead left, ahead right.
cdef int* BL_ROW = [1, 0, 0, 1]
cdef int* BL_COL = [1, 1, 0, 0]
cdef int* BR_ROW = [0, 0, 1, 1]
cdef int* BR_COL = [1, 0, 0, 1]
cdef int* AL_ROW = [1, 1, 0, 0]
cdef int* AL_COL = [0, 1, 1, 0]
cdef int* AR_ROW = [0, 1, 1, 0]
cdef int* AR_COL = [0, 0, 1, 1]


cdef inline int class_of(int32_t label, const uint8_t[::1] classes) noexcept nogil:
    # Outside pixels are stored as -(class + 1).
    return classes[label] if label > 0 else -label - 1


def trace(
    const int32_t[:, ::1] labels not None,
    const uint8_t[::1] classes not None,
    const uint8_t[::1] wanted not None,
    const uint8_t[::1] open_ not None,
):
    """Trace the rings of the wanted regions along the edges of their pixels.

    ``labels`` (H + 2, W + 2): regions from 1; the frame holds -(class + 1) of the pixel outside, 256 being outside the
    scene. By label: ``classes``, ``wanted`` and ``open_`` (the region touches the frame where the scene goes on).

    A vertex is a corner of the ring, or a *node*: a point where three or more classes meet, so that a border has the
    same vertices on both sides. Where one region touches itself at a point, rings touch there but never cross.

    Returns ``rows``, ``cols`` int32 and ``marks`` uint8 (V,), ``offsets`` (R + 1,) int64, and by ring ``label`` int32
    and ``area`` int64 (signed, in pixels: positive for outer rings). Each ring starts at its first vertex in the order
    of reading and does not repeat it at the end. Marks are bits: NODE; PORTAL, where the edge that leaves the vertex
    lies on the frame between two pixels of one class; PINCH, where the ring turns away from a pixel of its own class
    that belongs to a region that may turn out to be the same; the heading with which it arrives there follows in two
    more bits.
    """
    cdef Py_ssize_t height = labels.shape[0] - 2, width = labels.shape[1] - 2
    cdef Py_ssize_t row, col, r, c, base, best, i, length
    cdef int d, turn, arrived
    cdef int32_t own, bl, br, al, ar, outside
    cdef uint8_t mark
    cdef bint emit, is_pinch
    cdef int64_t doubled
    cdef int a, b, e, f
    cdef vector[int32_t] rows, cols, ring_label
    cdef vector[uint8_t] marks
    cdef vector[int64_t] offsets, ring_area
    seen_ = np.zeros((height, width), np.uint8)
    cdef uint8_t[:, ::1] seen = seen_
    offsets.push_back(0)
    with nogil:
        for row in range(height):
            for col in range(width):
                own = labels[row + 1, col + 1]
                if own <= 0 or labels[row, col + 1] == own or seen[row, col] or not wanted[own]:
                    continue
                base = <Py_ssize_t> rows.size()
                r = row
                c = col + 1
                d = WEST
                doubled = 0
                while True:
                    if d == WEST:
                        c -= 1
                        seen[r, c] = 1
                    elif d == SOUTH:
                        r += 1
                        doubled -= 2 * c
                    elif d == EAST:
                        c += 1
                    else:
                        r -= 1
                        doubled += 2 * c
                    bl = own
                    br = labels[r + BR_ROW[d], c + BR_COL[d]]
                    al = labels[r + AL_ROW[d], c + AL_COL[d]]
                    ar = labels[r + AR_ROW[d], c + AR_COL[d]]
                    is_pinch = False
                    if ar == own:
                        turn = 3
                        emit = True
                    elif al == own:
                        turn = 0
                        emit = br != ar
                    else:
                        turn = 1
                        emit = True
                        is_pinch = (
                            open_[own] != 0
                            and class_of(ar, classes) == classes[own]
                            and class_of(br, classes) != classes[own]
                            and class_of(al, classes) != classes[own]
                            and (ar < 0 or open_[ar] != 0)
                        )
                    arrived = d
                    d = (d + turn) & 3
                    if emit:
                        mark = 0
                        a = classes[own]
                        b = class_of(br, classes)
                        e = class_of(al, classes)
                        f = class_of(ar, classes)
                        if distinct(a, b, e, f) >= 3:
                            mark |= node_bit
                        if is_pinch:
                            mark |= pinch_bit | <uint8_t> (arrived << heading_shift)
                        # The pixel to the right of the edge that leaves the vertex.
                        outside = labels[r + AR_ROW[d], c + AR_COL[d]]
                        if outside < 0 and class_of(outside, classes) == a:
                            mark |= portal_bit
                        rows.push_back(<int32_t> r)
                        cols.push_back(<int32_t> c)
                        marks.push_back(mark)
                    if r == row and c == col + 1 and d == WEST:
                        break
                length = <Py_ssize_t> rows.size() - base
                best = base
                for i in range(base + 1, base + length):
                    if rows[i] < rows[best] or (rows[i] == rows[best] and cols[i] < cols[best]):
                        best = i
                rotate(rows.begin() + base, rows.begin() + best, rows.end())
                rotate(cols.begin() + base, cols.begin() + best, cols.end())
                rotate(marks.begin() + base, marks.begin() + best, marks.end())
                offsets.push_back(<int64_t> rows.size())
                ring_label.push_back(own)
                ring_area.push_back(doubled // 2)
    return (
        as_int32(rows), as_int32(cols), as_uint8(marks), as_int64(offsets), as_int32(ring_label), as_int64(ring_area)
    )


cdef inline int distinct(int a, int b, int e, int f) noexcept nogil:
    return 1 + (b != a) + (e != a and e != b) + (f != a and f != b and f != e)


cdef as_int32(vector[int32_t]& values):
    array = np.empty(values.size(), np.int32)
    cdef int32_t[::1] view = array
    if values.size():
        memcpy(&view[0], values.data(), values.size() * sizeof(int32_t))
    return array


cdef as_int64(vector[int64_t]& values):
    array = np.empty(values.size(), np.int64)
    cdef int64_t[::1] view = array
    if values.size():
        memcpy(&view[0], values.data(), values.size() * sizeof(int64_t))
    return array


cdef as_uint8(vector[uint8_t]& values):
    array = np.empty(values.size(), np.uint8)
    cdef uint8_t[::1] view = array
    if values.size():
        memcpy(&view[0], values.data(), values.size() * sizeof(uint8_t))
    return array


def chain(const int64_t[::1] following not None):
    """Follow arcs to rings: ``following[i]`` is the arc after arc i, each arc following exactly one.

    Returns ``order`` (A,) int64, the arcs ring by ring, and ``offsets`` (R + 1,) int64 into it. A ring starts with its
    smallest arc, and rings are in the order of these.
    """
    cdef Py_ssize_t count = following.shape[0], i, j, filled = 0
    order_ = np.empty(count, np.int64)
    seen_ = np.zeros(count, np.uint8)
    cdef int64_t[::1] order = order_
    cdef uint8_t[::1] seen = seen_
    cdef vector[int64_t] offsets
    offsets.push_back(0)
    with nogil:
        for i in range(count):
            if seen[i]:
                continue
            j = i
            while not seen[j]:
                seen[j] = 1
                order[filled] = j
                filled += 1
                j = following[j]
            offsets.push_back(filled)
    return order_, as_int64(offsets)


def wkb_polygons(
    const double[:, ::1] xy not None,
    const int64_t[::1] rings not None,
    const int64_t[::1] polygons not None,
    bint reverse,
):
    """Well-known binary (OGC 06-103r4, little-endian, 2D) of polygons.

    ``xy`` (V, 2); ``rings`` (R + 1,) offsets into it, without a repeated first vertex; ``polygons`` (P + 1,) offsets
    into the rings, the outer ring first. ``reverse`` writes each ring backwards from its first vertex.

    Returns ``data`` uint8 and ``offsets`` (P + 1,) int64 into it.
    """
    cdef Py_ssize_t n_polygons = polygons.shape[0] - 1, p, ring, i, start, stop
    offsets_ = np.empty(n_polygons + 1, np.int64)
    cdef int64_t[::1] offsets = offsets_
    cdef int64_t at = 0
    cdef uint32_t number
    for p in range(n_polygons):
        offsets[p] = at
        at += 9
        for ring in range(polygons[p], polygons[p + 1]):
            at += 4 + 16 * (rings[ring + 1] - rings[ring] + 1)
    offsets[n_polygons] = at
    data_ = np.empty(max(at, 1), np.uint8)
    cdef uint8_t[::1] data = data_
    with nogil:
        at = 0
        for p in range(n_polygons):
            data[at] = 1
            number = 3
            memcpy(&data[at + 1], &number, 4)
            number = <uint32_t> (polygons[p + 1] - polygons[p])
            memcpy(&data[at + 5], &number, 4)
            at += 9
            for ring in range(polygons[p], polygons[p + 1]):
                start = rings[ring]
                stop = rings[ring + 1]
                number = <uint32_t> (stop - start + 1)
                memcpy(&data[at], &number, 4)
                at += 4
                if reverse:
                    memcpy(&data[at], &xy[start, 0], 16)
                    at += 16
                    for i in range(stop - 1, start - 1, -1):
                        memcpy(&data[at], &xy[i, 0], 16)
                        at += 16
                else:
                    memcpy(&data[at], &xy[start, 0], 16 * (stop - start))
                    at += 16 * (stop - start)
                    memcpy(&data[at], &xy[start, 0], 16)
                    at += 16
    return data_[:at], offsets_


def ring_lengths(
    const double[:, ::1] rc not None,
    const int64_t[::1] rings not None,
    const double[:, :, :, ::1] jacobian not None,
    double row_off,
    double col_off,
    double spacing,
):
    """Length of each closed ring in metres.

    ``rc`` (V, 2) vertices as (row, col); ``jacobian`` (2, 2, R, C): metres east and north (first axis) for one row and
    one col (second axis), at nodes every ``spacing`` pixels from (row_off, col_off), interpolated bilinearly at the
    middle of each edge.
    """
    cdef Py_ssize_t n = rings.shape[0] - 1, ring, i, j, row, col
    cdef Py_ssize_t last_row = jacobian.shape[2] - 2, last_col = jacobian.shape[3] - 2
    cdef double x, y, fx, fy, w00, w01, w10, w11, dr, dc, east, north, total
    lengths_ = np.zeros(n, np.float64)
    cdef double[::1] lengths = lengths_
    with nogil:
        for ring in range(n):
            total = 0
            for i in range(rings[ring], rings[ring + 1]):
                j = i + 1 if i + 1 < rings[ring + 1] else rings[ring]
                dr = rc[j, 0] - rc[i, 0]
                dc = rc[j, 1] - rc[i, 1]
                y = (0.5 * (rc[i, 0] + rc[j, 0]) - row_off) / spacing
                x = (0.5 * (rc[i, 1] + rc[j, 1]) - col_off) / spacing
                row = max(0, min(<Py_ssize_t> y, last_row))
                col = max(0, min(<Py_ssize_t> x, last_col))
                fy = y - row
                fx = x - col
                w00 = (1 - fy) * (1 - fx)
                w01 = (1 - fy) * fx
                w10 = fy * (1 - fx)
                w11 = fy * fx
                east = dr * (
                    w00 * jacobian[0, 0, row, col] + w01 * jacobian[0, 0, row, col + 1]
                    + w10 * jacobian[0, 0, row + 1, col] + w11 * jacobian[0, 0, row + 1, col + 1]
                ) + dc * (
                    w00 * jacobian[0, 1, row, col] + w01 * jacobian[0, 1, row, col + 1]
                    + w10 * jacobian[0, 1, row + 1, col] + w11 * jacobian[0, 1, row + 1, col + 1]
                )
                north = dr * (
                    w00 * jacobian[1, 0, row, col] + w01 * jacobian[1, 0, row, col + 1]
                    + w10 * jacobian[1, 0, row + 1, col] + w11 * jacobian[1, 0, row + 1, col + 1]
                ) + dc * (
                    w00 * jacobian[1, 1, row, col] + w01 * jacobian[1, 1, row, col + 1]
                    + w10 * jacobian[1, 1, row + 1, col] + w11 * jacobian[1, 1, row + 1, col + 1]
                )
                total += sqrt(east * east + north * north)
            lengths[ring] = total
    return lengths_


def ring_areas(const double[:, ::1] rc not None, const int64_t[::1] rings not None):
    """Signed area of each ring in pixels, positive for outer rings (region on the left, rows counted downward)."""
    cdef Py_ssize_t n = rings.shape[0] - 1, ring, i, j
    cdef double total, r0, c0
    areas_ = np.zeros(n, np.float64)
    cdef double[::1] areas = areas_
    with nogil:
        for ring in range(n):
            total = 0
            if rings[ring + 1] > rings[ring]:
                r0 = rc[rings[ring], 0]
                c0 = rc[rings[ring], 1]
                for i in range(rings[ring], rings[ring + 1]):
                    j = i + 1 if i + 1 < rings[ring + 1] else rings[ring]
                    total += (rc[j, 1] - c0) * (rc[i, 0] - r0) - (rc[i, 1] - c0) * (rc[j, 0] - r0)
            areas[ring] = total / 2
    return areas_


def wkb_bounds(const uint8_t[::1] data not None, const int32_t[::1] offsets not None):
    """Bounding boxes (P, 4) of polygons in little-endian well-known binary, from their outer rings.

    ``data`` (N,) bytes, ``offsets`` (P + 1,) where each polygon begins.
    """
    cdef Py_ssize_t count = offsets.shape[0] - 1, i, at
    cdef uint32_t points, j
    cdef double x, y
    bounds_ = np.empty((count, 4), np.float64)
    cdef double[:, ::1] bounds = bounds_
    with nogil:
        for i in range(count):
            at = offsets[i] + 9
            memcpy(&points, &data[at], 4)
            at += 4
            bounds[i, 0] = bounds[i, 1] = 1e308
            bounds[i, 2] = bounds[i, 3] = -1e308
            for j in range(points):
                memcpy(&x, &data[at], 8)
                memcpy(&y, &data[at + 8], 8)
                at += 16
                bounds[i, 0] = min(bounds[i, 0], x)
                bounds[i, 1] = min(bounds[i, 1], y)
                bounds[i, 2] = max(bounds[i, 2], x)
                bounds[i, 3] = max(bounds[i, 3], y)
    return bounds_
