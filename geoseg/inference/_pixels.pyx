# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Loops over pixels before and after the network."""

import numpy as np

from libc.math cimport expf, fabsf, isfinite
from libc.stdint cimport int8_t, int16_t, int32_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy

cdef enum:
    RUN = 128  # pixels of a row that are decided together
    MOST_QUICK = 16  # classes up to which they are

cdef float QUICK_ERROR = 2e-6  # several times what quick probabilities are off

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
    cdef Py_ssize_t count = scores.shape[0], height = scores.shape[1], width = scores.shape[2], row, col, run, first, length, k
    cdef float s[256]
    cdef int32_t unsure[RUN]
    cdef Py_ssize_t bad = 0
    cdef bint quick = count <= MOST_QUICK and curve_x.shape[1] == 0 and scores.strides[2] == sizeof(float)
    quick = quick and (not use_thresholds if softmax else count == 1)
    quick = quick and valid.strides[1] == 1 and classes.strides[1] == 1 and confidence.strides[1] == 1
    with nogil:
        for row in range(height):
            for run in range((width + RUN - 1) // RUN):
                first = run * RUN
                length = min(RUN, width - first)
                if quick and quick_run(
                    &scores[0, row, first], scores.strides[0] // <Py_ssize_t> sizeof(float), count, &valid[row, first], &gain[0],
                    &offset[0], thresholds[0], softmax, length, &classes[row, first], &confidence[row, first], unsure,
                ):
                    continue
                for col in range(first, first + length):
                    if not valid[row, col]:
                        classes[row, col] = nodata
                        confidence[row, col] = nodata
                    elif not quick or unsure[col - first]:
                        for k in range(count):
                            s[k] = gain[k] * scores[k, row, col]
                            s[k] = s[k] + offset[k]
                        if not decide_pixel(
                            s, count, thresholds, curve_x, curve_y, curve_slope, softmax, use_thresholds,
                            &classes[row, col], &confidence[row, col],
                        ):
                            bad += 1
                            classes[row, col] = nodata
                            confidence[row, col] = nodata
    return bad


cdef bint decide_pixel(
    float* s, Py_ssize_t count, const float[::1] thresholds, const float[:, ::1] curve_x, const float[:, ::1] curve_y,
    const float[:, ::1] curve_slope, bint softmax, bint use_thresholds, uint8_t* code, uint8_t* confidence,
) noexcept nogil:
    # Class and confidence of one pixel from its calibrated scores, which are overwritten; False where one is not finite.
    cdef Py_ssize_t k, best = 0
    cdef float top, total, p
    for k in range(count):
        if not isfinite(s[k]):
            return False
    if curve_x.shape[1]:
        best = bent(s, curve_x, curve_y, curve_slope, thresholds, count, softmax, use_thresholds)
        p = s[best] if count > 1 else s[0] if best == 1 else 1 - s[0]
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
    elif count == 1:
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
    code[0] = <uint8_t> best
    confidence[0] = <uint8_t> (100 * p + <float> 0.5)
    return True


cdef extern from *:
    """
    /* Once more for processors that take eight numbers at once: with the same bits, as nothing is contracted. */
    #if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
    static int geoseg_quick_run(const float*, Py_ssize_t, Py_ssize_t, const unsigned char*, const float*, const float*, float, int,
                                Py_ssize_t, unsigned char*, unsigned char*, int*) __attribute__((target_clones("avx2", "default")));
    #endif
    """


cdef bint quick_run "geoseg_quick_run"(
    const float* scores, Py_ssize_t step, Py_ssize_t count, const uint8_t* valid, const float* gain, const float* offset,
    float threshold, bint softmax, Py_ssize_t length, uint8_t* classes, uint8_t* confidence, int32_t* unsure,
) noexcept nogil:
    # Class and confidence of a run of pixels of a row by loops over one number each, which compilers turn into instructions
    # for several pixels at once. exp is a little off: ``unsure`` tells the pixels that this could change, that are not finite, or
    # not valid. Returns whether there are none.
    cdef float s[MOST_QUICK][RUN]
    cdef float top[RUN]
    cdef float total[RUN]
    cdef int32_t best[RUN]
    cdef Py_ssize_t k, i
    cdef float value, p, a, b
    cdef int32_t percent, known, some = 0
    for i in range(length):
        total[i] = 0
    for k in range(count):
        a = gain[k]
        b = offset[k]
        for i in range(length):
            value = a * scores[k * step + i]
            s[k][i] = value + b
            total[i] += s[k][i]
    for i in range(length):
        # Of what is not finite, the difference from itself is not a number.
        unsure[i] = (total[i] - total[i] != 0) | (valid[i] == 0)
        top[i] = s[0][i]
        best[i] = 0
        total[i] = 0
    if softmax:
        for k in range(1, count):
            for i in range(length):
                value = s[k][i]
                a = top[i]
                known = best[i]
                known = <int32_t> k if value > a else known
                a = value if value > a else a
                best[i] = known
                top[i] = a
        for k in range(count):
            for i in range(length):
                value = quick_exp(s[k][i] - top[i])
                total[i] = total[i] + (value if best[i] != <int32_t> k else <float> 0)
        for i in range(length):
            top[i] = 1 / (1 + total[i])
    else:
        for i in range(length):
            a = top[i]
            value = 1 / (1 + quick_exp(-fabsf(a)))
            b = 1 - value
            p = value if a > 0 else b
            b = 1 - p
            best[i] = p >= threshold
            top[i] = p if p >= threshold else b
            unsure[i] |= (p - threshold < QUICK_ERROR) & (threshold - p < QUICK_ERROR)
    for i in range(length):
        value = 100 * top[i] + <float> 0.5
        percent = <int32_t> value
        value = value - percent
        unsure[i] |= (value < 100 * QUICK_ERROR) | (value > 1 - 100 * QUICK_ERROR)
        some |= unsure[i]
        classes[i] = <uint8_t> best[i]
        confidence[i] = <uint8_t> percent
    return not some


cdef inline float quick_exp(float x) noexcept nogil:
    # exp of what is not positive: 2**n by its bits, and a series for the rest, which is within half of log 2 of 0.
    cdef float y = x if x > <float> -87 else <float> -87
    cdef float n = y * <float> 1.44269504
    n = (n + <float> 12582912) - <float> 12582912
    cdef float r = y - n * <float> 0.693145752
    r = r - n * <float> 1.42860677e-6
    cdef float value = <float> (1.0 / 720) * r + <float> (1.0 / 120)
    value = value * r + <float> (1.0 / 24)
    value = value * r + <float> (1.0 / 6)
    value = value * r + <float> 0.5
    value = value * r + 1
    value = value * r + 1
    cdef int32_t bits = (<int32_t> n + 127) << 23
    cdef float power
    memcpy(&power, &bits, sizeof(float))
    return value * power


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
