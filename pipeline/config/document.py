"""Documents of settings: TOML, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from geoseg import documents
from geoseg.dialect import listed
from geoseg.errors import ConfigError

__all__ = ["parse_document", "put", "read_toml"]

Document = TypeVar("Document", bound=BaseModel)

NAMED = 8
"""Missing keys that an error names."""
UNSHOWN = "webhook"
"""The setting that is not shown, not even where it can't work: whoever knows the address can write to it."""


def read_toml(path: Path) -> dict[str, object]:
    """The document of a TOML file.

    Raises:
        ConfigError: It can't be read.
    """
    try:
        return documents.read_toml(path, ConfigError)
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error


def parse_document(kind: type[Document], document: Mapping[str, object]) -> Document:
    """A nested document as a checked value.

    Raises:
        ConfigError: A key is unknown or a value can't work; the message names the key.
    """
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        every = error.errors()
        first, where = every[0], _key(every[0]["loc"])
        if first["type"] == "missing":
            lacking = list(dict.fromkeys(_key(each["loc"]) for each in every if each["type"] == "missing"))
            one, many = "is missing, and has no default; give it a value", "are missing, and have no defaults; give them values"
            raise ConfigError(f"{listed(lacking, NAMED)}: {one if len(lacking) == 1 else many}") from error
        # Of several keys that don't go together the sentence tells which; a table would be shown as Python has it.
        of_table = first["type"] == "value_error" and isinstance(first["input"], Mapping)
        given = "" if not first["loc"] or UNSHOWN in first["loc"] or of_table else f" (given: {first['input']!r:.200})"
        raise ConfigError(f"{where or 'configuration'}: {first['msg'].removeprefix('Value error, ')}{given}") from error


def _key(place: tuple[int | str, ...]) -> str:
    """A key as it is written, without the kinds that pydantic has tried for its value."""
    return ".".join(str(part) for part in place if not str(part).startswith(("literal", "constrained", "int", "function")))


def put(document: dict[str, object], path: str, value: object) -> None:
    """Set the value of ``table.key`` in a nested document; None takes it out.

    Raises:
        ConfigError: A part of the path is no table.
    """
    *tables, key = path.strip().split(".")
    table = document
    for name in tables:
        inner = table.setdefault(name, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set: {path}: {name} is not a table; lists are changed in the file")
        table = inner
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value
