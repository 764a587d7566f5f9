"""Codes are counted as numpy counts them, in whatever part of an array they lie."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg.summaries.code_counts import count_codes


@pytest.mark.parametrize("repeat", [1, 5, 40])
@pytest.mark.parametrize("part", [np.s_[:, :], np.s_[3:50, 5:70], np.s_[:1, 9:16], np.s_[::2, ::3], np.s_[:0, :4], np.s_[:, 7:8]])
def test_as_numpy_counts(part: tuple[slice, slice], repeat: int) -> None:
    image = np.random.default_rng(repeat).integers(0, 256, (64, 96), np.uint8).repeat(repeat, axis=1)[:, :96]
    for codes in (image[part], np.asfortranarray(image)[part]):
        np.testing.assert_array_equal(count_codes(codes), np.bincount(codes.ravel(), minlength=256))
