"""One process that has it all: a Prefect server on loopback, the deployments, and their schedule.

    python -m flows.serve SOURCE ... --model MODEL --out OUT [--cron "*/10 * * * *"]

Ctrl-C ends it; what is under way goes on with the next start. For more than one machine, see ``prefect.yaml``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flows.references import is_reference
from flows.roots import is_address
from geoseg.errors import ConfigError, GeosegError

if TYPE_CHECKING:
    from pipeline.config.sections import Config

__all__ = ["main"]

START_S = 180.0


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
                stack.enter_context(_server(Path(".prefect").resolve(), options.port))
            _serve(sources, options.model, out, config, options.cron)
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
    from prefect import serve
    from prefect.client.schemas.schedules import CronSchedule

    from flows.allowed import Allowed, check, lists_of
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
    with contextlib.suppress(KeyboardInterrupt):
        serve(*served, print_starting_message=False, pause_on_shutdown=False)


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
