"""The verb that brings results into a database."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.api.given import call, check_names, text
from pipeline.api.keywords import LoadSettings

if TYPE_CHECKING:
    from typing import Unpack

    from pipeline.load.run import Loaded

    type_of_path = str | PathLike[str]

__all__ = ["load"]


def load(folder: type_of_path, service: str | None = None, **settings: Unpack[LoadSettings]) -> list[Loaded]:
    """Load results into PostGIS in one transaction: all, or none where anything fails; the same run replaces itself.

    Args:
        folder: The output of ``segment``, ``deforestation`` or ``grade_damage``: of one scene, many, or a mosaic.
        service: A section of ``~/.pg_service.conf``, or ``postgresql://HOST/NAME`` without a password; by default the environment
            counts (``PGSERVICE``, ``PGHOST``, ``PGDATABASE``, ``PGPASSWORD`` …).
        settings: Those of ``geoseg load --help``.

    Returns:
        What was loaded, by scene: table, run and count of its rows.

    Raises:
        ConfigError: A setting is unknown or can't work, the folder holds no result, or the database can't be used.
        OutputError: It can't be written.
    """
    check_names(LoadSettings, settings)
    from pipeline.load.run import load as put

    return call(put, Path(text(folder)), service, **settings)
