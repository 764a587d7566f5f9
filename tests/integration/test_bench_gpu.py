"""The command that measures all of a GPU machine: within its time, whatever its steps do; small, on the CPU."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support import ROOT

BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def on_path() -> Iterator[None]:
    """Benchmarks are scripts, which find each other beside them."""
    before = list(sys.path)
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path[:] = before


def bench(out: Path, *options: str, limit_s: float) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    command = [sys.executable, BENCHMARKS / "bench_gpu.py", "--device", "cpu", "--small", *options]
    env = {**os.environ, "OUT": str(out)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=limit_s, check=False)
    return done, json.loads((out / "bench_gpu.json").read_text())


def lives(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def lines_of(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| ")]


def test_without_time_every_step_is_skipped_with_a_word(tmp_path: Path) -> None:
    import bench_gpu

    done, report = bench(tmp_path, "--minutes", "0.01", limit_s=120)
    assert done.returncode == 0, done.stderr
    assert report["finished"]
    assert [row["step"] for row in report["rows"]] == [step.name for step in bench_gpu.STEPS]
    assert all(row["status"] == "skipped" and "no time" in row["figure"] for row in report["rows"])
    assert lines_of(done.stdout)[1:] == [[row["step"], row["what"], row["figure"]] for row in report["rows"]]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_all_steps_on_the_cpu(tmp_path: Path) -> None:
    done, report = bench(tmp_path, "--minutes", "10", limit_s=1200)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    rows = {(row["step"], row["what"].rpartition(": ")[2]): row for row in report["rows"]}
    assert not [row for row in report["rows"] if row["status"] == "failed"]
    assert rows["tests", "tests that choose the device"]["facts"]["passed"] == 1
    for name in ("unet-resnet18", "amazon-forest", "mask-rcnn"):
        assert rows[f"run {name}", "whole process"]["facts"]["features"] > 0
    measured = {row["what"]: row["facts"] for row in report["rows"] if row["step"] == "network unet-resnet18"}
    for name in ("unet-resnet18", "amazon-forest", "mask-rcnn"):
        assert measured[f"{name}: network alone, eager"]["mpx_s"] > 0
        assert measured[f"{name}: engine alone"]["share"] > 0
    assert {row["status"] for (step, _), row in rows.items() if step.endswith(", compiled")} == {"skipped"}
    assert rows["run amazon-forest, ONNX Runtime", "pixels that differ"]["facts"]["share"] < 1e-3
    assert {facts["facts"]["threads"] for (step, _), facts in rows.items() if step == "decode"} >= {1, 4}
    assert rows["naive script", "whole process"]["facts"]["steps"]["features"] > 0
    assert rows["stacks", "run with sampled stacks"]["facts"]["top"]["geoseg-chunk"]
    equal = [row for (step, _), row in rows.items() if step == "two chunk sizes"]
    assert len(equal) == 3
    assert all(row["facts"]["equal"] for row in equal)


def test_a_step_that_fails_or_hangs_does_not_take_the_others(tmp_path: Path) -> None:
    import bench_gpu
    from gpu_given import Found, Given
    from gpu_inputs import sizes
    from gpu_process import Child

    pids: list[int] = []

    def fails(given: Any, deadline: float) -> Iterator[Found]:
        yield Found("before", "1 s")
        raise ValueError("this is\nwrong")

    def leaves(given: Any, deadline: float) -> Iterator[Found]:
        child = Child([sys.executable, "-c", "import sys; print('x', flush=True); sys.exit('no such device')"])
        yield from (Found("line", line) for line in child.lines(deadline))

    def hangs(given: Any, deadline: float) -> Iterator[Found]:
        code = "import subprocess, time; print(subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"
        child = Child([sys.executable, "-c", code])
        pids.append(child.pid)
        for line in child.lines(deadline):
            pids.append(int(line))
            yield Found("line", line)

    def last(given: Any, deadline: float) -> Iterator[Found]:
        # All rows so far are on the disk already.
        yield Found("rows", str(len(json.loads((tmp_path / "report.json").read_text())["rows"])))

    steps = [bench_gpu.Step(function.__name__, 1, 1, function) for function in (fails, leaves, hangs, last)]
    given = Given("cpu", small=True, size=sizes(small=True), began=True)
    report = bench_gpu.Report(tmp_path / "report.json", {})
    start = time.monotonic()
    bench_gpu.measure(given, report, steps, 12)
    assert 8 < time.monotonic() - start < 12
    told = {(row.step, row.what): row for row in report.rows}
    assert told["fails", "failed"].figure == "ValueError: this is wrong"
    assert "no such device" in told["leaves", "failed"].figure
    assert "its time was up" in told["hangs", "failed"].figure
    assert told["last", "rows"].figure == str(len(report.rows) - 1) == "6"
    assert len(pids) == 2
    # The system takes a moment to end what was killed.
    ends = time.monotonic() + 10
    while any(lives(pid) for pid in pids) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not [pid for pid in pids if lives(pid)]


def test_shares_add_up_and_what_is_left_goes_to_later_steps() -> None:
    import bench_gpu

    for shares in ([step.share for step in bench_gpu.STEPS], [step.small for step in bench_gpu.STEPS]):
        ends = bench_gpu.deadlines(shares, 100.0, 60.0)
        assert ends[-1] == pytest.approx(160.0)
        given = [end - begin for begin, end in zip([100.0, *ends], ends, strict=False)]
        assert given == pytest.approx([60 * share / sum(shares) for share in shares])
    # Seven minutes hold the unpacking of what such a machine lacks, too, and the table.
    assert sum(step.share for step in bench_gpu.STEPS) <= 60 * bench_gpu.MINUTES * (1 - bench_gpu.RESERVE)


def test_outcomes_of_tests_are_read_while_they_run() -> None:
    from gpu_tests import outcomes

    told = """tests/a.py::test_one[a] PASSED                    [ 10%]
tests/a.py::test_two[x - y]
[gw1] [ 20%] FAILED tests/a.py::test_two[x - y]
tests/b.py::test_three
[gw0] [ 30%] SKIPPED tests/b.py::test_four
SKIPPED [1] tests/b.py:7: no CUDA device
FAILED tests/a.py::test_two[x - y] - ValueError: [a] - b
FAILED tests/a.py::test_five - AssertionError: assert 1 == 2
========= 1 failed in 2 s =========
"""
    found = {name: (outcome, reason) for name, outcome, reason in outcomes(told.splitlines())}
    assert found["tests/a.py::test_one[a]"] == ("PASSED", "")
    assert found["tests/b.py::test_three"] == ("UNFINISHED", "")
    assert found["tests/b.py::test_four"] == ("SKIPPED", "")
    assert found["tests/a.py::test_five"] == ("FAILED", "AssertionError: assert 1 == 2")
    assert found["tests/a.py::test_two[x - y]"] == ("FAILED", "ValueError: [a] - b")
    assert len(found) == 5


def test_use_and_memory_of_a_gpu_are_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gpu_process import Child, Watch, gpu_words

    smi = tmp_path / "nvidia-smi"
    smi.write_text(f'#!/bin/sh\necho "$(($(wc -l < {tmp_path}/asked) * 10)), 2048"\necho >> {tmp_path}/asked\n')
    smi.chmod(0o755)
    (tmp_path / "asked").touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    child = Child([sys.executable, "-c", "import time; x = bytearray(10**8); time.sleep(1.5)"])
    watch = Watch(child.pid, gpu=True)
    assert not list(child.lines(time.monotonic() + 60))
    facts = watch.facts()
    asked = len((tmp_path / "asked").read_text().splitlines())
    assert facts["gpu_peak_bytes"] == facts["gpu_bytes_before"] == 2 << 30
    assert facts["gpu_most_percent"] == 10 * (asked - 1) >= facts["gpu_mean_percent"] == pytest.approx(5 * (asked - 1), abs=0.1)
    assert 1e8 < facts["host_peak_bytes"] < 2e8
    assert "2.1 GB" in gpu_words(facts)
    assert Watch(os.getpid(), gpu=False).facts()["gpu"] == "no GPU"


def test_stacks_are_added_up_by_function_and_kind_of_thread() -> None:
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np
    from gpu_stacks import Stacks, kind_of

    from geoseg.procedural import Frontier
    from geoseg.windows import Window

    assert kind_of("ThreadPoolExecutor-0_13") == kind_of("ThreadPoolExecutor-7_0")
    assert kind_of("geoseg-chunk_3") == "geoseg-chunk"
    with Stacks(0.002) as stacks, ThreadPoolExecutor(2, thread_name_prefix="busy") as pool:
        images = list(pool.map(lambda row: Frontier(collar=False).window(Window.at((row, 0), (256, 512)))[0], (0, 256)))
    assert np.shape(images) == (2, 3, 256, 512)
    top = stacks.top()
    # Threads that other tests have left may do something, too; who waits does not.
    assert "busy" in top
    assert "MainThread" not in top
    assert all(name.startswith("geoseg/procedural.py:") for name, _ in top["busy"])
    assert 0 < sum(share for _, share in top["busy"]) <= 2
