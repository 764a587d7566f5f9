"""Services that tests start on loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from support import LIMIT_S, ROOT


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def wait(condition: Callable[[], bool], seconds: float = LIMIT_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server of its own on loopback, as a user that may run one; gives its address. Any password will do."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin")) if Path("/usr/lib/postgresql").is_dir() else []
    if not binaries:
        pytest.skip("PostgreSQL is not installed; make services installs it")
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    # Not below the folder of the tests: pytest closes it to other users whenever a session begins.
    with tempfile.TemporaryDirectory(prefix="geoseg-postgres-") as place:
        data = Path(place) / "pg"
        data.mkdir()
        for path in (Path(place), data) if as_user else ():
            shutil.chown(path, "postgres", "postgres")
        with _running(binaries[-1], data, as_user) as address:
            yield address


@contextmanager
def _running(binaries: Path, data: Path, as_user: list[str]) -> Iterator[str]:
    port = free_port()
    run = lambda *args: subprocess.run([*as_user, *map(str, args)], check=True, cwd="/", capture_output=True, timeout=LIMIT_S)  # noqa: E731
    run(binaries / "initdb", "-D", data, "-U", "prefect", "-A", "trust")
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={data}"
    run(binaries / "pg_ctl", "-D", data, "-o", options, "-w", "-l", data / "log", "start")
    try:
        run(binaries / "createdb", "-h", "127.0.0.1", "-p", port, "-U", "prefect", "prefect")
        yield f"127.0.0.1:{port}"
    finally:
        run(binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop")


@contextmanager
def postgis(folder: Path) -> Iterator[dict[str, str]]:
    """A server with PostGIS; gives the environment in which its database is the service ``maps``."""
    if not any(Path("/usr/share/postgresql").glob("*/extension/postgis.control")):
        pytest.skip("PostGIS is not installed; make services installs it")
    with postgres() as address:
        host, _, port = address.partition(":")
        where = ["-h", host, "-p", port, "-U", "prefect"]
        program = max(Path("/usr/lib/postgresql").glob("*/bin/psql"))
        subprocess.run(
            [program, *where, "-c", "CREATE EXTENSION postgis", "prefect"], check=True, capture_output=True, timeout=LIMIT_S
        )
        service = folder / "pg_service.conf"
        service.write_text(f"[maps]\nhost={host}\nport={port}\nuser=prefect\ndbname=prefect\n")
        yield {"PGSERVICEFILE": str(service)}


PASSWORD = "geoseg:a long password"


@contextmanager
def prefect_server(folder: Path, **environment: str) -> Iterator[dict[str, str]]:
    """Prefect's server behind its guard, on loopback, with a password; gives the environment of its clients."""
    port, home = free_port(), folder / "prefect"
    home.mkdir(parents=True)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "GEOSEG"))}
    env = inherited | {"PREFECT_HOME": str(home), "DO_NOT_TRACK": "1", "PYTHONPATH": str(ROOT)} | environment
    env["PREFECT_SERVER_API_AUTH_STRING"] = PASSWORD
    address = f"http://127.0.0.1:{port}/api"
    with (home / "server.log").open("wb") as log:
        command = [sys.executable, "-m", "flows.server", "--port", str(port)]
        process = subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        wait(lambda: process.poll() is not None or answers(f"{address}/health"))
        assert process.poll() is None, (home / "server.log").read_text()
        del env["PREFECT_SERVER_API_AUTH_STRING"]
        yield env | {"PREFECT_API_URL": address, "PREFECT_API_AUTH_STRING": PASSWORD}
    finally:
        process.terminate()
        try:
            process.wait(LIMIT_S)
        finally:
            process.kill()


@contextmanager
def served(*command: str | Path) -> Iterator[tuple[str, int, str, subprocess.Popen[str]]]:
    """Host, port and path of a page that a command serves in a process of its own, and the process."""
    whole = [sys.executable, "-m", "pipeline", *map(str, command), "--no-browser"]
    process = subprocess.Popen(whole, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    watch = threading.Timer(LIMIT_S, process.kill)
    watch.start()
    try:
        assert process.stdout is not None
        parts = urlsplit(process.stdout.readline().strip())
        assert parts.hostname == "127.0.0.1", process.communicate()[1]
        assert parts.port is not None
        yield parts.hostname, parts.port, parts.path, process
    finally:
        process.kill()
        process.communicate()
        watch.cancel()


@contextmanager
def browser_page(address: str, width: int, height: int) -> Iterator[Any]:
    """A page of Playwright that shows an address; no script may fail on it, nor ask for what its policy forbids."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    browser_path = next((p for p in map(Path, ("/usr/bin/chromium", "/usr/bin/google-chrome")) if p.is_file()), None)
    if browser_path is None:
        pytest.skip("neither Chromium nor Chrome is installed")
    options = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    faults: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=options)
        page = browser.new_page(viewport={"width": width, "height": height})
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)
        page.goto(address)
        yield page
        browser.close()
    assert not faults


def answers(address: str) -> bool:
    """Whether a server says that all is well."""
    try:
        with urllib.request.urlopen(address, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False
