"""The tests that ``bench_gpu.py`` runs, and how their outcomes are read while they run."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from gpu_given import Found, Given
from gpu_process import Child, FailedError, TimeUpError

WORKERS = 6
"""Processes of the tests; other cores make inputs and compile meanwhile."""

TESTS: tuple[str, ...] = ()
SMALL_TESTS: tuple[str, ...] = ()

OUTCOME = re.compile(
    r"^(?:\[gw\d+\] \[ *\d+%\] )?(?:(?P<a>PASSED|FAILED|ERROR|SKIPPED|XFAIL) (?P<b>\S+::.*)|(?P<c>\S+::.*?) (?P<d>PASSED|FAILED|ERROR|SKIPPED|XFAIL)\b.*)$"
)


def outcomes(lines: Iterator[str]) -> Iterator[tuple[str, str, str]]:
    """Name, outcome and reason of each test that ``pytest -v`` tells; reasons come in its summary, once more."""
    for line in lines:
        match = OUTCOME.match(line)
        if match:
            name, _, reason = (match["b"] or match["c"]).partition(" - ")
            yield name.strip(), match["a"] or match["d"], reason


def tests(given: Given, deadline: float) -> Iterator[Found]:
    """The tests for GPUs, and those that take the GPU by themselves where there is one."""
    chosen = SMALL_TESTS if given.small else TESTS
    command: list[str | Path] = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-rfE", "tests/gpu", *chosen]
    if importlib.util.find_spec("xdist") and not given.small and len(os.sched_getaffinity(0)) > WORKERS:
        command += ["-n", str(WORKERS), "--dist", "worksteal"]
    child, found, cut = Child(command), dict[str, tuple[str, str]](), ""
    start = time.monotonic()
    try:
        for name, outcome, reason in outcomes(child.lines(deadline)):
            found[name] = (outcome, reason or found.get(name, ("", ""))[1])
    except TimeUpError:
        cut = "; stopped, its time was up"
    except FailedError:
        if not found:
            raise
    seconds = time.monotonic() - start
    for what, wanted in (("tests/gpu", True), ("tests that choose the device", False)):
        some = [outcome for name, (outcome, _) in found.items() if name.startswith("tests/gpu/") == wanted]
        counts = {outcome.lower(): some.count(outcome) for outcome in sorted(set(some))}
        words = ", ".join(f"{count} {outcome}" for outcome, count in counts.items()) or "none ended"
        yield Found(what, f"{words}{cut} ({seconds:.0f} s for both)", {**counts, "seconds": seconds})
    for name, (outcome, reason) in found.items():
        if outcome in ("FAILED", "ERROR"):
            yield Found(name, f"{outcome.lower()} {reason}".strip(), {"test": name, "reason": reason})
