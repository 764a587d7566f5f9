"""One process that has it all: a Prefect server on loopback, the deployments, and their schedule.

    python -m flows.serve SOURCE ... --model MODEL --out OUT [--cron "*/10 * * * *"]

Ctrl-C ends it; what is under way goes on with the next start. For more than one machine, see ``prefect.yaml``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING

import click
import psutil

from flows.access.references import is_reference
from flows.access.roots import is_address
from flows.pages.page_links import MAPS, MAPS_URL, PREFIX
from geoseg.errors import ConfigError, GeosegError

if TYPE_CHECKING:
    from prefect.runner import Runner

    from pipeline.config.sections import Config

__all__ = ["main"]

START_S = 180.0
# Longest time that runs under way have to end in, when all is to end; nothing that they have written is lost.
STOP_S = 60.0


def main() -> None:
    """Start the server if ``PREFECT_API_URL`` names none, and serve until stopped."""
    options = _options()
    # Asked to end by the system, it ends like with Ctrl-C: the server does not stay behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sources, out, config = _checked(options)
        with contextlib.ExitStack() as stack:
            if "PREFECT_API_URL" not in os.environ:
                # Unless told otherwise, its pages lead to the maps by the server itself.
                os.environ.setdefault(MAPS, out)
                os.environ.setdefault(MAPS_URL, f"http://127.0.0.1:{options.port}{PREFIX}")
                stack.enter_context(_server(Path(".prefect").resolve(), options.port))
            _serve(sources, options.model, out, config, options.cron)
        # At its end, the interpreter lets Prefect send what it has logged, for ever where its server has gone.
        last = threading.Timer(STOP_S, os._exit, [0])
        last.daemon = True
        last.start()
    except GeosegError as error:
        click.echo(f"geoseg: {error}", err=True)
        sys.exit(2)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m flows.serve", description="Map what appears in a source, on a schedule.")
    parser.add_argument("sources", nargs="+", help="folders, globs, list files, s3://bucket/prefix/ or stac+https://api")
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--cron", default="*/1 * * * *", help="when to look [default: every minute]")
    parser.add_argument("--config", type=Path, help="a TOML file, as for geoseg watch")
    parser.add_argument("--port", type=int, default=4200, help="of the server on loopback [default: 4200]")
    return parser.parse_args()


def _checked(options: argparse.Namespace) -> tuple[list[str], str, Config]:
    """Sources, output folder and settings that can work; what can't is told before anything is started."""
    from geoseg.models.model_folder import load_model
    from pipeline.config.sections import Config

    config = Config.read(options.config) if options.config else Config()
    load_model(options.model)
    return [_place(source) for source in options.sources], str(Path(options.out).resolve()), config


def _place(source: str) -> str:
    """A source for processes in folders of their own."""
    if is_address(source) or is_reference(source):
        return source
    path = os.path.abspath(source)
    if not os.path.lexists(path) and not has_magic(path):
        raise ConfigError(f"{source}: no such file or folder")
    return path


def _serve(sources: list[str], model: str, out: str, config: Config, cron: str) -> None:
    # Prefect reads the environment when it is imported.
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.runner import Runner

    from flows.access.allowed import Allowed, check, lists_of
    from flows.deployments import deployments
    from flows.zombies import create

    # Without lists of its own, it lets its flows touch what it was told, and nothing else.
    if Allowed.read(os.environ) is None:
        os.environ.update(lists_of(sources, out, model, config).environment())
    check(read={"sources": sources}, written={"out": [out]}, models={"model": [model]}, config=config)
    try:
        CronSchedule(cron=cron)
    except ValueError as error:
        raise ConfigError(f"--cron: {cron!r} is not minute, hour, day, month and weekday, as in */10 * * * *") from error
    create()
    served = deployments(sources, model, out, config.model_dump(mode="json"), cron=cron)
    api = os.environ["PREFECT_API_URL"]
    click.echo(
        f"\nPrefect's pages: {api.removesuffix('/api')}\n"
        f"Looking at {', '.join(sources)} ({cron}).\n"
        f"Put a GeoTIFF there, and find its map in {out}; Ctrl-C ends this.\n",
    )
    runner = Runner(pause_on_shutdown=False)
    for deployment in served:
        runner.add_deployment(deployment)
    run_until_stopped(runner)


def run_until_stopped(runner: Runner, stop_s: float = STOP_S) -> None:
    """Start what is due until ``KeyboardInterrupt``; then end, with all that was started here, within ``stop_s``.

    Prefect's own handler of SIGTERM raises ``SystemExit`` out of whatever line runs, and where that line swallows it, the
    schedule goes on for ever. So its loop has a thread of its own, where it leaves signals alone, and is cancelled from here.
    """
    known = {child.pid for child in psutil.Process().children()}
    running: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = Future()
    ended: Future[None] = Future()

    async def run() -> None:
        task = asyncio.current_task()
        assert task is not None
        running.set_result((asyncio.get_running_loop(), task))
        await runner.start()

    def work() -> None:
        try:
            with contextlib.suppress(asyncio.CancelledError):
                asyncio.run(run())
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            ended.set_exception(error)
        else:
            ended.set_result(None)

    threading.Thread(target=work, name="geoseg-schedule", daemon=True).start()
    loop, task = running.result()
    try:
        ended.result()
    except KeyboardInterrupt:
        loop.call_soon_threadsafe(task.cancel)
        try:
            ended.result(stop_s)
        except (TimeoutError, KeyboardInterrupt):
            click.echo("geoseg: what is under way is killed, as it does not end; the next start goes on with it", err=True)
        # Also where the loop ended well: a process that it has lost sight of must not outlive its server.
        _kill_started(known)


def _kill_started(spared: set[int]) -> None:
    for started in psutil.Process().children():
        if started.pid in spared:
            continue
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in [*started.children(recursive=True), started]:
                process.kill()


@contextlib.contextmanager
def _server(home: Path, port: int) -> Iterator[None]:
    """A server with SQLite in ``home``, or with ``PREFECT_SERVER_DATABASE_CONNECTION_URL``."""
    _check_free(port)
    home.mkdir(parents=True, exist_ok=True)
    for name, value in {"PREFECT_HOME": str(home), "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30", "DO_NOT_TRACK": "1"}.items():
        os.environ.setdefault(name, value)
    address = f"http://127.0.0.1:{port}/api"
    # In a session of its own, Ctrl-C reaches the flows first and the server last.
    with (home / "server.log").open("ab") as log:
        command = [sys.executable, "-m", "flows.server", "--port", str(port)]
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)  # noqa: S603 - a list of our own
    try:
        deadline = time.monotonic() + START_S
        while not _answers(f"{address}/health"):
            if server.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"geoseg: Prefect's server does not start on port {port}; see {home / 'server.log'}")
            time.sleep(0.2)
        os.environ["PREFECT_API_URL"] = address
        if (password := os.environ.get("PREFECT_SERVER_API_AUTH_STRING")) is not None:
            os.environ.setdefault("PREFECT_API_AUTH_STRING", password)
        yield
    finally:
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()


def _check_free(port: int) -> None:
    """Another server on the port would answer in place of ours, and without its guard."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise ConfigError(f"--port: {port} can't be listened on ({error}); choose another") from error


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as response:  # noqa: S310 - an address of our own server
            return bool(response.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    main()
