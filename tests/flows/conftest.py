"""One guarded Prefect server for all tests that only ask it, and a clean slate between servers."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from services import prefect_server


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a client of a server with a password and a public name."""
    with prefect_server(tmp_path_factory.mktemp("guarded"), GEOSEG_SERVER_HOSTS="maps.example") as environment:
        yield environment


@pytest.fixture(scope="module", autouse=True)
def drained() -> Iterator[None]:
    """Prefect keeps one worker a process for events and one for logs: the next module has another server, and needs its own."""
    yield
    if find_spec("prefect") is None:
        return
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    EventsWorker.drain_all(timeout=60)
    APILogWorker.drain_all(timeout=60)
