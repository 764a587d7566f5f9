"""Warnings of libraries that are not shown while something is done, whatever other threads do meanwhile.

Python's filters of warnings are those of the process, and ``warnings.catch_warnings`` gives back all of them as they were when
it was entered: of two threads that leave in another order than they came, the later one leaves behind what the earlier had set.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["muted"]

_LOCK = threading.Lock()
_INSIDE = Counter[tuple[str, type[Warning], str]]()
"""Blocks that are under way by what they mute."""


@contextmanager
def muted(category: type[Warning] = Warning, *, message: str = "", module: str = "") -> Iterator[None]:
    """Show no warnings of a kind while the block lasts; in other threads neither, until the last such block has ended.

    Args:
        category: Their class.
        message: A pattern that their text begins with, whatever its case.
        module: A pattern of the module that they are of.
    """
    kind = (message, category, module)
    with _LOCK:
        _INSIDE[kind] += 1
        # Whoever sets filters within such a block may have replaced all of them.
        if _INSIDE[kind] == 1 or _filter(*kind) not in warnings.filters:
            warnings.filterwarnings("ignore", message, category, module)
    try:
        yield
    finally:
        with _LOCK:
            _INSIDE[kind] -= 1
            if not _INSIDE[kind]:
                del _INSIDE[kind]
                with suppress(ValueError):
                    warnings.filters.remove(_filter(*kind))  # type: ignore[attr-defined]  # a list


def _filter(message: str, category: type[Warning], module: str) -> tuple[object, ...]:
    """An entry of Python's filters, as ``warnings.filterwarnings`` makes it."""
    return (
        "ignore",
        re.compile(message, re.IGNORECASE) if message else None,
        category,
        re.compile(module) if module else None,
        0,
    )
