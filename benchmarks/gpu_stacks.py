"""Where a process spends its time: the stacks of its threads, looked at again and again and added up by function."""

from __future__ import annotations

import re
import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parent.parent
OWN = tuple(f"{ROOT / package}/" for package in ("geoseg", "pipeline"))
EVERY_S = 0.02
TOP = 15


class Stacks:
    """Samples the other threads while it is entered."""

    def __init__(self, every_s: float = EVERY_S) -> None:
        self.counts: dict[str, Counter[str]] = {}
        """Samples by function, by kind of thread."""
        self.samples = 0
        """How often was looked."""
        self._every_s, self._stop = every_s, threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stacks", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            names = {thread.ident: thread.name for thread in threading.enumerate()}
            self.samples += 1
            for ident, frame in sys._current_frames().items():  # noqa: SLF001 - there is no other way to see all threads
                if ident == self._thread.ident:
                    continue
                where = place(frame)
                if where is not None:
                    self.counts.setdefault(kind_of(names.get(ident, "other")), Counter())[where] += 1

    def top(self, count: int = TOP) -> dict[str, list[tuple[str, float]]]:
        """By kind of thread, the functions that were met most, with the share of the samples; above 1 in several threads."""
        ranked = sorted(self.counts.items(), key=lambda item: -item[1].total())
        return {
            kind: [(name, round(n / max(1, self.samples), 4)) for name, n in found.most_common(count)] for kind, found in ranked
        }


def kind_of(name: str) -> str:
    """A thread's name without its number."""
    return re.sub(r"[-_ ]*\d+(_\d+)*( \(.*\))?$", "", name) or "thread"


def place(frame: FrameType | None) -> str | None:
    """The innermost function of geoseg of a stack, and what it calls, if anything; None where geoseg is not on it."""
    leaf, called = frame, frame
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(OWN):
            own = f"{Path(code.co_filename).relative_to(ROOT)}:{code.co_qualname}"
            if frame is leaf or called is None:
                return own
            return f"{own} > {Path(called.f_code.co_filename).name}:{called.f_code.co_name}"
        called, frame = frame, frame.f_back
    return None


def lines_of(top: Mapping[str, Sequence[tuple[str, float]]], count: int = TOP) -> Sequence[str]:
    """The most frequent places of all kinds of threads, one a line."""
    every = [(share, kind, name) for kind, found in top.items() for name, share in found]
    return [f"{100 * share:5.1f} % {kind}: {name}" for share, kind, name in sorted(every, reverse=True)[:count]]
