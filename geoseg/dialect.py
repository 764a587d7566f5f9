"""Words that messages share. Names of settings: as Python has them, or as flags where the command line asks for that.

The library knows settings, not options. A message names one by ``setting``, so that it tells a cure in the words of whoever
called: ``rescale=0,255`` in Python, ``--rescale 0,255`` on the command line and in the processes that it starts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

__all__ = ["as_flags", "listed", "number_of", "setting"]

DIALECT = "GEOSEG_SETTINGS"
"""The environment variable that says how; processes inherit it, so that workers speak as their parent does."""
FLAGS = "flags"


def setting(name: str, value: str = "") -> str:
    """The name of a setting, and a value for it, as whoever called writes them."""
    if os.environ.get(DIALECT) == FLAGS:
        return f"--{name.replace('_', '-')} {value}".rstrip()
    return f"{name}={value}" if value else name


@contextmanager
def as_flags() -> Iterator[None]:
    """Name settings as flags of the command line, here and in processes that are started within."""
    before = os.environ.get(DIALECT)
    os.environ[DIALECT] = FLAGS
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(DIALECT, None)
        else:
            os.environ[DIALECT] = before


def number_of(count: int, noun: str) -> str:
    """A count and what is counted, whose plural ends in s: ``1 chunk``, ``2 classes``."""
    many = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else many}"


def listed(names: Sequence[str], most: int) -> str:
    """The first of some names, and how many more there are: ``a, b and 3 more``."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")
