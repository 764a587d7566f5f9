"""Break runs in every way that is known, and count what came of it; ``make faults`` prints the table of docs/reliability.md.

    python tests/faults.py [--only NAME ...] [--scale 0.1]

After each fault the same command is run again, without it. Three outcomes: ``same``, the final files have the bytes of a
run that was never disturbed; ``refused``, the faulty run ended with a clear sentence and published nothing, and the run
after it had those bytes; ``WRONG``, anything else.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from faulty_server import faulty_server
from support import ROOT, contents

OPTIONS = ("--tile", "256", "--halo", "32", "--chunk", "256", "--min-area", "0.3ha")
PIXELS = ("classes.tif", "confidence.tif", "polygons.gpkg", "polygons.geojson", "coverage.geojson")
TIMEOUT = 600


@dataclass
class Tally:
    """Outcomes of one kind of fault."""

    fault: str
    outcomes: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, outcome: str, note: str = "") -> None:
        self.outcomes[outcome] += 1
        if note:
            self.notes[note] += 1
        if outcome == "WRONG":
            self.wrong.append(note)

    def row(self) -> str:
        tried = sum(self.outcomes.values())
        if not tried:
            return f"| {self.fault} | - | | | | {'; '.join(self.notes)} |"
        notes = ", ".join(f"{note}: {count}" if count > 1 else note for note, count in self.notes.most_common())
        return (
            f"| {self.fault} | {tried} | {self.outcomes['same']} | {self.outcomes['refused']} | {self.outcomes['WRONG']} | "
            f"{notes} |"
        )


class Bench:
    """A scene, its undisturbed result, and a fresh output folder for each fault."""

    def __init__(self, folder: Path, scale: float) -> None:
        from geoseg.procedural import Frontier

        self.folder, self.scale, self.random = folder, scale, random.Random(7)
        self.scene = folder / "in" / "frontier.tif"
        self.scene.parent.mkdir()
        Frontier(1300, 1500).write(self.scene)
        started = time.monotonic()
        done = self.run(folder / "clean")
        self.seconds = time.monotonic() - started
        assert done.returncode == 0, done.stderr
        self.clean = contents(folder / "clean" / "frontier")
        self.number = 0

    def command(self, out: Path, *more: str, scene: str | None = None) -> list[str]:
        given = [scene or str(self.scene), "-m", "amazon-forest", "-o", str(out), *OPTIONS, *more]
        return [sys.executable, "-m", "pipeline", "segment", *given]

    def run(self, out: Path, *more: str, scene: str | None = None, **options: object) -> subprocess.CompletedProcess[str]:
        given = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": TIMEOUT, **options}
        return subprocess.run(self.command(out, *more, scene=scene), check=False, **given)  # type: ignore[call-overload, no-any-return]

    def start(self, out: Path, *more: str, **options: object) -> subprocess.Popen[str]:
        given = {"cwd": ROOT, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, **options}
        return subprocess.Popen(self.command(out, *more), **given)  # type: ignore[call-overload, no-any-return]

    def fresh(self) -> Path:
        self.number += 1
        return self.folder / f"out{self.number}"

    def times(self, count: int) -> range:
        return range(max(1, round(count * self.scale)))

    def is_same(self, out: Path) -> bool:
        try:
            return contents(out / "frontier") == self.clean
        except OSError:
            return False

    def settle(self, tally: Tally, out: Path, code: int | None, said: str, note: str = "") -> None:
        """Judge a run that has ended, run it again without the fault where it failed, and judge that."""
        if code == 0:
            tally.add("same" if self.is_same(out) else "WRONG", note or ("" if self.is_same(out) else said[-300:]))
        else:
            clear = "Traceback" not in said and bool(said.strip()) and not (out / "frontier" / "run.json").exists()
            again = self.run(out)
            if again.returncode == 0 and self.is_same(out) and clear:
                tally.add("refused", note)
            else:
                tally.add("WRONG", f"{note}: {said[-300:]} | {again.stderr[-300:]}")
        shutil.rmtree(out, ignore_errors=True)


def stage_of(out: Path) -> str:
    """How far a run has come, from its manifest."""
    if (out / "frontier" / "run.json").exists():
        return "done"
    try:
        text = (out / "frontier" / ".run" / "manifest.jsonl").read_text()
    except OSError:
        return "plan"
    stages = len(re.findall(r'"stage":', text))
    chunks = len(set(re.findall(r'"chunk":(\d+),', text)))
    return "publish" if stages >= 2 else "infer" if chunks < 56 else "stitch and vectorize"


def kills(bench: Bench) -> Iterator[Tally]:
    """kill -9, a third of them in each part of a run: by time, by chunks, and after the last chunk."""
    tally = Tally("`kill -9` of the process")
    for number in bench.times(100):
        out = bench.fresh()
        process = bench.start(out)
        if number % 3 == 0:
            time.sleep(bench.random.uniform(0.1, 1.0) * bench.seconds)
        else:
            after = "infer" if number % 3 == 1 else "stitch and vectorize"
            while process.poll() is None and stage_of(out) == "plan":
                time.sleep(0.005)
            if after == "stitch and vectorize":
                while process.poll() is None and stage_of(out) == "infer":
                    time.sleep(0.005)
            time.sleep(bench.random.uniform(0, 0.6 if after != "infer" else 0.5 * bench.seconds))
        process.kill()
        process.communicate()
        stage = stage_of(out)
        again = bench.run(out)
        good = again.returncode == 0 and bench.is_same(out) and not (out / "frontier" / ".run").exists()
        tally.add("same" if good else "WRONG", f"in {stage}" if good else again.stderr[-300:])
        shutil.rmtree(out, ignore_errors=True)
    yield tally


def full_disk(bench: Bench) -> Iterator[Tally]:
    """A file system of its own that is too small; then it grows."""
    tally = Tally("disk full")
    place = bench.folder / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)]
    if os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        try:
            used = bench.run(place / "probe")
            need = sum(p.stat().st_size for p in (place / "probe").rglob("*") if p.is_file()) // 1024
            assert used.returncode == 0
            shutil.rmtree(place / "probe")
            for number in bench.times(20):
                resize(place, f"{round(need * (0.05 + 0.2 * number))}k")
                out = place / f"out{number}"
                done = bench.run(out)
                resize(place, "64m")
                bench.settle(tally, out, done.returncode, done.stderr, f"{'enough' if done.returncode == 0 else 'too little'}")
        finally:
            subprocess.run(["umount", str(place)], check=False)
    else:
        for number in bench.times(20):
            out, limit = bench.fresh(), 2000 + 4000 * number
            done = bench.run(out, preexec_fn=lambda limit=limit: limit_files(limit))
            bench.settle(tally, out, done.returncode, done.stderr, "limit on the size of files")
    yield tally


def resize(place: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)


def limit_files(limit: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def worker_kills(bench: Bench) -> Iterator[Tally]:
    """Dask workers of a run, killed one after the other; three a run."""
    tally = Tally("`kill -9` of Dask workers")
    for _ in bench.times(10):
        out = bench.fresh()
        process = bench.start(out, "--workers", "2", "--tta", "none")
        killed = 0
        while process.poll() is None and killed < 3:
            time.sleep(bench.random.uniform(0.2, 1.0))
            if stage_of(out) != "infer":
                continue
            with contextlib.suppress(psutil.Error):
                children = psutil.Process(process.pid).children(recursive=True)
                workers = [p for p in children if "spawn_main" in " ".join(p.cmdline())]
                if workers:
                    bench.random.choice(workers).kill()
                    killed += 1
        _, said = process.communicate(timeout=TIMEOUT)
        good = process.returncode == 0 and bench.is_same(out)
        for _ in range(max(1, killed)):
            tally.add("same" if good else "WRONG", "" if good else said[-300:])
        shutil.rmtree(out, ignore_errors=True)
    yield tally


def servers(bench: Bench) -> Iterator[Tally]:
    """A server with faults in front of the scene."""
    modes = {
        "503every=3": "answers 503",
        "short=4": "short bodies",
        "reset=5": "resets",
        "slow=0.05": "slow",
        "norange": "no ranges",
        "changing": "object changed midway",
        "503always": "always 503",
        "auth": "access denied",
    }
    for mode, name in modes.items():
        tally = Tally(f"HTTP source: {name}")
        for _ in bench.times(3):
            out = bench.fresh()
            with faulty_server(bench.scene.parent, mode) as address:
                done = bench.run(out, scene=f"{address}/frontier.tif")
            folder = out / "frontier"
            if done.returncode == 0:
                same = all((folder / name).read_bytes() == bench.clean[name] for name in PIXELS)
                tally.add("same" if same else "WRONG", "" if same else done.stderr[-300:])
            else:
                clear = "Traceback" not in done.stderr and not (folder / "classes.tif").exists()
                tally.add("refused" if clear else "WRONG", "" if clear else done.stderr[-300:])
            shutil.rmtree(out, ignore_errors=True)
        yield tally


def bit_flips(bench: Bench) -> Iterator[Tally]:
    """A bit of what an interrupted run has left."""
    for what in ("chunks/*.tif", "chunks/*.npy", "manifest.jsonl", "final/*", "polygons/*"):
        tally = Tally(f"bit flipped in `.run/{what}`")
        for _ in bench.times(5):
            out = bench.fresh()
            process = bench.start(out)
            work, needs_all = out / "frontier" / ".run", what.startswith(("final", "polygons"))
            while process.poll() is None:
                chunks = len(list((work / "chunks").glob("*.tif"))) if (work / "chunks").is_dir() else 0
                if (chunks > 8 and not needs_all) or (needs_all and stage_of(out) == "publish"):
                    break
                time.sleep(0.002)
            process.kill()
            process.communicate()
            files = [path for path in work.glob(what) if path.is_file() and path.stat().st_size]
            if files:
                path = bench.random.choice(files)
                data = bytearray(path.read_bytes())
                data[bench.random.randrange(len(data))] ^= 1 << bench.random.randrange(8)
                path.write_bytes(data)
            done = bench.run(out)
            bench.settle(tally, out, done.returncode, done.stderr, "" if files else "killed too late: nothing left to flip")
        yield tally


def two_runs(bench: Bench) -> Iterator[Tally]:
    """Both on one output."""
    tally = Tally("two runs on one output")
    for _ in bench.times(10):
        out = bench.fresh()
        both = [bench.start(out), bench.start(out)]
        ends = [(process.communicate(timeout=TIMEOUT)[1], process.returncode) for process in both]
        codes = sorted(code for _, code in ends)
        said = " ".join(text for text, _ in ends)
        good = codes == [0, 2] and "another run is active" in said and bench.is_same(out)
        tally.add("same" if good else "WRONG", "one is refused" if good else f"{codes} {said[-300:]}")
        shutil.rmtree(out, ignore_errors=True)
    yield tally


def clocks(bench: Bench) -> Iterator[Tally]:
    """Killed, and run again with another clock, time zone, or language."""
    tally = Tally("clock, time zone and language change between runs")
    settings = [{"TZ": "Pacific/Auckland"}, {"TZ": "America/Anchorage", "LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0"}]
    fake = shutil.which("faketime")
    for number in bench.times(12):
        out = bench.fresh()
        process = bench.start(out)
        time.sleep(bench.random.uniform(0.4, 0.9) * bench.seconds)
        process.kill()
        process.communicate()
        env, command = {**os.environ, **settings[number % len(settings)]}, bench.command(out)
        if fake is not None:
            command = [fake, "-f", ("-3d", "+400d", "-1d x20")[number % 3], *command]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        bench.settle(tally, out, done.returncode, done.stderr)
    if fake is None:
        tally.notes["faketime is not installed, so the clock stayed"] += 1
    yield tally


def memory_limits(bench: Bench) -> Iterator[Tally]:
    """A control group with little memory."""
    tally = Tally("memory limit by control group")
    group = cgroup()
    if group is None:
        tally.notes["no control group can be made here"] += 1
        yield tally
        return
    folder, limit_file = group
    try:
        for megabytes in (2000, 1000, 700, 500, 350, 250, 150):
            out = bench.fresh()
            (folder / limit_file).write_text(str(megabytes << 20))
            joined = lambda: (folder / "cgroup.procs").write_text(str(os.getpid()))  # noqa: E731
            done = bench.run(out, preexec_fn=joined)
            if done.returncode == -signal.SIGKILL:
                again = bench.run(out)
                good = again.returncode == 0 and bench.is_same(out)
                tally.add("same" if good else "WRONG", f"{megabytes} MB: killed by the system, goes on with more")
                shutil.rmtree(out, ignore_errors=True)
            else:
                bench.settle(
                    tally,
                    out,
                    done.returncode,
                    done.stderr,
                    f"{megabytes} MB" if done.returncode == 0 else f"{megabytes} MB: refused",
                )
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()
    yield tally


def publishes(bench: Bench) -> Iterator[Tally]:
    """Commands killed at each rename, removal and new folder of their publish, the first and the replacing one."""
    for case in ("segment", "deforestation", "damage", "deliver"):
        tally = Tally(f"killed at each change of the publish of `{case}`")
        command = [sys.executable, str(ROOT / "tests" / "publish_kills.py"), str(bench.folder / f"publish-{case}"), case]
        env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=7200, check=False)
        for found in map(json.loads, done.stdout.splitlines()):
            tally.outcomes["same"] += found["killed"] - len(found["wrong"])
            tally.notes[f"{found['publish']}: {found['old']} ended in the old, {found['new']} in the new"] += 1
            for note in found["wrong"]:
                tally.add("WRONG", note)
        if done.returncode:
            tally.add("WRONG", done.stderr[-300:])
        yield tally


def cgroup() -> tuple[Path, str] | None:
    """A control group of our own and the name of its limit."""
    for base, limit in ((Path("/sys/fs/cgroup"), "memory.max"), (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes")):
        folder = base / f"geoseg-faults-{os.getpid()}"
        with contextlib.suppress(OSError):
            folder.mkdir()
            if (folder / limit).exists():
                return folder, limit
            folder.rmdir()
    return None


FAULTS: dict[str, Callable[[Bench], Iterator[Tally]]] = {
    "kills": kills,
    "disk": full_disk,
    "workers": worker_kills,
    "http": servers,
    "flips": bit_flips,
    "two": two_runs,
    "clocks": clocks,
    "memory": memory_limits,
    "publish": publishes,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Break runs, and count what came of it.")
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS), metavar="NAME", help=", ".join(FAULTS))
    parser.add_argument("--scale", type=float, default=1.0, help="share of the faults that are tried [default: 1]")
    options = parser.parse_args()
    os.environ["TZ"] = os.environ.get("TZ", "UTC")
    with tempfile.TemporaryDirectory(prefix="geoseg-faults-") as folder:
        bench = Bench(Path(folder), options.scale)
        tallies = []
        print(
            "| fault | tried | same bytes | clear error, nothing published | lost or wrong | |\n|---|---|---|---|---|---|",
            flush=True,
        )
        for name in options.only:
            for tally in FAULTS[name](bench):
                tallies.append(tally)
                print(tally.row(), flush=True)
    wrong = [note for tally in tallies for note in tally.wrong]
    print(json.dumps({"wrong": wrong}, indent=1) if wrong else "\nnothing lost, nothing wrong", file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
