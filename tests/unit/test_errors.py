"""Errors travel back from workers."""

from __future__ import annotations

import inspect
import pickle

import pytest
from distributed.core import clean_exception, error_message

from geoseg import errors

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.GeosegError)]


@pytest.mark.parametrize("kind", KINDS)
def test_they_arrive_as_they_were_sent(kind: type[errors.GeosegError]) -> None:
    sent = kind("scene.tif: what and where")
    arrived = pickle.loads(pickle.dumps(sent))
    assert (type(arrived), str(arrived)) == (kind, str(sent))
    message = error_message(sent)
    _, arrived, _ = clean_exception(message["exception"].data, None)
    assert (type(arrived), str(arrived)) == (kind, str(sent))
