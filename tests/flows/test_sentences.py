"""What the log of a run's process says of an error: a sentence where it is one, and where it came from where it is a mistake."""

from __future__ import annotations

import logging
from uuid import uuid4

import pytest

from geoseg.errors import SceneError

pytest.importorskip("prefect")


@pytest.mark.parametrize("error", [SceneError("1 of 2 scenes failed: junk: no raster"), OSError("odd")])
def test_only_what_is_no_sentence_keeps_its_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.client.schemas.objects import FlowRun
    from prefect.logging.loggers import flow_run_logger

    import flows.scan  # noqa: F401 - it is what the process of a run imports

    told: list[str] = []

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(logging.Formatter("%(message)s").format(record))

    adapter = flow_run_logger(FlowRun(flow_id=uuid4()))
    # Prefect's own would start a server to send it to.
    monkeypatch.setattr(adapter.logger, "handlers", [Listening()])
    try:
        raise error
    except (SceneError, OSError):
        # As the process of a run does at its end, and before, where the error is part of the message.
        adapter.error("Engine execution exited with unexpected exception", exc_info=True)
        adapter.exception("Encountered exception during execution: %s", error)
    for text in told:
        assert text.startswith(("Engine execution exited", "Encountered exception"))
        assert text.endswith(f": {error}")
        assert ("Traceback" in text) == isinstance(error, OSError)
        assert (text.count("\n") > 0) == isinstance(error, OSError)
    assert isinstance(error, OSError) or told[1] == f"Encountered exception during execution: {error}"
    assert len(told) == 2
