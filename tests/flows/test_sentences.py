"""What the log of a run's process says of an error: a sentence where it is one, and where it came from where it is a mistake."""

from __future__ import annotations

import logging

import pytest

from geoseg.errors import SceneError

pytest.importorskip("prefect")


@pytest.mark.parametrize("error", [SceneError("1 of 2 scenes failed: junk: no raster"), OSError("odd")])
def test_only_what_is_no_sentence_keeps_its_traceback(error: Exception) -> None:
    from prefect.engine import engine_logger

    import flows.scan  # noqa: F401 - it is what the process of a run imports

    told: list[str] = []

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(logging.Formatter("%(message)s").format(record))

    handler = Listening()
    engine_logger.addHandler(handler)
    try:
        raise error
    except (SceneError, OSError):
        # As the process of a run does at its end.
        engine_logger.error("Execution of flow run 'x' exited with unexpected exception", exc_info=True)
    finally:
        engine_logger.removeHandler(handler)
    (text,) = told
    assert text.startswith("Execution of flow run 'x' exited with unexpected exception")
    assert text.endswith(f": {error}")
    assert ("Traceback" in text) == isinstance(error, OSError)
    assert (text.count("\n") > 0) == isinstance(error, OSError)
