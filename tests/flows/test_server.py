"""Scheduled runs on a real Prefect server with a process worker, which are killed: nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
from services import free_port, postgres, wait
from support import LIMIT_S, ROOT, contents, run_cli

from geoseg.procedural import Frontier

pytest.importorskip("prefect")
POOL = "pool"
DEPLOY = """
import sys
from flows.deployments import deployments
scan, _ = deployments([sys.argv[1]], "amazon-forest", sys.argv[2], {"watch": {"settle": "1s"}, "grid": {"tile": 256, "chunk": 256}},
                      work_pool="pool", interval=15)
scan.apply()
"""


class Site:
    """A server and a worker, as processes of their own on loopback."""

    def __init__(self, folder: Path, database: str | None) -> None:
        self.port = free_port()
        self.env = os.environ | {
            "PREFECT_HOME": str(folder / "prefect"), "PREFECT_API_URL": f"http://127.0.0.1:{self.port}/api", "DO_NOT_TRACK": "1",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        }  # fmt: skip
        if database is not None:
            self.env["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database
        self.log = (folder / "site.log").open("ab")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def prefect(self, *args: str) -> None:
        command = [sys.executable, "-m", "prefect", *args]
        subprocess.run(command, env=self.env, check=True, cwd=ROOT, stdout=self.log, stderr=self.log, timeout=LIMIT_S)

    def start(self, name: str) -> None:
        args = {
            "server": ["server", "start", "--host", "127.0.0.1", "--port", str(self.port)],
            "worker": ["worker", "start", "--pool", POOL, "--type", "process", "--name", f"worker-{time.monotonic_ns()}"],
        }[name]
        command = [sys.executable, "-m", "prefect", *args]
        self.processes[name] = subprocess.Popen(
            command, env=self.env, cwd=ROOT, stdout=self.log, stderr=self.log, start_new_session=True
        )
        if name == "server":
            wait(self._answers)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/health", timeout=2) as response:
                return response.status == 200
        except OSError:
            return False

    def kill(self, name: str) -> None:
        """SIGKILL to the process and all that it has started."""
        process = self.processes.pop(name)
        # A flow is in a session of its own: killing the worker's group would spare it.
        started = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGKILL)
        for child in started:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        process.wait(LIMIT_S)

    def close(self) -> None:
        for name in list(self.processes):
            self.kill(name)
        self.log.close()


@pytest.mark.parametrize("database", [pytest.param("sqlite"), pytest.param("postgresql", marks=pytest.mark.slow)])
def test_scheduled_run_maps_a_dropped_file_whatever_is_killed(database: str, tmp_path: Path) -> None:
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    inbox.mkdir()
    with ExitStack() as stack:
        site = Site(
            tmp_path,
            f"postgresql+asyncpg://prefect@{stack.enter_context(postgres())}/prefect" if database == "postgresql" else None,
        )
        stack.callback(site.close)
        site.start("server")
        site.prefect("work-pool", "create", POOL, "--type", "process")
        subprocess.run(
            [sys.executable, "-c", DEPLOY, str(inbox), str(out)], env=site.env, cwd=ROOT, check=True, timeout=LIMIT_S,
            stdout=site.log, stderr=site.log,
        )  # fmt: skip
        site.start("worker")
        Frontier(1500, 1500).write(inbox / "a.tif")
        chunks = out / "a" / ".run" / "chunks"
        wait(lambda: chunks.is_dir() and len(list(chunks.glob("*.tif"))) >= 3)
        # The worker and the flow that it runs; then the server.
        site.kill("worker")
        assert not (out / "a" / "run.json").exists()
        site.kill("server")
        site.start("server")
        site.start("worker")
        wait((out / "a" / "run.json").exists)
    args = ["segment", inbox / "a.tif", "-m", "amazon-forest", "-o", tmp_path / "clean", "--tile", "256", "--chunk", "256"]
    assert run_cli(args).returncode == 0
    assert contents(out / "a") == contents(tmp_path / "clean" / "a")


ZOMBIES = "from flows.zombies import create; create(within_s=45)"
STATES = """
from prefect.client.orchestration import get_client
with get_client(sync_client=True) as client:
    print(*(run.state.type.value for run in client.read_flow_runs() if run.name != "scan" and run.start_time))
"""
HEARTBEATS = """
import httpx, os
query = {"filter": {"event": {"name": ["prefect.flow-run.heartbeat"]}}}
events = httpx.post(os.environ["PREFECT_API_URL"] + "/events/filter", json=query).json()["events"]
print(*(event["resource"]["prefect.resource.id"] for event in events))
"""


@pytest.mark.slow
def test_a_run_whose_process_has_gone_is_marked_crashed(tmp_path: Path) -> None:
    """Worker and flow are killed together, so that nobody is left to say it."""
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    inbox.mkdir()
    Frontier(3000, 3000).write(inbox / "a.tif")
    site = Site(tmp_path, None)
    site.env |= {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
    python = lambda *args: subprocess.run(  # noqa: E731
        [sys.executable, "-c", *map(str, args)],
        env=site.env,
        cwd=ROOT,
        check=True,
        timeout=LIMIT_S,
        capture_output=True,
        text=True,
    ).stdout.split()
    try:
        site.start("server")
        site.prefect("work-pool", "create", POOL, "--type", "process")
        python(ZOMBIES)
        python(DEPLOY, inbox, out)
        site.start("worker")
        wait(lambda: len(list((out / "a" / ".run" / "chunks").glob("*.tif"))) >= 3)
        # A run that has never sent a heartbeat can't miss one.
        wait(lambda: len(python(HEARTBEATS)) >= 2)
        site.kill("worker")
        assert "RUNNING" in python(STATES)
        wait(lambda: "CRASHED" in python(STATES))
    finally:
        site.close()
