"""Output and logs of the command line: without secrets, and without what steers a terminal."""

from __future__ import annotations

import logging
import sys
import warnings

import click

from geoseg.redaction import sanitized

__all__ = ["echo", "hush_libraries", "log_to_stderr", "make_robust"]


def echo(text: str = "", *, err: bool = False) -> None:
    """Print a text; its own line breaks stay, whatever else of names and messages steers a terminal is written out."""
    click.echo("\n".join(map(sanitized, text.split("\n"))), err=err)


class _Sanitized(logging.Formatter):
    """Records of all libraries, as they may be told."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(sanitized, super().format(record).split("\n")))


def log_to_stderr(form: str = "geoseg: %(message)s", level: int = logging.WARNING) -> None:
    """Have what is logged appear on standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Sanitized(form))
    logging.basicConfig(level=level, handlers=[handler])


LIBRARIES = ("rasterio", "pyogrio", "fiona", "shapely", "PIL", "matplotlib")
"""Loggers that are silenced: errors of files are raised, too, where they matter."""


def hush_libraries() -> None:
    """Keep warnings of libraries to their developers: what users should know is said in words of ours.

    ``python -W`` and PYTHONWARNINGS bring them back.
    """
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def make_robust() -> None:
    """Have what the encoding of the terminal lacks written as Python writes it, and warnings that nobody handles sanitized."""
    hush_libraries()
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Sanitized("%(message)s"))
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
