"""Codes of values: against numpy's own rounding, and what stands where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from geoseg.codes import MAX_VALUE, NO_VALUE, NODATA, NOT_ANALYSED, VALUE_NOT_ANALYSED
from geoseg.inference.value_chunks import encode, from_bytes
from geoseg.models.card_values import Quantity

FINITE = st.floats(-1e5, 1e5, width=32)


@given(arrays.arrays(np.float32, (3, 4), elements=FINITE), st.sampled_from([0.001, 0.01, 0.25, 3.0]), st.integers(-500, 500))
def test_codes_are_the_nearest_that_there_are(values: np.ndarray, scale: float, offset: int) -> None:
    quantity = Quantity(name="depth", unit="m", scale=scale, offset=offset)
    codes, clipped = encode(quantity, values)
    least, most = quantity.limits
    stored = codes * scale + offset
    inside = clipped == 0
    assert codes.dtype == np.uint16
    assert codes.max() <= MAX_VALUE
    assert (np.abs(stored - values.astype(np.float64))[inside] <= scale / 2 * (1 + 1e-6)).all()
    assert (codes[clipped < 0] == 0).all()
    assert (codes[clipped > 0] == MAX_VALUE).all()
    assert (values[clipped < 0] < least).all()
    assert (values[clipped > 0] > most).all()
    assert inside[(values >= least) & (values <= most)].all()


def test_rounding_and_ends() -> None:
    quantity = Quantity(name="depth", unit="m", scale=0.5, offset=1.0)
    codes, clipped = encode(quantity, np.array([[1.0, 1.25, 1.75, 0.8, 0.74, 1 + MAX_VALUE / 2, 1 + (MAX_VALUE + 1) / 2]]))
    assert codes.tolist() == [[0, 0, 2, 0, 0, MAX_VALUE, MAX_VALUE]]
    assert clipped.tolist() == [[0, 0, 0, 0, -1, 0, 1]]


def test_bytes_come_back() -> None:
    codes = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    stored = np.stack([codes >> 8, codes & 255]).astype(np.uint8)
    classes = np.zeros(codes.shape, np.uint8)
    assert np.array_equal(from_bytes(stored, classes), codes)
    classes[:, :3], classes[:, 3:5] = NOT_ANALYSED, NODATA
    found = from_bytes(stored, classes)
    assert (found[:, :3] == VALUE_NOT_ANALYSED).all()
    assert (found[:, 3:5] == NO_VALUE).all()
    assert np.array_equal(found[:, 5:], codes[:, 5:])


@pytest.mark.parametrize(("change", "sentence"), [({"scale": 0.0}, "greater than 0"), ({"slope": 0.0}, "every value the same")])
def test_quantities_that_hold_nothing(change: dict[str, float], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Quantity.model_validate({"name": "depth", "unit": "m", "scale": 1.0, **change})
