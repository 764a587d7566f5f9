"""One process that has it all: a Prefect server on loopback, the deployments, and their schedule.

    python -m flows.serve SOURCE ... --model MODEL --out OUT [--cron "*/10 * * * *"]

Ctrl-C ends it; what is under way goes on with the next start. For more than one machine, see ``prefect.yaml``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import click

__all__ = ["main"]

START_S = 180.0


def main() -> None:
    """Start the server if ``PREFECT_API_URL`` names none, and serve until stopped."""
    parser = argparse.ArgumentParser(prog="python -m flows.serve", description="Map what appears in a source, on a schedule.")
    parser.add_argument("sources", nargs="+", help="folders, globs, list files, s3://bucket/prefix/ or stac+https://api")
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--cron", default="*/1 * * * *", help="when to look [default: every minute]")
    parser.add_argument("--config", type=Path, help="a TOML file, as for geoseg watch")
    parser.add_argument("--port", type=int, default=4200, help="of the server on loopback [default: 4200]")
    options = parser.parse_args()
    from pipeline.config import Config

    config = Config.read(options.config) if options.config else Config()
    # Asked to end by the system, it ends like with Ctrl-C: the server does not stay behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.ExitStack() as stack:
        if "PREFECT_API_URL" not in os.environ:
            stack.enter_context(_server(Path(".prefect").resolve(), options.port))
        # Prefect reads the environment when it is imported.
        from prefect import serve

        from flows.deployments import deployments
        from flows.zombies import create

        create()
        sources = [str(Path(s).resolve()) if Path(s).exists() else s for s in options.sources]
        out = Path(options.out).resolve()
        served = deployments(sources, options.model, str(out), config.model_dump(mode="json"), cron=options.cron)
        api = os.environ["PREFECT_API_URL"]
        click.echo(
            f"\nPrefect's pages: {api.removesuffix('/api')}\n"
            f"Looking at {', '.join(sources)} ({options.cron}).\n"
            f"Put a GeoTIFF there, and find its map in {out}; Ctrl-C ends this.\n",
        )
        with contextlib.suppress(KeyboardInterrupt):
            serve(*served, print_starting_message=False, pause_on_shutdown=False)


@contextlib.contextmanager
def _server(home: Path, port: int) -> Iterator[None]:
    """A server with SQLite in ``home``, or with ``PREFECT_SERVER_DATABASE_CONNECTION_URL``."""
    home.mkdir(parents=True, exist_ok=True)
    quiet = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_LOGGING_SERVER_LEVEL": "WARNING"}
    for name, value in {"PREFECT_HOME": str(home), "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30", **quiet}.items():
        os.environ.setdefault(name, value)
    address = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    # In a session of its own, Ctrl-C reaches the flows first and the server last.
    with (home / "server.log").open("ab") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + START_S
        while not _answers(f"{address}/health"):
            if server.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"geoseg: Prefect's server does not start on port {port}; see {home / 'server.log'}")
            time.sleep(0.2)
        os.environ["PREFECT_API_URL"] = address
        yield
    finally:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(20)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    main()
