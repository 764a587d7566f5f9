"""What the benchmarks share: processes of their own, clocks, memory, and the rows of the table.

Every figure is a ratio of two things that are measured in turn (A B A B ...) in one run, each in a fresh process, with
the files that they read in the system's cache. A thing to measure is a function of a benchmark module that returns a
JSON object; ``Child`` runs it.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
DATA, OUT = RESULTS / "data", RESULTS / "out"
CALL = """
import importlib, json, sys
module, _, function = sys.argv[1].partition(":")
print(json.dumps(getattr(importlib.import_module(module), function)(**json.loads(sys.argv[2]))))
"""
SAMPLE_S = 0.05


@dataclass(frozen=True, slots=True)
class Settings:
    """What ``run.py`` was told."""

    repeat: int = 3
    """Measurements of each side."""
    chunks: int = 100_000
    """Chunks of the simulation."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table."""

    name: str
    """The benchmark."""
    what: str
    """What was compared."""
    bar: str
    """What is to be reached."""
    measured: str
    """What was reached."""
    ok: bool
    """Whether that is enough."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """All that was measured."""

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Done:
    """A process that has ended well."""

    seconds: float
    """From its start to its end."""
    peak_bytes: int
    """Largest sum of the proportional set sizes (PSS) of its process tree; 0 where that was not sampled."""
    result: Any
    """What its function returned; None for commands."""


def environment() -> dict[str, str]:
    """That of processes to measure: this folder and the repository come before what was on Python's path."""
    paths = [str(ROOT), str(ROOT / "benchmarks"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONWARNINGS": "ignore"}
    # Modules are compiled once and kept, as on any other machine.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    return env


def run(command: Sequence[str | Path], *, memory: bool = False, json_output: bool = False) -> Done:
    """Run a command, timed from outside.

    Raises:
        RuntimeError: It failed.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    sampler = _Sampler(process.pid) if memory else None
    out, err = process.communicate()
    seconds = time.perf_counter() - start
    peak = sampler.stop() if sampler else 0
    if process.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\nleft with {process.returncode}:\n{err[-4000:]}")
    return Done(seconds, peak, json.loads(out.splitlines()[-1]) if json_output else None)


def call(function: str, *, memory: bool = False, **arguments: Any) -> Done:
    """Run ``module:function`` of this folder in a process of its own; it returns a JSON object."""
    command = [sys.executable, "-c", CALL, function, json.dumps(arguments, default=str)]
    return run(command, memory=memory, json_output=True)


def geoseg(*args: str | Path, memory: bool = False) -> Done:
    """Run the ``geoseg`` command."""
    return run([sys.executable, "-m", "pipeline", *args], memory=memory)


class _Sampler:
    """Watches the memory of a process tree."""

    def __init__(self, pid: int) -> None:
        self._pid, self._peak = pid, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            self._peak = max(self._peak, tree_pss(self._pid))

    def stop(self) -> int:
        self._stop.set()
        self._thread.join()
        return self._peak


def tree_pss(pid: int) -> int:
    """Sum of the proportional set sizes (PSS) of a process and of its descendants, in bytes."""
    try:
        root = psutil.Process(pid)
        tree = [pid, *(child.pid for child in root.children(recursive=True))]
    except psutil.NoSuchProcess:
        return 0
    return sum(_pss(member) for member in tree)


def _pss(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    return 0


def in_turn(sides: Mapping[str, Callable[[], Done]], repeat: int, *, warm_up: bool = False) -> dict[str, list[Done]]:
    """Measure the sides in turn, so that what disturbs the machine disturbs all of them."""
    done: dict[str, list[Done]] = {name: [] for name in sides}
    if warm_up:
        for measure in sides.values():
            measure()
    for _ in range(repeat):
        for name, measure in sides.items():
            done[name].append(measure())
            print(f"    {name}: {_shown(done[name][-1])}", file=sys.stderr, flush=True)
    return done


def _shown(done: Done) -> str:
    inner = {key: round(value, 3) for key, value in (done.result or {}).items() if isinstance(value, float)}
    peak = f", peak {done.peak_bytes / 1e6:.0f} MB" if done.peak_bytes else ""
    return f"{done.seconds:.2f} s{peak} {inner or ''}"


def median(values: Sequence[float]) -> float:
    """The median."""
    return float(statistics.median(values))


def seconds_of(done: Sequence[Done], key: str | None = None) -> float:
    """Median seconds: of whole processes, or of what they measured themselves under a key."""
    return median([d.seconds if key is None else float(d.result[key]) for d in done])


def peak_of(done: Sequence[Done]) -> float:
    """Median of the peaks of memory, in bytes."""
    return median([float(d.peak_bytes) for d in done])


def fresh(name: str) -> Path:
    """An empty output folder."""
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def warm(*paths: Path) -> None:
    """Read files, so that the system has them in its cache."""
    for path in paths:
        files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
        for file in files:
            with file.open("rb") as stream:
                while stream.read(1 << 24):
                    pass


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    from importlib.metadata import version

    names = ("numpy", "onnxruntime", "torch", "rasterio", "pyogrio", "shapely", "pyarrow", "geopandas")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "python": sys.version.split()[0],
        "versions": {name: version(name) for name in names},
    }
