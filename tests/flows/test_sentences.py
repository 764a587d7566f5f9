"""What the log of a run's process says of an error: a sentence where it is one, and where it came from where it is a mistake."""

from __future__ import annotations

import logging
from uuid import uuid4

import pytest

from geoseg.errors import SceneError

pytest.importorskip("prefect")


@pytest.mark.parametrize(("error", "lines"), [(SceneError("1 of 2 scenes failed: junk: no raster"), 1), (OSError("odd"), 5)])
def test_only_what_is_no_sentence_keeps_its_traceback(error: Exception, lines: int) -> None:
    from prefect.engine import handle_engine_signals

    import flows.scan  # noqa: F401 - it is what the process of a run imports

    told: list[str] = []

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(logging.Formatter("%(message)s").format(record))

    logger, handler, run = logging.getLogger("prefect.engine"), Listening(), uuid4()
    logger.addHandler(handler)
    try:
        with pytest.raises(SystemExit) as ended, handle_engine_signals(run):
            raise error
    finally:
        logger.removeHandler(handler)
    assert ended.value.code == 1
    (text,) = told
    assert f"'{run}'" in text
    assert text.endswith(f": {error}")
    assert ("Traceback" in text, len(text.splitlines()) >= lines) == (lines > 1, True)
    assert lines > 1 or text.count("\n") == 0
