"""All that is to be known of a machine with a GPU, in the minutes that it is there: tests, rates, runs, memory, stacks.

    python benchmarks/bench_gpu.py --minutes 7
    python benchmarks/bench_gpu.py --device cpu --small

Steps go in the order of ``STEPS``, each within its share of the time; what an early one leaves, later ones have. What does
not begin in time is skipped with a word, what fails or does not end is a row that says so, and the rest goes on: whatever is
heavy is a process of its own. Inputs are made, and networks compiled, while the tests run. Rows are printed as they come, and
written to ``$OUT``, or to ``benchmarks/results``, after each of them.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import gpu_runs
import gpu_tests
from common import RESULTS
from gpu_given import Found, Given
from gpu_inputs import GROUPS, SMALL_GROUPS, sizes
from gpu_process import Child, FailedError, TimeUpError

from geoseg.inference.choice import gpu_count

MINUTES = 7.0
RESERVE = 0.07
"""Share of the minutes that is left for what comes before and after: unpacking and compiling, and the table."""
FEW_THREADS = "4"
LEAST_S = 2.0
"""With less, no step begins."""


@dataclass(frozen=True, slots=True)
class Step:
    """What is done at a time."""

    name: str
    """As the table has it."""
    share: float
    """Seconds of it, of seven minutes; only the ratio matters."""
    small: float
    """The same where sizes are small: imports are most of it."""
    run: Callable[[Given, float], Iterator[Found]]
    """Gives rows until a deadline, a time of ``time.monotonic``."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table."""

    step: str
    """The step."""
    what: str
    """What was measured."""
    figure: str
    """What came out, in words."""
    status: str = "done"
    """``done``, ``skipped`` or ``failed``."""
    facts: dict[str, Any] = field(default_factory=dict)
    """The same in numbers."""


STEPS = (
    Step("versions", 12, 12, gpu_runs.versions),
    Step("tests", 70, 14, gpu_tests.tests),
    Step("network unet-resnet18", 42, 30, gpu_runs.networks),
    Step("network unet-resnet50", 12, 0, gpu_runs.networks),
    Step("network amazon-forest", 12, 0, gpu_runs.networks),
    Step("network mask-rcnn, eager", 10, 0, gpu_runs.networks),
    Step("network mask-rcnn, compiled", 10, 0, gpu_runs.networks),
    Step("run unet-resnet18", 30, 14, gpu_runs.run_of("unet-resnet18")),
    Step("run unet-resnet18, compiled", 34, 0, gpu_runs.compiled_run_of("unet-resnet18")),
    Step("run amazon-forest", 26, 14, gpu_runs.run_of("amazon-forest")),
    Step("run amazon-forest, compiled", 34, 0, gpu_runs.compiled_run_of("amazon-forest")),
    Step("run amazon-forest, ONNX Runtime", 12, 6, gpu_runs.forest_on_cpu),
    Step("run mask-rcnn", 18, 14, gpu_runs.objects_run),
    Step("decode", 8, 4, gpu_runs.decode),
    Step("naive script", 24, 14, gpu_runs.naive),
    Step("stacks", 32, 14, gpu_runs.stacks),
    Step("two chunk sizes", 2, 2, gpu_runs.equal),
)
"""The steps and their shares. A share holds what was seen on an H100 with 16 cores: 5 to 10 s of imports a process, 14 s to
compile a ResNet, 66 s an EfficientNet, which is done while the tests run; the runs find it in the engine's cache."""


def deadlines(shares: Sequence[float], start: float, seconds: float) -> list[float]:
    """When each step is to have ended: its share, and what was left before it."""
    return [start + seconds * so_far / sum(shares) for so_far in accumulate(shares)]


class Report:
    """The rows so far; on the screen, and in a file that is whole at any time."""

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self.rows: list[Row] = []
        self.path, self._facts, self._start = path, facts, time.monotonic()

    def add(self, row: Row) -> None:
        """Take a row."""
        self.rows.append(row)
        print(f"[{time.monotonic() - self._start:5.0f} s] {row.step}: {row.what}: {row.figure}", flush=True)
        self.write()

    def write(self, **more: Any) -> None:
        """Write the file."""
        self._facts |= more
        seconds = round(time.monotonic() - self._start, 1)
        document = {**self._facts, "seconds": seconds, "rows": [asdict(row) for row in self.rows]}
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(document, indent=1, default=str) + "\n", encoding="utf-8")
        part.replace(self.path)

    def table(self) -> str:
        """The rows in Markdown."""
        lines = ["| step | what | figure |", "|---|---|---|"]
        return "\n".join(lines + [f"| {row.step} | {row.what} | {row.figure} |" for row in self.rows])


def measure(given: Given, report: Report, steps: Sequence[Step], seconds: float) -> None:
    """Go through the steps."""
    shares = [step.small if given.small else step.share for step in steps]
    for step, deadline in zip(steps, deadlines(shares, time.monotonic(), seconds), strict=True):
        left = deadline - time.monotonic()
        if left < LEAST_S:
            given.drop(step.name)
            report.add(Row(step.name, "skipped", f"no time: {max(0.0, left):.1f} s are left", "skipped"))
            continue
        given.step = step.name
        if not given.began:
            begin(given)
        try:
            for found in step.run(given, deadline):
                status = "skipped" if found.figure.startswith("skipped") else "done"
                report.add(Row(step.name, found.what, found.figure, status, found.facts))
        except (TimeUpError, FailedError) as error:
            report.add(Row(step.name, "failed", str(error), "failed"))
        except Exception as error:  # one step is not to take the others with it
            report.add(Row(step.name, "failed", f"{type(error).__name__}: {' '.join(str(error).split())[:160]}", "failed"))
        report.write(inputs=given.made())


def begin(given: Given) -> None:
    """Start what is done while the first steps run: making inputs, and warming up networks."""
    given.began = True
    groups = SMALL_GROUPS if given.small else GROUPS
    # Each with some of the cores: the tests run meanwhile.
    few = {"OMP_NUM_THREADS": FEW_THREADS}
    given.makers = [Child.of("gpu_sides:prepare", few, names=group, small=given.small) for group in groups]
    if given.cuda and not given.small:
        given.early = {name: gpu_runs.network_child(given, name) for name in tuple(gpu_runs.CHILDREN)[1:]}


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"time for all of it [default: {MINUTES:g}]")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--small", action="store_true", help="sizes that two cores go through in two minutes")
    return parser.parse_args(arguments)


def main() -> None:
    start, options = time.monotonic(), parsed()
    device = options.device if options.device != "auto" else "cuda" if gpu_count() else "cpu"
    folder = Path(os.environ.get("OUT") or RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    report = Report(folder / "bench_gpu.json", {"command": sys.argv[1:], "minutes": options.minutes, "device": device})
    given = Given(device, small=options.small, size=sizes(small=options.small))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        seconds = 60 * options.minutes * (1 - RESERVE) - (time.monotonic() - start)
        measure(given, report, STEPS, seconds)
    finally:
        given.close()
    report.write(finished=True)
    print(f"\n{report.table()}\n\n{report.path}")
    sys.exit(1 if any(row.status == "failed" for row in report.rows) else 0)


if __name__ == "__main__":
    main()
