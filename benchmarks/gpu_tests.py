"""The tests that ``bench_gpu.py`` runs, and how their outcomes are read while they run."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator

from gpu_given import Found, Given
from gpu_process import Child, FailedError, TimeUpError

WORKERS = 6
"""Processes of the tests; other cores make inputs and compile meanwhile."""

TRAININGS = (
    # Trains a network of objects and a detector where Lightning likes, and judges them with the engine that the rule chooses.
    "tests/integration/test_train_objects.py",
    # Needs the labelled imagery beside the repository; skipped without it.
    "tests/integration/test_train.py",
)
RUNS = (
    # amazon-forest, with the engine that the rule chooses; they write GeoPackages.
    "tests/integration/test_cli.py::test_band_files_of_one_scene",
    "tests/integration/test_cli.py::test_demo_is_the_same_each_time",
    "tests/integration/test_outputs.py",
)
"""Tests of training, detectors and inference that name no device, so that Lightning and ``choose_engine`` take the GPU.

Left out are those of faults, clusters, addresses and odd files (``test_resume``, ``test_cluster``, ``test_remote``,
``test_awkward``, ``flows``): they take the same way in scores of processes, each of which compiles its network. All others
compute on the CPU on any machine: they say so (``device="cpu"``), compute with tensors of their own, as those of detectors and
losses do, run models that have no weights for torch, or train and grade with ``geoseg.damage.training`` and
``geoseg.damage.network``, which know no other device.
"""

NAME = r"\S+?::[^\s\[]+(?:\[.*?\](?= |$))?"
RESULT = "PASSED|FAILED|ERROR|SKIPPED|XFAIL"
LINE = re.compile(
    rf"^(?:\[gw\d+\] \[ *\d+%\] )?(?:(?P<before>{RESULT}) )?(?P<name>{NAME})(?: (?P<after>{RESULT})\b.*| - (?P<reason>.*))?$"
)
BAD = ("FAILED", "ERROR", "UNFINISHED")


def outcomes(lines: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Name, outcome and reason of each test that ``pytest -v`` tells, as it goes.

    A test that starts is ``UNFINISHED`` until its outcome comes; reasons come in the summary, once more.
    """
    for line in lines:
        match = LINE.match(line.rstrip())
        if match:
            yield match["name"], match["before"] or match["after"] or "UNFINISHED", match["reason"] or ""


def tests(given: Given, deadline: float) -> Iterator[Found]:
    """The tests for GPUs, and those that take the GPU by themselves where there is one."""
    chosen: tuple[str, ...] = () if given.small else TRAININGS
    if importlib.util.find_spec("pyogrio"):
        chosen += RUNS[:1] if given.small else RUNS
    else:
        yield Found("tests of runs", "skipped, they write GeoPackages, and pyogrio is not there")
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-rfE", "tests/gpu", *chosen]
    if importlib.util.find_spec("xdist") and not given.small and len(os.sched_getaffinity(0)) > WORKERS:
        command += ["-n", str(WORKERS), "--dist", "worksteal"]
    child, found, cut, start = Child(command), dict[str, tuple[str, str]](), "", time.monotonic()

    def take(lines: Iterable[str]) -> None:
        for name, outcome, reason in outcomes(lines):
            found[name] = (outcome, reason or found.get(name, ("", ""))[1])

    try:
        take(child.lines(deadline))
    except TimeUpError:
        take(child.waiting())
        cut = "; stopped, the time was up"
    except FailedError:
        # It leaves with an error where tests fail, too.
        if not found:
            raise
    seconds = time.monotonic() - start
    for what, wanted in (("tests/gpu", True), ("tests that choose the device", False)):
        some = [outcome for name, (outcome, _) in found.items() if name.startswith("tests/gpu/") == wanted]
        counts = {outcome.lower(): some.count(outcome) for outcome in sorted(set(some))}
        words = ", ".join(f"{count} {outcome}" for outcome, count in counts.items()) or "none began"
        yield Found(what, f"{words}{cut} ({seconds:.0f} s for both)", {**counts, "seconds": seconds})
    for name, (outcome, reason) in found.items():
        if outcome in BAD:
            yield Found(name, f"{outcome.lower()} {reason}".strip(), {"test": name, "reason": reason})
