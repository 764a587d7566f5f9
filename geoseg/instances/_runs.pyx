# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# distutils: language=c++
"""Loops over runs: masks as runs of pixels along rows, ascending by row and column within each mask."""

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t
from libcpp.vector cimport vector


cdef inline int32_t larger(int32_t a, int32_t b) noexcept nogil:
    return a if a > b else b


cdef inline int32_t smaller(int32_t a, int32_t b) noexcept nogil:
    return a if a < b else b


def of_labels(const int32_t[:, :] labels not None, int32_t count, int32_t row_off, int32_t col_off):
    """The masks of the labels 1..count: ``runs`` (R, 3) int32 as (row, start, stop), and ``offsets`` (count + 1,) int64.

    Row and columns are those of ``labels`` plus the offsets.
    """
    cdef Py_ssize_t height = labels.shape[0], width = labels.shape[1], row, start, col, i
    cdef vector[int32_t] found
    cdef int32_t label
    offsets_ = np.zeros(count + 1, np.int64)
    cdef int64_t[::1] offsets = offsets_
    with nogil:
        for row in range(height):
            start = 0
            while start < width:
                label = labels[row, start]
                col = start + 1
                while col < width and labels[row, col] == label:
                    col += 1
                if 0 < label <= count:
                    found.push_back(label)
                    found.push_back(<int32_t> row + row_off)
                    found.push_back(<int32_t> start + col_off)
                    found.push_back(<int32_t> col + col_off)
                    offsets[label] += 1
                start = col
        for i in range(count):
            offsets[i + 1] += offsets[i]
    runs_ = np.empty((offsets_[count], 3), np.int32)
    next_ = offsets_[:-1].copy()
    cdef int32_t[:, ::1] runs = runs_
    cdef int64_t[::1] following = next_
    cdef int64_t at
    with nogil:
        for i in range(<Py_ssize_t> found.size() // 4):
            at = following[found[4 * i] - 1]
            following[found[4 * i] - 1] += 1
            runs[at, 0] = found[4 * i + 1]
            runs[at, 1] = found[4 * i + 2]
            runs[at, 2] = found[4 * i + 3]
    return runs_, offsets_


def paint(
    int32_t[:, :] labels not None,
    const int32_t[:, ::1] runs not None,
    const int64_t[::1] offsets not None,
    const int32_t[::1] values not None,
    int32_t row_off,
    int32_t col_off,
):
    """Write the value of each mask into its pixels; what lies beyond the array is left out."""
    cdef Py_ssize_t i, r, col
    cdef int32_t row, start, stop, height = <int32_t> labels.shape[0], width = <int32_t> labels.shape[1]
    with nogil:
        for i in range(offsets.shape[0] - 1):
            for r in range(offsets[i], offsets[i + 1]):
                row = runs[r, 0] - row_off
                if row < 0 or row >= height:
                    continue
                start = larger(0, runs[r, 1] - col_off)
                stop = smaller(width, runs[r, 2] - col_off)
                for col in range(start, stop):
                    labels[row, col] = values[i]


def pixels_within(
    const int32_t[:, ::1] runs not None,
    const int64_t[::1] offsets not None,
    const int64_t[::1] which not None,
    const int32_t[:, ::1] windows not None,
):
    """Pixels (P,) int64 of the masks ``which`` (P,) inside windows (P, 4) as (row, row stop, column, column stop)."""
    cdef Py_ssize_t p, r
    cdef int64_t total
    cdef int32_t length
    out_ = np.empty(which.shape[0], np.int64)
    cdef int64_t[::1] out = out_
    with nogil:
        for p in range(which.shape[0]):
            total = 0
            for r in range(offsets[which[p]], offsets[which[p] + 1]):
                if windows[p, 0] <= runs[r, 0] < windows[p, 1]:
                    length = smaller(runs[r, 2], windows[p, 3]) - larger(runs[r, 1], windows[p, 2])
                    if length > 0:
                        total += length
            out[p] = total
    return out_


def common_pixels(
    const int32_t[:, ::1] runs not None,
    const int64_t[::1] offsets not None,
    const int64_t[::1] first not None,
    const int64_t[::1] second not None,
):
    """Pixels (P,) int64 that the masks ``first`` (P,) and ``second`` (P,) have in common."""
    cdef Py_ssize_t p
    cdef int64_t a, b, a_stop, b_stop, total
    cdef int32_t length
    out_ = np.empty(first.shape[0], np.int64)
    cdef int64_t[::1] out = out_
    with nogil:
        for p in range(first.shape[0]):
            a, a_stop = offsets[first[p]], offsets[first[p] + 1]
            b, b_stop = offsets[second[p]], offsets[second[p] + 1]
            total = 0
            while a < a_stop and b < b_stop:
                if runs[a, 0] < runs[b, 0]:
                    a += 1
                elif runs[a, 0] > runs[b, 0]:
                    b += 1
                else:
                    length = smaller(runs[a, 2], runs[b, 2]) - larger(runs[a, 1], runs[b, 1])
                    if length > 0:
                        total += length
                    if runs[a, 2] < runs[b, 2]:
                        a += 1
                    else:
                        b += 1
            out[p] = total
    return out_


cdef void push(vector[int32_t]& out, int32_t row, int32_t start, int32_t stop) noexcept nogil:
    """Append a run; one that touches the last is joined with it."""
    cdef size_t last = out.size()
    if start >= stop:
        return
    if last and out[last - 3] == row and out[last - 1] >= start:
        out[last - 1] = larger(out[last - 1], stop)
        return
    out.push_back(row)
    out.push_back(start)
    out.push_back(stop)


def united(const int32_t[:, ::1] runs not None):
    """Runs (R, 3) of one mask from runs in ascending order that may overlap."""
    cdef vector[int32_t] out
    cdef Py_ssize_t i
    with nogil:
        for i in range(runs.shape[0]):
            push(out, runs[i, 0], runs[i, 1], runs[i, 2])
    return as_runs(out)


def without(const int32_t[:, ::1] a not None, const int32_t[:, ::1] b not None):
    """Runs (R, 3) of the pixels of one mask that are not in another."""
    cdef vector[int32_t] out
    cdef Py_ssize_t i, j = 0, k, count = b.shape[0]
    cdef int32_t row, start, stop
    with nogil:
        for i in range(a.shape[0]):
            row, start, stop = a[i, 0], a[i, 1], a[i, 2]
            while j < count and (b[j, 0] < row or (b[j, 0] == row and b[j, 2] <= start)):
                j += 1
            k = j
            while k < count and b[k, 0] == row and b[k, 1] < stop:
                push(out, row, start, smaller(stop, b[k, 1]))
                start = larger(start, b[k, 2])
                k += 1
            push(out, row, start, stop)
    return as_runs(out)


def clipped(const int32_t[:, ::1] runs not None, int32_t row, int32_t row_stop, int32_t col, int32_t col_stop):
    """Runs (R, 3) of the pixels of a mask inside a window."""
    cdef vector[int32_t] out
    cdef Py_ssize_t i
    with nogil:
        for i in range(runs.shape[0]):
            if row <= runs[i, 0] < row_stop:
                push(out, runs[i, 0], larger(runs[i, 1], col), smaller(runs[i, 2], col_stop))
    return as_runs(out)


def parts(const int32_t[:, ::1] runs not None, const int64_t[::1] offsets not None):
    """By run, the number of the 4-connected part of its mask, from 0 in the order of the parts' first runs; (R,) int64."""
    cdef Py_ssize_t i
    cdef int64_t r, above, above_stop, begin, k, a, b, number
    parent_ = np.arange(runs.shape[0], dtype=np.int64)
    cdef int64_t[::1] parent = parent_
    with nogil:
        for i in range(offsets.shape[0] - 1):
            above = above_stop = begin = offsets[i]
            r = offsets[i]
            while r < offsets[i + 1]:
                # ``begin`` is the first run of this row, ``above`` that of the row before it.
                if r > offsets[i] and runs[r, 0] != runs[r - 1, 0]:
                    above = begin if runs[r, 0] == runs[r - 1, 0] + 1 else r
                    above_stop = r
                    begin = r
                while above < above_stop and runs[above, 2] <= runs[r, 1]:
                    above += 1
                k = above
                while k < above_stop and runs[k, 1] < runs[r, 2]:
                    a, b = k, r
                    while parent[a] != a:
                        parent[a] = parent[parent[a]]
                        a = parent[a]
                    while parent[b] != b:
                        parent[b] = parent[parent[b]]
                        b = parent[b]
                    if a < b:
                        parent[b] = a
                    else:
                        parent[a] = b
                    k += 1
                r += 1
            number = 0
            for r in range(offsets[i], offsets[i + 1]):
                if parent[r] == r:
                    # Kept as negative numbers, so that roots stay known until all runs have theirs.
                    parent[r] = -1 - number
                    number += 1
                else:
                    a = parent[r]
                    while parent[a] >= 0:
                        a = parent[a]
                    parent[r] = parent[a]
    return -1 - parent_


cdef as_runs(vector[int32_t]& values):
    array = np.empty((values.size() // 3, 3), np.int32)
    cdef int32_t[:, ::1] view = array
    cdef Py_ssize_t i
    for i in range(view.shape[0]):
        view[i, 0] = values[3 * i]
        view[i, 1] = values[3 * i + 1]
        view[i, 2] = values[3 * i + 2]
    return array
