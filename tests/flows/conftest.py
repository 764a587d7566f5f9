"""One guarded Prefect server for all tests that only ask it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from services import prefect_server


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a client of a server with a password and a public name."""
    with prefect_server(tmp_path_factory.mktemp("guarded"), GEOSEG_SERVER_HOSTS="maps.example") as environment:
        yield environment
