"""Connections to PostgreSQL, by a libpq service or the environment: a password never stands on a command line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from geoseg.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["Rows", "connected", "parameters_of"]

SECRETS = ("password", "sslpassword")

Rows = tuple[object, ...]
"""A row of a query."""


def parameters_of(service: str | None) -> dict[str, str]:
    """Parameters of libpq for a service, an address without a password, or, for None, the environment.

    Args:
        service: Name of a section of ``~/.pg_service.conf``, ``postgresql://host/name``, or ``host=… dbname=…``.

    Raises:
        ConfigError: It holds a password, or can't be read.
    """
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    if service is None:
        return {}
    if not ("://" in service or "=" in service):
        return {"service": service}
    try:
        found = conninfo_to_dict(service)
    except psycopg.ProgrammingError as error:
        # The words of libpq quote what was given, a password with it.
        raise ConfigError(
            "service: what was given is no address of a database; give the name of a service of ~/.pg_service.conf, or "
            "postgresql://HOST/NAME"
        ) from error
    if any(name in found for name in SECRETS):
        raise ConfigError(
            "service: the address holds a password, which everybody on this machine could read; put it into ~/.pgpass or "
            "PGPASSWORD, or give the name of a service of ~/.pg_service.conf"
        )
    return {name: str(value) for name, value in found.items() if value is not None}


@contextmanager
def connected(service: str | None) -> Iterator[Connection[Rows]]:
    """A connection in a transaction, which is taken back where anything fails.

    Raises:
        ConfigError: There is no driver, or the address holds a password.
        OutputError: The server can't be reached, or refuses something.
    """
    try:
        import psycopg
        from psycopg.conninfo import make_conninfo
    except ImportError as error:
        raise ConfigError(f"load: PostGIS needs the package psycopg ({error}); pip install 'geoseg[postgis]'") from error
    told = parameters_of(service)
    try:
        with psycopg.connect(make_conninfo(**told, fallback_application_name="geoseg")) as connection:
            yield connection
    except psycopg.OperationalError as error:
        raise OutputError(f"{_name(service)}: {_words(error)}; nothing was loaded: see that the server can be reached") from error
    except psycopg.Error as error:
        raise OutputError(f"{_name(service)}: refused: {_words(error)}; nothing was loaded") from error


def _name(service: str | None) -> str:
    return "the database of the environment (PG*)" if service is None else f"database {service}"


def _words(error: Exception) -> str:
    """What a server says, on one line."""
    return " ".join(str(error).split()).rstrip(".")
