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
from collections.abc import Iterator, Mapping, Sequence
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
SAMPLE_S = 0.25
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
        threading.Thread(target=self._read, daemon=True).start()

    @classmethod
    def of(cls, function: str, **arguments: Any) -> Child:
        """Run ``module:function`` of this folder, which yields rows; see ``rows``."""
        return cls([sys.executable, "-c", ROWS, function, json.dumps(arguments, default=str)])

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

    def told(self) -> list[dict[str, Any]]:
        """The rows that wait to be read; waits for none."""
        rows = []
        with contextlib.suppress(queue.Empty):
            while True:
                line = self._lines.get_nowait()
                if line is not None and line.startswith(MARK):
                    rows.append(json.loads(line.removeprefix(MARK)))
        return rows

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


class Watch:
    """Peak memory of a process tree, and use and peak memory of the first GPU where ``nvidia-smi`` tells them."""

    def __init__(self, pid: int, *, gpu: bool) -> None:
        self._pid, self._peak, self._stop = pid, 0, threading.Event()
        self._use: list[tuple[float, float]] = []
        self._why = "" if gpu else "no GPU"
        self._smi: subprocess.Popen[str] | None = None
        if gpu and shutil.which("nvidia-smi") is None:
            self._why = "no nvidia-smi"
        elif gpu:
            query = ["--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits", "-i", "0", "-lms", "200"]
            self._smi = subprocess.Popen(["nvidia-smi", *query], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            threading.Thread(target=self._read, args=(self._smi,), daemon=True).start()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _read(self, smi: subprocess.Popen[str]) -> None:
        assert smi.stdout is not None
        for line in smi.stdout:
            with contextlib.suppress(ValueError):
                use, megabytes = (float(part) for part in line.split(","))
                self._use.append((use, megabytes * 2**20))

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            with contextlib.suppress(psutil.Error):
                self._peak = max(self._peak, tree_pss(self._pid))

    def facts(self) -> dict[str, Any]:
        """What was seen; ends the watch."""
        self._stop.set()
        self._thread.join()
        if self._smi is not None:
            self._smi.kill()
            self._smi.wait()
        facts: dict[str, Any] = {"host_peak_bytes": self._peak}
        if self._use:
            use = [percent for percent, _ in self._use]
            memory = [size for _, size in self._use]
            # What others hold is there before it starts.
            facts |= {"gpu_mean_percent": round(statistics.mean(use), 1), "gpu_most_percent": max(use)}
            facts |= {"gpu_peak_bytes": max(memory), "gpu_bytes_before": memory[0]}
        else:
            facts["gpu"] = self._why or "nvidia-smi says nothing"
        return facts


def gpu_words(facts: Mapping[str, Any]) -> str:
    """The use of the GPU and the peaks of memory in a few words."""
    if "gpu" in facts:
        device = f"use of the GPU: {facts['gpu']}"
    else:
        device = f"GPU {facts['gpu_mean_percent']:.0f} % busy, {facts['gpu_peak_bytes'] / 1e9:.1f} GB"
    return f"{device}; host {facts['host_peak_bytes'] / 1e9:.1f} GB"
