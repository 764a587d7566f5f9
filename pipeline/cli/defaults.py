"""Defaults of options, taken from the values that they become."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

__all__ = ["default_of", "listed", "metres"]


def default_of(kind: type, name: str) -> object:
    """The default of a field of a dataclass."""
    (field,) = (field for field in dataclasses.fields(kind) if field.name == name)
    return field.default


def listed(kind: type, name: str, unit: str = "") -> str:
    """The default of a field that holds several values, as it is written on the command line.

    Args:
        kind: The dataclass.
        name: The field.
        unit: Put behind each value.
    """
    values = default_of(kind, name)
    assert isinstance(values, Iterable)
    return ",".join(f"{value:g}{unit}" if isinstance(value, float) else f"{value}{unit}" for value in values)


def metres(kind: type, name: str) -> str:
    """The default of a length in metres, as it is written on the command line."""
    return f"{default_of(kind, name):g}m"
