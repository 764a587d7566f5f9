"""Scheduled runs on a real Prefect server with a process worker, which are killed: nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
from services import answers, free_port, postgres, wait
from support import LIMIT_S, ROOT, contents, run_cli

from geoseg.procedural import Frontier

pytest.importorskip("prefect")
POOL = "pool"
DEPLOY = """
import sys
from flows.deployments import deployments
scan, _ = deployments([sys.argv[1]], "amazon-forest", sys.argv[2], {"watch": {"settle": "1s"}, \
"grid": {"tile": 256, "chunk": 256}},
                      work_pool="pool", interval=30)
scan.apply()
"""


class Site:
    """A server and a worker, as processes of their own on loopback."""

    def __init__(self, folder: Path, database: str | None) -> None:
        self.port = free_port()
        self.env = os.environ | {
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": f"http://127.0.0.1:{self.port}/api",
            "DO_NOT_TRACK": "1",
            "PYTHONPATH": str(ROOT),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        }
        if database is not None:
            self.env["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database
        # What its runs may touch; the environment of a worker says it.
        places = {"SOURCES": str(folder / "inbox"), "OUT": str(folder / "out"), "MODELS": "amazon-forest"}
        self.env |= {f"GEOSEG_ALLOWED_{name}": place for name, place in places.items()}
        self.log = (folder / "site.log").open("ab")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def prefect(self, *args: str) -> None:
        command = [sys.executable, "-m", "prefect", *args]
        subprocess.run(command, env=self.env, check=True, cwd=ROOT, stdout=self.log, stderr=self.log, timeout=LIMIT_S)

    def start(self, name: str) -> None:
        args = {
            "server": ["flows.server", "--port", str(self.port)],
            "worker": ["prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", f"w-{time.monotonic_ns()}"],
        }[name]
        command = [sys.executable, "-m", *args]
        self.processes[name] = subprocess.Popen(
            command, env=self.env, cwd=ROOT, stdout=self.log, stderr=self.log, start_new_session=True
        )
        if name == "server":
            wait(lambda: answers(f"http://127.0.0.1:{self.port}/api/health"))

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


# Scans come each half minute and start a process each: on a machine that is busy they take long.
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
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
            [sys.executable, "-c", DEPLOY, str(inbox), str(out)],
            env=site.env,
            cwd=ROOT,
            check=True,
            timeout=LIMIT_S,
            stdout=site.log,
            stderr=site.log,
        )
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
from prefect.client.orchestration import get_client
query = {"filter": {"event": {"name": ["prefect.flow-run.heartbeat"]}}}
with get_client(sync_client=True) as client:
    events = client.request("POST", "/events/filter", json=query).json()["events"]
print(*(event["resource"]["prefect.resource.id"] for event in events))
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
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


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_serve_maps_a_dropped_file_on_its_port_and_ends_with_its_server(tmp_path: Path) -> None:
    port, inbox = free_port(), tmp_path / "inbox"
    inbox.mkdir()
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "GEOSEG"))}
    settings = tmp_path / "watch.toml"
    settings.write_text('watch.settle = "0s"\n')
    options = ["--model", "amazon-forest", "--out", "maps", "--config", str(settings), "--port", str(port)]
    command = [sys.executable, "-m", "flows.serve", "inbox", *options]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=env | {"PYTHONPATH": str(ROOT)}, cwd=tmp_path, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        wait(lambda: answers(f"{address}/api/health"))
        with urllib.request.urlopen(f"{address}/ui-settings", timeout=60) as response:
            assert json.load(response)["api_url"] == f"{address}/api"
        foreign = urllib.request.Request(f"{address}/api/health", headers={"Origin": "https://evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(foreign, timeout=60)
        Frontier(300, 300).write(inbox / "a.tif")
        wait(lambda: process.poll() is not None or (tmp_path / "maps" / "a" / "run.json").exists())
        assert process.poll() is None, (tmp_path / "log").read_text()
    finally:
        process.terminate()
        process.wait(LIMIT_S)
    assert not answers(f"{address}/api/health")


STUBBORN = """
import asyncio, signal, subprocess, sys, time
from flows.serve import run_until_stopped
signal.signal(signal.SIGTERM, signal.default_int_handler)
server = subprocess.Popen(["sleep", "1000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
class Stubborn:
    async def start(self):
        run = subprocess.Popen(["sleep", "1000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        print(server.pid, run.pid, flush=True)
        while True:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                pass
run_until_stopped(Stubborn(), stop_s=0.5)
print("ended", flush=True)
"""


def test_a_schedule_that_does_not_end_is_ended_with_its_runs_and_not_with_its_server() -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    server, run = (psutil.Process(int(pid)) for pid in process.stdout.readline().split())
    try:
        process.terminate()
        out, err = process.communicate(timeout=LIMIT_S)
        assert out == "ended\n"
        assert "killed" in err
        assert process.returncode == 0
        # Nobody reaps it here.
        assert not run.is_running() or run.status() == psutil.STATUS_ZOMBIE
        assert server.is_running()
    finally:
        server.kill()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["inbox", "--model", "nope"], "nope: no such model"),
        (["missing", "--model", "amazon-forest"], "missing: no such file or folder"),
        (["inbox", "--model", "amazon-forest", "--port", "99999"], "--port: 99999"),
        (["inbox", "--model", "amazon-forest", "--config", "missing.toml"], "missing.toml"),
    ],
)
def test_serve_ends_before_it_starts_where_it_can_not_work(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from flows.serve import main

    (tmp_path / "inbox").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr(sys, "argv", ["serve", *arguments, "--out", "maps"])
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        with pytest.raises(SystemExit) as caught:
            main()
    finally:
        for number, handler in zip((signal.SIGTERM, signal.SIGINT), handlers, strict=True):
            signal.signal(number, handler)
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith(f"geoseg: {said}")
    assert message.count("\n") == 1
    assert not (tmp_path / ".prefect").exists()
