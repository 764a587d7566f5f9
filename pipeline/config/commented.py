"""TOML documents to begin from: every setting with what it is and its default, as a comment."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from textwrap import wrap
from types import UnionType
from typing import Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

__all__ = ["commented_table", "toml_value"]

WIDTH = 110


def commented_table(
    kind: type[BaseModel], given: Mapping[str, object] | None = None, leave_out: Collection[str] = (), path: str = ""
) -> str:
    """A table of TOML: settings that are given as they are, the others commented out with their defaults.

    ``# text`` says what a setting is, ``#key = value`` is its default; one without a value is not given by default.

    Args:
        kind: The class of the settings; settings of it that are tables follow as tables.
        given: Values; for a table its own values, for a list of tables a list of them.
        leave_out: Settings that are not shown.
        path: The name of the table; none for the document itself.
    """
    return "\n".join(_lines(kind, given or {}, leave_out, path)).rstrip() + "\n"


def _lines(kind: type[BaseModel], given: Mapping[str, object], leave_out: Collection[str], path: str) -> Iterator[str]:
    shown = {name: field for name, field in kind.model_fields.items() if name not in leave_out}
    tables = {name: inner for name, field in shown.items() if (inner := table_of(field)) is not None}
    for name, field in shown.items():
        if name not in tables:
            yield from _setting(name, field, given)
    for name, inner in tables.items():
        several = get_origin(shown[name].annotation) is tuple
        here = f"{path}.{name}" if path else name
        values = given.get(name)
        entries = values if isinstance(values, list | tuple) else [values or {}]
        for number, entry in enumerate(entries):
            if several and not entry:
                continue
            yield ""
            if not number:
                yield from _comment((inner.__doc__ or "").strip().split("\n\n")[0])
            yield f"[[{here}]]" if several else f"[{here}]"
            if number:
                # What the settings are stands at the first.
                yield from (f"{key} = {toml_value(value)}" for key, value in entry.items())
            else:
                yield from _lines(inner, entry, leave_out, here)


def _setting(name: str, field: FieldInfo, given: Mapping[str, object]) -> Iterator[str]:
    if field.description:
        yield from _comment(field.description)
    if choices := choices_of(field.annotation):
        yield from _comment(f"One of {', '.join(map(toml_value, choices))}.")
    if name in given:
        yield f"{name} = {toml_value(given[name])}"
    elif field.default is None:
        yield f"#{name} ="
    else:
        yield f"#{name} = {toml_value(field.default)}"


def _comment(text: str) -> Iterator[str]:
    yield from (f"# {line}" for line in wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False))


def table_of(field: FieldInfo) -> type[BaseModel] | None:
    """The class of the table, or of each of the tables, that a setting is; None where it is a value."""
    kind = field.annotation
    inner = get_args(kind)[0] if get_origin(kind) is tuple else kind
    return inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None


def choices_of(annotation: object) -> list[object]:
    """Values of a setting that is one of some; empty where it may be another."""
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    listed = [value for kind in kinds if get_origin(kind) is Literal for value in get_args(kind)]
    return listed if all(get_origin(kind) is Literal or kind is type(None) for kind in kinds) else []


def toml_value(value: object) -> str:
    """A text, a number, true or false, a list or a table as TOML."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml_value(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    return json.dumps(value, ensure_ascii=False)
