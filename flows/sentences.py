"""Errors of geoseg in Prefect's log: the sentence that says what is wrong, without the lines of code that it came through."""

from __future__ import annotations

import logging

from geoseg.errors import GeosegError

__all__ = ["tell_in_sentences"]

LOGGERS = ("prefect.flow_runs", "prefect.task_runs")
"""What tells how flows and tasks go, and with what they end."""


def _tell(record: logging.LogRecord) -> bool:
    """Take the traceback of an error that is a sentence out of a record, and put the sentence into it."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, GeosegError):
        text = record.getMessage()
        record.msg, record.args, record.exc_info = text if str(error) in text else f"{text}: {error}", (), None
    return True


def tell_in_sentences() -> None:
    """Have the process of a run log errors of geoseg so; those of anybody else keep their traceback."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_tell)
