# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Loops over pixels before and after the network."""

import numpy as np

from libc.math cimport exp, expf, isfinite
from libc.stdint cimport int8_t, int16_t, int32_t, uint8_t, uint16_t, uint32_t

ctypedef fused pixel:
    uint8_t
    int8_t
    uint16_t
    int16_t
    uint32_t
    int32_t
    float
    double


def normalize(
    const pixel[:, :, :] pixels not None,
    const uint8_t[:, :] valid not None,
    const float[::1] scale not None,
    const float[::1] shift not None,
    const float[::1] low not None,
    const float[::1] high not None,
    float[:, :, ::1] out not None,
):
    """``out = min(max(pixels * scale + shift, low), high)`` by band where ``valid``, 0 elsewhere.

    ``pixels`` (C, h, w), ``valid`` (h, w), the others (C,), ``out`` (C, H, W) with H >= h and W >= w: its last rows and
    columns repeat the edge of the image.
    """
    cdef Py_ssize_t bands = pixels.shape[0], height = pixels.shape[1], width = pixels.shape[2]
    cdef Py_ssize_t full_height = out.shape[1], full_width = out.shape[2], band, row, col
    cdef float a, b, least, most, value
    with nogil:
        for band in range(bands):
            a = scale[band]
            b = shift[band]
            least = low[band]
            most = high[band]
            for row in range(height):
                for col in range(width):
                    value = <float> pixels[band, row, col] * a
                    value = value + b
                    value = least if value < least else value
                    value = most if value > most else value
                    out[band, row, col] = value if valid[row, col] else 0
                for col in range(width, full_width):
                    out[band, row, col] = out[band, row, width - 1]
            for row in range(height, full_height):
                out[band, row, :] = out[band, height - 1, :]


def decide(
    const float[:, :, :] scores not None,
    const uint8_t[:, :] valid not None,
    const float[::1] gain not None,
    const float[::1] offset not None,
    const float[::1] thresholds not None,
    const float[:, ::1] curve_x not None,
    const float[:, ::1] curve_y not None,
    const float[:, ::1] curve_slope not None,
    bint softmax,
    bint use_thresholds,
    uint8_t nodata,
    uint8_t[:, :] classes not None,
    uint8_t[:, :] confidence not None,
):
    """Class and confidence of each pixel from the network's scores.

    ``scores`` (K, h, w) logits; ``gain`` and ``offset`` (K,) calibrate them (``gain * score + offset``). With
    ``softmax`` the K probabilities sum to 1; otherwise each is a sigmoid of its own, and a single score is that of
    class 1 against class 0. The class is the most probable one (the lowest code among equals); with
    ``use_thresholds`` only classes that reach their threshold compete, and class 0 is taken where none does.
    The curves (K, M), see ``Curves``, bend the probabilities after that; those of ``softmax`` are divided by their sum then.
    Without curves M is 0. ``confidence`` is the class's probability in percent, rounded. Pixels that are not ``valid`` get ``nodata`` in both.

    Returns the number of valid pixels with a score that is not finite.
    """
    cdef Py_ssize_t count = scores.shape[0], height = scores.shape[1], width = scores.shape[2], row, col, k, best
    cdef float value, top, total, p
    cdef float s[256]
    cdef Py_ssize_t bad = 0
    cdef bint finite
    cdef bint binary = count == 1
    cdef Py_ssize_t corners = curve_x.shape[1]
    with nogil:
        for row in range(height):
            for col in range(width):
                if not valid[row, col]:
                    classes[row, col] = nodata
                    confidence[row, col] = nodata
                    continue
                total = 0
                for k in range(count):
                    value = gain[k] * scores[k, row, col]
                    value = value + offset[k]
                    s[k] = value
                    total += value
                if not isfinite(total):
                    finite = True
                    for k in range(count):
                        finite = finite and isfinite(s[k])
                    if not finite:
                        bad += 1
                        classes[row, col] = nodata
                        confidence[row, col] = nodata
                        continue
                best = 0
                if corners:
                    best = bent(s, curve_x, curve_y, curve_slope, thresholds, count, softmax, use_thresholds)
                    if binary:
                        p = s[0] if best == 1 else 1 - s[0]
                    else:
                        p = s[best]
                elif softmax:
                    top = s[0]
                    for k in range(1, count):
                        if s[k] > top:
                            top = s[k]
                            best = k
                    total = 0
                    for k in range(count):
                        if k != best:
                            total += expf(s[k] - top)
                    total = 1 / (1 + total)
                    p = total
                    if use_thresholds:
                        for k in range(count):
                            s[k] = expf(s[k] - top) * total
                        best = winner(s, thresholds, count)
                        p = s[best]
                elif binary:
                    p = sigmoid(s[0])
                    if p >= thresholds[0]:
                        best = 1
                    else:
                        p = 1 - p
                else:
                    for k in range(count):
                        s[k] = sigmoid(s[k])
                    best = winner(s, thresholds, count)
                    p = s[best]
                classes[row, col] = <uint8_t> best
                confidence[row, col] = <uint8_t> (100 * p + <float> 0.5)
    return bad


cdef inline float sigmoid(float x) noexcept nogil:
    if x >= 0:
        return 1 / (1 + expf(-x))
    cdef float e = expf(x)
    return e / (1 + e)


cdef Py_ssize_t bent(
    float* s, const float[:, ::1] x, const float[:, ::1] y, const float[:, ::1] slope, const float[::1] thresholds,
    Py_ssize_t count, bint softmax, bint use_thresholds,
) noexcept nogil:
    # Turns scores into probabilities along the curves, and gives the class.
    cdef Py_ssize_t k, best = 0
    cdef float top, total = 0
    if softmax:
        top = s[0]
        for k in range(1, count):
            top = s[k] if s[k] > top else top
        for k in range(count):
            s[k] = expf(s[k] - top)
            total += s[k]
        for k in range(count):
            s[k] = s[k] / total
    else:
        for k in range(count):
            s[k] = sigmoid(s[k])
    total = 0
    for k in range(count):
        s[k] = on_curve(s[k], &x[k, 0], &y[k, 0], &slope[k, 0], x.shape[1])
        total += s[k]
    if not softmax:
        if count == 1:
            return 1 if s[0] >= thresholds[0] else 0
        return winner(s, thresholds, count)
    for k in range(count):
        s[k] = s[k] / total
    if use_thresholds:
        return winner(s, thresholds, count)
    for k in range(1, count):
        if s[k] > s[best]:
            best = k
    return best


cdef inline float on_curve(float p, const float* x, const float* y, const float* slope, Py_ssize_t corners) noexcept nogil:
    # The last corner that is not right of p; the first one is at 0.
    cdef Py_ssize_t low = 0, high = corners, middle
    while high - low > 1:
        middle = (low + high) // 2
        if x[middle] <= p:
            low = middle
        else:
            high = middle
    return y[low] + slope[low] * (p - x[low])


cdef inline Py_ssize_t winner(float* p, const float[::1] thresholds, Py_ssize_t count) noexcept nogil:
    # The most probable class among those that reach their threshold, else class 0.
    cdef Py_ssize_t k, best = -1
    for k in range(count):
        if p[k] >= thresholds[k] and (best < 0 or p[k] > p[best]):
            best = k
    return best if best >= 0 else 0
