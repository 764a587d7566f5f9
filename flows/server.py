"""Prefect's server behind the guard: its own pages and clients get in, foreign pages don't, other machines need a password.

    python -m flows.server [--host 127.0.0.1] [--port 4200]

``GEOSEG_SERVER_HOSTS`` lists further names under which it is asked, with ports where they are not the usual ones:
``maps.example.org,server:4200``. ``PREFECT_SERVER_API_AUTH_STRING=user:password`` is needed for any of them, and for any
address that is not loopback. ``GEOSEG_RETENTION`` (30d) says for how long finished runs are kept. The maps of the folder
``GEOSEG_SERVER_MAPS`` are served below ``/maps/``, behind the same password.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from flows.guard import Application, Doors, Guard
from flows.pages.page_links import MAPS
from geoseg.errors import ConfigError

__all__ = ["LOOPBACK_NAMES", "main", "settings"]

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
HOSTS, PASSWORD = "GEOSEG_SERVER_HOSTS", "PREFECT_SERVER_API_AUTH_STRING"
NAME = re.compile(r"(?P<name>[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(:(?P<port>\d{1,5}))?")
LEAST_PASSWORD = 12
DAY = 86400
GRACE_S = 10


def settings(host: str, port: int, given: Mapping[str, str]) -> tuple[Doors, dict[str, str]]:
    """The names of a server, and Prefect's settings for it.

    Args:
        host: The address that it listens on.
        port: Its port.
        given: The environment.

    Returns:
        The names, and the environment variables to be set before Prefect is imported.

    Raises:
        ConfigError: Other machines could reach it without a password, or a setting can't work.
    """
    named = [text.lower() for text in re.split(r"[,\s]+", given.get(HOSTS, "")) if text]
    outside = [] if _is_loopback(host) else [host]
    for text in named:
        match = NAME.fullmatch(text)
        if match is None:
            raise ConfigError(f"{HOSTS}: {text!r} is not the name of a host; write name or name:port, separated by commas")
        if not _is_loopback(match["name"].strip("[]")):
            outside.append(text)
    _check_password(given.get(PASSWORD), outside)
    doors = Doors(frozenset([*(f"{name}:{port}" for name in LOOPBACK_NAMES), *named]))
    pages = given.get("PREFECT_SERVER_UI_API_URL") or given.get("PREFECT_UI_API_URL") or f"http://127.0.0.1:{port}/api"
    always = {
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": ",".join(doors.origins),
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_API_HOST": host,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_UI_API_URL": pages,
    }
    default = {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(_retention_s(given)),
    }
    return doors, always | {name: value for name, value in default.items() if name not in given}


def _retention_s(given: Mapping[str, str]) -> int:
    from pipeline.config.units import parse_seconds

    try:
        seconds = parse_seconds(given.get("GEOSEG_RETENTION") or "30d")
    except ValueError as error:
        raise ConfigError(f"GEOSEG_RETENTION: {error}") from error
    if seconds < DAY:
        raise ConfigError(f"GEOSEG_RETENTION: {seconds:.0f} s is too short; 1d is the least")
    return int(seconds)


def _is_loopback(host: str) -> bool:
    """Whether an address, or all that a name stands for, is of this machine alone."""
    if host == "localhost":
        return True
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(ipaddress.ip_address(text.split("%")[0]).is_loopback for text in found)


def _check_password(text: str | None, outside: list[str]) -> None:
    if text is None:
        if outside:
            raise ConfigError(
                f"{outside[0]}: other machines can reach the server there, and any of them could start flows; "
                f"set {PASSWORD}=user:password, or listen on 127.0.0.1 under its own names only"
            )
        return
    user, _, password = text.partition(":")
    if not user or len(password) < LEAST_PASSWORD:
        raise ConfigError(f"{PASSWORD}: is not user:password with a password of {LEAST_PASSWORD} characters or more")


def main() -> None:
    """Run the server until it is stopped."""
    parser = argparse.ArgumentParser(prog="python -m flows.server", description="Prefect's server, closed to foreign pages.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on [default: 127.0.0.1]")
    parser.add_argument("--port", type=int, default=4200, help="[default: 4200]")
    options = parser.parse_args()
    try:
        doors, environment = settings(options.host, options.port, os.environ)
    except ConfigError as error:
        click.echo(f"geoseg: {error}", err=True)
        sys.exit(2)
    # Prefect reads the environment when it is imported.
    os.environ.update(environment)
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    from flows.pages.served_maps import ServedMaps

    api = get_current_settings().server.api
    application: Application = create_app(final=True)
    if maps := os.environ.get(MAPS):
        application = ServedMaps(application, Path(maps), os.environ.get(PASSWORD))
    uvicorn.run(
        Guard(application, doors),
        host=options.host,
        port=options.port,
        timeout_keep_alive=api.keepalive_timeout,
        # Clients that listen would keep it from ending.
        timeout_graceful_shutdown=GRACE_S,
        log_level="warning",
        server_header=False,
    )


if __name__ == "__main__":
    main()
