"""Errors of geoseg in Prefect's log: the sentence that says what is wrong, without the lines of code that it came through."""

from __future__ import annotations

import logging

from geoseg.errors import GeosegError

__all__ = ["tell_in_sentences"]

ENGINE = "prefect.engine"
"""The logger that tells how the process of a run has ended."""


def _tell(record: logging.LogRecord) -> bool:
    """Take the traceback of an error that is a sentence out of a record, and put the sentence into it."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, GeosegError):
        record.msg, record.args, record.exc_info = f"{record.getMessage()}: {error}", (), None
    return True


def tell_in_sentences() -> None:
    """Have the process of a run log errors of geoseg so; those of anybody else keep their traceback."""
    logging.getLogger(ENGINE).addFilter(_tell)
