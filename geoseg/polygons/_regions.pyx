# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# distutils: language=c++
"""Loops over pixels: 4-connected regions of a class raster, and what is measured on them."""

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libcpp.vector cimport vector


cdef int32_t find(vector[int32_t]& parent, int32_t i) noexcept nogil:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


cdef void unite(vector[int32_t]& parent, int32_t a, int32_t b) noexcept nogil:
    # The smaller index is the root, so that a root is the first run of its region in the order of reading.
    a = find(parent, a)
    b = find(parent, b)
    if a < b:
        parent[b] = a
    else:
        parent[a] = b


def label(const uint8_t[:, :] classes not None):
    """Number the 4-connected regions of equal class from 1, in the order of their first pixels.

    Returns ``labels`` (H + 2, W + 2) int32 with an empty frame, the runs of equal class along the rows ``run_row``,
    ``run_start``, ``run_stop``, ``run_label`` (R,) int32 in the order of reading, and ``first`` (N,) int64, the
    position of each region's first pixel (row * W + col).
    """
    cdef Py_ssize_t height = classes.shape[0], width = classes.shape[1], row, col, start
    cdef vector[int32_t] run_row, run_start, run_stop, parent
    cdef vector[int64_t] first
    cdef int64_t runs, above, above_stop, i, begin
    cdef uint8_t value
    cdef int32_t number = 0, root
    labels = np.empty((height + 2, width + 2), np.int32)
    cdef int32_t[:, ::1] out = labels
    cdef vector[int32_t] run_label
    with nogil:
        above = 0
        above_stop = 0
        for row in range(height):
            begin = <int64_t> run_row.size()
            start = 0
            while start < width:
                value = classes[row, start]
                col = start + 1
                while col < width and classes[row, col] == value:
                    col += 1
                run_row.push_back(<int32_t> row)
                run_start.push_back(<int32_t> start)
                run_stop.push_back(<int32_t> col)
                parent.push_back(<int32_t> (run_row.size() - 1))
                # The runs of the row above that end before this one starts can't touch any later run either.
                while above < above_stop and run_stop[above] <= start:
                    above += 1
                i = above
                while i < above_stop and run_start[i] < col:
                    if classes[row - 1, run_start[i]] == value:
                        unite(parent, <int32_t> i, <int32_t> (run_row.size() - 1))
                    i += 1
                start = col
            above = begin
            above_stop = <int64_t> run_row.size()
        runs = <int64_t> run_row.size()
        run_label.resize(runs)
        for i in range(runs):
            root = find(parent, <int32_t> i)
            if root == i:
                number += 1
                run_label[i] = number
                first.push_back(<int64_t> run_row[i] * width + run_start[i])
            else:
                run_label[i] = run_label[root]
            row = run_row[i] + 1
            for col in range(run_start[i] + 1, run_stop[i] + 1):
                out[row, col] = run_label[i]
        for col in range(width + 2):
            out[0, col] = 0
            out[height + 1, col] = 0
        for row in range(height + 2):
            out[row, 0] = 0
            out[row, width + 1] = 0
    return (
        labels, as_int32(run_row), as_int32(run_start), as_int32(run_stop), as_int32(run_label), as_int64(first)
    )


cdef as_int32(vector[int32_t]& values):
    array = np.empty(values.size(), np.int32)
    cdef int32_t[::1] view = array
    cdef Py_ssize_t i
    for i in range(view.shape[0]):
        view[i] = values[i]
    return array


cdef as_int64(vector[int64_t]& values):
    array = np.empty(values.size(), np.int64)
    cdef int64_t[::1] view = array
    cdef Py_ssize_t i
    for i in range(view.shape[0]):
        view[i] = values[i]
    return array


def measure(
    const int32_t[::1] run_row not None,
    const int32_t[::1] run_start not None,
    const int32_t[::1] run_stop not None,
    const int32_t[::1] run_label not None,
    Py_ssize_t count,
    const double[:, ::1] pixel_area not None,
    double spacing,
    const uint8_t[:, :] confidence,
    const int32_t[::1] histogram_row not None,
    uint32_t[:, ::1] histograms not None,
):
    """Measure the regions 1..count over their runs.

    ``pixel_area`` holds the area of one pixel at nodes every ``spacing`` pixels, interpolated bilinearly.
    ``confidence`` (H, W) is 0..100 or None. ``histogram_row[label]`` is the row of ``histograms`` (., 101) that gets
    the region's histogram of confidence, or -1.

    Returns ``pixels`` int64, ``area`` float64, ``confidence_sum`` int64 and ``confidence_p10`` uint8 (the smallest
    value that at least a tenth of the pixels do not exceed), each (count + 1,) and indexed by label.
    """
    cdef Py_ssize_t runs = run_row.shape[0], i, j, col, row, lab, last_row, last_col
    cdef bint has_confidence = confidence is not None
    pixels_ = np.zeros(count + 1, np.int64)
    area_ = np.zeros(count + 1, np.float64)
    sums_ = np.zeros(count + 1, np.int64)
    p10_ = np.zeros(count + 1, np.uint8)
    order_ = np.empty(runs, np.int64)
    begins_ = np.zeros(count + 2, np.int64)
    cdef int64_t[::1] pixels = pixels_, sums = sums_, order = order_, begins = begins_
    cdef double[::1] area = area_
    cdef uint8_t[::1] p10 = p10_
    cdef uint32_t bins[256]
    cdef int64_t total, wanted, running
    cdef double x, y, fx, fy
    cdef int value
    last_row, last_col = pixel_area.shape[0] - 2, pixel_area.shape[1] - 2
    with nogil:
        for i in range(runs):
            lab = run_label[i]
            begins[lab + 1] += 1
            pixels[lab] += run_stop[i] - run_start[i]
            y = (run_row[i] + 0.5) / spacing
            x = 0.5 * (<double> run_start[i] + run_stop[i]) / spacing
            row = min(<Py_ssize_t> y, last_row)
            col = min(<Py_ssize_t> x, last_col)
            fy = y - row
            fx = x - col
            area[lab] += (run_stop[i] - run_start[i]) * (
                (1 - fy) * ((1 - fx) * pixel_area[row, col] + fx * pixel_area[row, col + 1])
                + fy * ((1 - fx) * pixel_area[row + 1, col] + fx * pixel_area[row + 1, col + 1])
            )
        if has_confidence:
            for lab in range(count + 1):
                begins[lab + 1] += begins[lab]
            for i in range(runs):
                lab = run_label[i]
                order[begins[lab]] = i
                begins[lab] += 1
            # begins[lab] is now the end of the label's runs, which is the beginning of the next label's.
            for lab in range(1, count + 1):
                for value in range(101):
                    bins[value] = 0
                total = 0
                for j in range(begins[lab - 1], begins[lab]):
                    i = order[j]
                    for col in range(run_start[i], run_stop[i]):
                        value = confidence[run_row[i], col]
                        if value > 100:
                            value = 0
                        bins[value] += 1
                        total += value
                sums[lab] = total
                wanted = (pixels[lab] + 9) // 10
                running = 0
                for value in range(101):
                    running += bins[value]
                    if running >= wanted:
                        p10[lab] = <uint8_t> value
                        break
                if histogram_row[lab] >= 0:
                    for value in range(101):
                        histograms[histogram_row[lab], value] = bins[value]
    return pixels_, area_, sums_, p10_


def components(Py_ssize_t count, const int64_t[::1] first not None, const int64_t[::1] second not None):
    """Connected components of an undirected graph of ``count`` nodes with edges ``first[i]``-``second[i]``.

    Returns the component of each node (count,) int64, numbered in the order of their first nodes, and their number.
    """
    parent_ = np.arange(count, dtype=np.int64)
    out_ = np.empty(count, np.int64)
    cdef int64_t[::1] parent = parent_, out = out_
    cdef Py_ssize_t i
    cdef int64_t a, b, number = 0
    with nogil:
        for i in range(first.shape[0]):
            a = first[i]
            b = second[i]
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
        for i in range(count):
            a = i
            while parent[a] != a:
                a = parent[a]
            parent[i] = a
            if a == i:
                out[i] = number
                number += 1
            else:
                out[i] = out[a]
    return out_, number


def borders(const int32_t[:, ::1] labels not None, const uint8_t[::1] small not None):
    """Shared borders of the regions of a block that have a small one on either side.

    ``labels`` (H + 2, W + 2) with a frame that is not looked at; ``small`` by label.

    Returns ``first``, ``second`` int32 (first < second) and ``horizontal``, ``vertical`` int64, the number of pixel edges
    of each direction, sorted by the pair.
    """
    cdef Py_ssize_t height = labels.shape[0] - 2, width = labels.shape[1] - 2, row, col
    cdef int32_t a, b
    cdef vector[int64_t] pairs
    with nogil:
        for row in range(1, height + 1):
            for col in range(1, width + 1):
                a = labels[row, col]
                b = labels[row, col + 1]
                if col < width and a != b and (small[a] or small[b]):
                    pairs.push_back(((<int64_t> min(a, b)) << 32 | max(a, b)) << 1 | 1)
                b = labels[row + 1, col]
                if row < height and a != b and (small[a] or small[b]):
                    pairs.push_back(((<int64_t> min(a, b)) << 32 | max(a, b)) << 1)
    keys = as_int64(pairs)
    unique, counts = np.unique(keys, return_counts=True)
    pair, inverse = np.unique(unique >> 1, return_inverse=True)
    is_vertical = (unique & 1).astype(bool)
    horizontal = np.bincount(inverse, np.where(is_vertical, 0, counts), len(pair)).astype(np.int64)
    vertical = np.bincount(inverse, np.where(is_vertical, counts, 0), len(pair)).astype(np.int64)
    return (pair >> 32).astype(np.int32), (pair & 0xFFFFFFFF).astype(np.int32), horizontal, vertical
