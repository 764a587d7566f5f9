"""Schedulers and workers of the ``dask`` command on loopback, each a process that can be stopped, killed and started anew."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
from services import free_port
from support import LIMIT_S, ROOT

DASK = [sys.executable, "-m", "dask"]


SLOW = """
import time
from pipeline.infer.dask_plugin import ChunkPlugin

def run(self, index):
    time.sleep(1.0)
    return self.real(index)

if not hasattr(ChunkPlugin, "real"):
    ChunkPlugin.real, ChunkPlugin.run = ChunkPlugin.run, run
"""
"""Loaded by workers, so that a run lasts long enough for something to happen to it."""

SLOW_PARTS = """
import os, time
from pipeline.infer import stage_parts

def do_part(part):
    with open(os.environ["GEOSEG_CACHE"] + ".parts", "a") as began:
        print(part.name, file=began)
    time.sleep(1.0)
    return stage_parts.real(part)

if not hasattr(stage_parts, "real"):
    stage_parts.real, stage_parts.do_part = stage_parts.do_part, do_part
"""
"""The same for parts of the stages behind the network; see ``DaskCluster.parts``."""


class DaskCluster:
    """One scheduler, which keeps its port, and workers by name."""

    def __init__(self, folder: Path, security: tuple[str, ...] = (), protocol: str = "tcp", *, preload: str = "") -> None:
        self.folder, self.security, self.preload = folder, security, preload
        self.port = free_port()
        self.address = f"{protocol}://127.0.0.1:{self.port}"
        self.file = folder / "scheduler.json"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start_scheduler(self, env: Mapping[str, str] = {}) -> None:
        self.file.unlink(missing_ok=True)
        address = [f"--port={self.port}", "--host", self.address.rsplit(":", 1)[0]]
        self._start(
            "scheduler", ["scheduler", *address, "--no-dashboard", "--scheduler-file", str(self.file), *self.security], env
        )
        deadline = time.monotonic() + LIMIT_S
        while not self._written():
            assert time.monotonic() < deadline, self.said("scheduler")
            time.sleep(0.1)

    def _written(self) -> bool:
        try:
            return bool(json.loads(self.file.read_text()))
        except (OSError, ValueError):
            return False

    def start_worker(self, name: str, *options: str, env: Mapping[str, str] = {}, cwd: Path = ROOT) -> None:
        """A worker; its model cache is ``folder / name``."""
        command = [
            "worker",
            self.address,
            "--name",
            name,
            "--nthreads",
            "2",
            "--no-dashboard",
            "--death-timeout",
            str(LIMIT_S),
            "--local-directory",
            str(self.folder / f"{name}-space"),
            *self.security,
            *options,
        ]
        if self.preload:
            (self.folder / "preload.py").write_text(self.preload)
            command += ["--preload", str(self.folder / "preload.py")]
        self._start(name, command, {"GEOSEG_CACHE": str(self.folder / name), **env}, cwd)

    def _start(self, name: str, command: list[str], env: Mapping[str, str], cwd: Path = ROOT) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*DASK, *command], cwd=cwd, env={**os.environ, **env}, stdout=log, stderr=log, start_new_session=True
            )

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def has_loaded(self, name: str) -> bool:
        """Whether a worker has put the model into its cache."""
        return any((self.folder / name / "models").glob("[0-9a-f]*/card.json"))

    def parts(self, name: str) -> list[str]:
        """The parts that a worker with ``SLOW_PARTS`` has begun."""
        file = self.folder / f"{name}.parts"
        return file.read_text().split() if file.is_file() else []

    def everyone(self, name: str) -> list[psutil.Process]:
        """A process and its children: a worker is a nanny and what it watches."""
        try:
            parent = psutil.Process(self.processes[name].pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def signal(self, name: str, number: int) -> None:
        for process in self.everyone(name):
            process.send_signal(number)

    def kill(self, name: str) -> None:
        self.signal(name, signal.SIGKILL)
        self.processes[name].wait(LIMIT_S)

    def close(self) -> None:
        for name in list(self.processes):
            self.signal(name, signal.SIGCONT)
            self.kill(name)


@contextmanager
def dask_cluster(folder: Path, *workers: str, env: Mapping[str, str] = {}, preload: str = SLOW) -> Iterator[DaskCluster]:
    """A cluster with some workers, by default a second a chunk and more, which ends with the block."""
    cluster = DaskCluster(folder, preload=preload)
    try:
        cluster.start_scheduler(env)
        for name in workers:
            cluster.start_worker(name)
        yield cluster
    finally:
        cluster.close()
