"""Processes with a limit of time, which can't take the rest with them, and what watches them while they run."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from common import ROOT, environment, tree_pss

ROWS = """
import importlib, json, os, sys
module, _, function = sys.argv[1].partition(":")
for row in getattr(importlib.import_module(module), function)(**json.loads(sys.argv[2])):
    print("ROW " + json.dumps(row), flush=True)
os._exit(0)
"""
"""Runs a function; leaves without the seconds that libraries take to say goodbye."""
MARK = "ROW "
SAMPLE_S = 0.2
ERROR_CHARS = 160


class TimeUpError(Exception):
    """A process was ended because its time was up."""


class FailedError(Exception):
    """A process left with an error; the message is its last line."""


class Child:
    """A process in a group of its own, read line by line until it ends or its time is up."""

    def __init__(self, command: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> None:
        self.started = time.monotonic()
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - open as long as the process
        self._process = subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            env={**environment(), **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @classmethod
    def of(cls, function: str, env: Mapping[str, str] | None = None, /, **arguments: Any) -> Child:
        """Run ``module:function`` of this folder, which yields rows; see ``rows``."""
        return cls([sys.executable, "-c", ROWS, function, json.dumps(arguments, default=str)], env=env)

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def go(self) -> None:
        """Send it the line that it waits for."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write("go\n")
            self._process.stdin.flush()

    def lines(self, deadline: float) -> Iterator[str]:
        """What it prints, until it has ended.

        Raises:
            TimeUpError: The deadline, a time of ``time.monotonic``, came first; the process is gone.
            FailedError: It left with an error.
        """
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                seconds = time.monotonic() - self.started
                self.end()
                raise TimeUpError(f"ended after {seconds:.0f} s, its time was up") from None
            if line is None:
                break
            yield line
        code = self._process.wait()
        if code:
            raise FailedError(f"left with {code}: {self.error}")
        self.end()

    def rows(self, deadline: float) -> Iterator[dict[str, Any]]:
        """The rows that it tells."""
        for line in self.lines(deadline):
            if line.startswith(MARK):
                row: dict[str, Any] = json.loads(line.removeprefix(MARK))
                yield row

    def waiting(self) -> list[str]:
        """The lines that wait to be read; waits for none, but for those of a process that has ended."""
        lines: list[str] = []
        if self._process.poll() is not None:
            self._reader.join(1)
        with contextlib.suppress(queue.Empty):
            while True:
                line = self._lines.get_nowait()
                if line is not None:
                    lines.append(line)
        return lines

    def told(self) -> list[dict[str, Any]]:
        """The rows that wait to be read."""
        return [json.loads(line.removeprefix(MARK)) for line in self.waiting() if line.startswith(MARK)]

    @property
    def failed(self) -> bool:
        """Whether it has left with an error."""
        return bool(self._process.poll())

    @property
    def error(self) -> str:
        """The last line of its errors."""
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read()[-20_000:].splitlines() if line.strip()]
        return lines[-1][:ERROR_CHARS] if lines else "it said nothing"

    def end(self) -> None:
        """Kill what is left of it and of what it has started."""
        try:
            tree = psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            tree = []
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()


Reading = Callable[[], tuple[float, float]]
"""Gives the use of the first GPU in percent, and its memory in bytes."""


def gpu_reading() -> Reading | None:
    """How the GPU is asked: NVML where Python has it, else ``nvidia-smi``; None where neither is there."""
    with contextlib.suppress(Exception):  # it raises errors of its own where there is no driver
        import pynvml

        pynvml.nvmlInit()
        device = pynvml.nvmlDeviceGetHandleByIndex(0)
        return lambda: (
            float(pynvml.nvmlDeviceGetUtilizationRates(device).gpu),
            float(pynvml.nvmlDeviceGetMemoryInfo(device).used),
        )
    return _told_by_smi if shutil.which("nvidia-smi") else None


def _told_by_smi() -> tuple[float, float]:
    query = ["nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits", "-i", "0"]
    done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=10)
    use, megabytes = done.stdout.split(",")
    return float(use), float(megabytes) * 2**20


class Watch:
    """Peak memory of a process tree, and use and peak memory of the first GPU where it tells them."""

    def __init__(self, pid: int, *, gpu: bool) -> None:
        self._pid, self._peak, self._stop = pid, 0, threading.Event()
        self._told: list[tuple[float, float]] = []
        self._ask = gpu_reading() if gpu else None
        self._why = "no GPU" if not gpu else "neither NVML nor nvidia-smi" if self._ask is None else "it does not tell"
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while True:
            if self._ask is not None:
                with contextlib.suppress(Exception):  # what watches is not to end what it watches
                    self._told.append(self._ask())
            with contextlib.suppress(psutil.Error):
                self._peak = max(self._peak, tree_pss(self._pid))
            if self._stop.wait(SAMPLE_S):
                return

    def facts(self) -> dict[str, Any]:
        """What was seen; ends the watch."""
        self._stop.set()
        self._thread.join()
        facts: dict[str, Any] = {"host_peak_bytes": self._peak}
        if not self._told:
            return {**facts, "gpu": self._why}
        use, memory = zip(*self._told, strict=True)
        facts |= {"gpu_mean_percent": round(statistics.mean(use), 1), "gpu_most_percent": max(use)}
        # What others hold is there before it starts.
        return {**facts, "gpu_peak_bytes": max(memory), "gpu_bytes_before": memory[0]}


def gpu_words(facts: Mapping[str, Any]) -> str:
    """The use of the GPU and the peaks of memory in a few words."""
    if "gpu" in facts:
        device = f"use of the GPU: {facts['gpu']}"
    else:
        device = f"GPU {facts['gpu_mean_percent']:.0f} % busy, {facts['gpu_peak_bytes'] / 1e9:.1f} GB"
    return f"{device}; host {facts['host_peak_bytes'] / 1e9:.1f} GB"
