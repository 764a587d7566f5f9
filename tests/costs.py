"""What each test costs: a pytest plugin that prints CPU seconds, those of ended child processes among them.

    python -m pytest -p costs --costs 40 ...

Seconds of a clock depend on what else the machine does; these hardly do. Setup of shared fixtures counts for the test that
asked first. ``--costs-file`` takes a line a test, seconds and name, as they end.
"""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest

SPENT = pytest.StashKey[Counter[str]]()


def cpu_seconds() -> float:
    """User and system seconds of this process and of its children that have ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--costs", type=int, default=30, help="how many of the dearest tests are printed")
    parser.addoption("--costs-file", type=Path, help="file for the CPU seconds of all tests")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SPENT] = Counter()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    before = cpu_seconds()
    try:
        return (yield)
    finally:
        spent = cpu_seconds() - before
        item.config.stash[SPENT][item.nodeid] += spent
        if path := item.config.getoption("--costs-file"):
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{spent:.3f}\t{item.nodeid}\n")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    spent = config.stash[SPENT]
    terminalreporter.section(f"CPU seconds: {sum(spent.values()):.0f} in {len(spent)} tests")
    for name, seconds in spent.most_common(config.getoption("--costs")):
        terminalreporter.write_line(f"{seconds:8.2f}  {name}")
