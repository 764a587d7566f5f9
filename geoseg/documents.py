"""JSON, TOML and XML from outside: one reader for each, with the limits that keep a stranger's document from doing harm.

A document is refused with one sentence where it is too large, no UTF-8 text, not well-formed, nested too deep, or holds a
number that is not finite, an integer of more than 64 bits, a key twice, or text that UTF-8 has no place for. What comes
back can be walked, compared and written again without a surprise.
"""

from __future__ import annotations

import gc
import json
import math
import re
import stat
import threading
import tomllib
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from xml.parsers import expat

from geoseg.errors import DocumentError, GeosegError

__all__ = [
    "LARGE",
    "LIMIT",
    "MAX_DEPTH",
    "Json",
    "parse_json",
    "parse_toml",
    "parse_xml",
    "read_json",
    "read_text",
    "read_toml",
    "uncollected",
]

Json: TypeAlias = Mapping[str, "Json"] | Sequence["Json"] | str | int | float | bool | None
"""A value that JSON can hold, not to be changed in place."""
LIMIT = 64 << 20
"""Bytes of a document that people write, or a model or a run carries."""
LARGE = 4 << 30
"""Bytes of what grows with the work: indexes of scenes, labels of a data set."""
TOML_LIMIT = 1 << 20
MAX_DEPTH = 64
"""Lists and objects in each other."""
MAX_INTEGER = 2**63
KEYS = re.compile(r"[=,{]")
"""What stands before or after a key of TOML."""
SHOWN = 40
OTHER_FORMS = (
    (re.compile(r"\s*{"), "JSON"),
    (re.compile(r"\s*<"), "XML"),
    (re.compile(r"---(\s|$)|\s*- |\s*[\w\"'-]+\s*:(\s|$)"), "YAML"),
)
"""How lines begin that are not TOML but of another form."""
CURES = {
    "Expected '=' after a key": "a key has no value; write key = value",
    "Invalid statement": "no statement; a line is key = value, [table], [[table]] or a # comment",
    "Invalid value": 'no value; text stands in quotes ("forest"), true and false are small, numbers are 1 or 0.5',
    "Cannot overwrite": "a key is there twice; keep one",
    "Cannot declare": "a table is there twice; keep one, or write [[table]] for several",
    "Cannot mutate": "a table is there twice; keep one, or write [[table]] for several",
    "Expected newline": "something follows a value; one key = value stands on a line",
    "Unescaped '\\'": "a backslash in text; put the text into single quotes, as paths of Windows",
    "Invalid hex": "a backslash in text; put the text into single quotes, as paths of Windows",
    "Un": "a bracket or a quote is not closed",
    "Expected": "a bracket or a quote is not closed",
    "Illegal character '\\n'": "a quote is not closed",
}
"""By how the sentence of Python's parser of TOML begins, what is wrong, and the cure."""


def read_json(path: Path, error: type[GeosegError] = DocumentError, *, limit: int = LIMIT) -> Any:
    """The document of a JSON file (RFC 8259; a byte order mark is passed over).

    Args:
        path: The file.
        error: What is raised where its content can't be taken.
        limit: Most bytes that are read.

    Raises:
        OSError: There is no such file, or it can't be read.
        GeosegError: Of the type asked for: what is wrong, and where.
    """
    return parse_json(read_text(path, error, limit=limit), str(path), error)


def read_toml(path: Path, error: type[GeosegError] = DocumentError) -> dict[str, Any]:
    """The document of a TOML file; raises as ``read_json``."""
    return parse_toml(read_text(path, error, limit=TOML_LIMIT), str(path), error)


def parse_json(text: str | bytes, name: str, error: type[GeosegError] = DocumentError) -> Any:
    """A JSON text as a document.

    Args:
        text: The text.
        name: Where it comes from, for the message.
        error: What is raised where it can't be taken.
    """
    try:
        # NaN and Infinity are taken at first, so that the message can say where they stand.
        with uncollected:
            found = json.loads(text, object_pairs_hook=_unique, parse_constant=float)
    except RecursionError:
        raise error(f"{name}: nested too deep; {MAX_DEPTH} levels are the most") from None
    except UnicodeDecodeError as cause:
        raise error(f"{name}: not UTF-8 text: {cause.reason} at byte {cause.start}; save it as UTF-8") from cause
    except ValueError as cause:
        raise error(f"{name}: not JSON that can be taken: {_integers(cause)}") from cause
    return _checked(found, name, error)


class _Uncollected:
    """While documents are parsed, without Python's collector of cycles.

    A document has no cycles, and would be searched for them again and again as it grows.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._stopped = threading.Lock(), 0, False

    def __enter__(self) -> None:
        """Stop it, where it works."""
        with self._lock:
            self._inside += 1
            if gc.isenabled():
                gc.disable()
                self._stopped = True

    def __exit__(self, *exc: object) -> None:
        """Let it work again, with the last thread that parses."""
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._stopped:
                self._stopped = False
                gc.enable()


uncollected = _Uncollected()
"""For parsing documents, and for making many values of them that have no cycles either."""


def parse_toml(text: str, name: str, error: type[GeosegError] = DocumentError) -> dict[str, Any]:
    """A TOML text as a document; arguments as those of ``parse_json``."""
    if any(part.count(".") > MAX_DEPTH for line in text.splitlines() for part in KEYS.split(line)):
        # The parser's time is the square of a key's parts.
        raise error(f"{name}: nested too deep; {MAX_DEPTH} levels are the most")
    try:
        found = tomllib.loads(text)
    except RecursionError:
        raise error(f"{name}: nested too deep; {MAX_DEPTH} levels are the most") from None
    except ValueError as cause:
        raise error(f"{name}: {_not_toml(text, cause)}") from cause
    _checked(found, name, error)
    return found


def parse_xml(data: bytes, name: str, error: type[GeosegError] = DocumentError) -> ET.Element:
    """An XML document as its root element, whose tags have no prefixes; arguments as those of ``parse_json``.

    A document with a DTD is refused, whatever it holds: entities can grow without bound, and name files and addresses.
    """
    tree, parser, depth = ET.TreeBuilder(), expat.ParserCreate(), 0
    parser.buffer_text = True

    def begin(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise error(f"{name}: nested too deep; {MAX_DEPTH} levels are the most")
        tree.start(tag.rpartition(":")[2], attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        tree.end(tag.rpartition(":")[2])

    def refuse(*_: object) -> None:
        raise error(f"{name}: has a document type (DTD), which can name other files; it was not read further")

    parser.StartElementHandler, parser.EndElementHandler = begin, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = tree.data, refuse
    try:
        parser.Parse(data, True)  # noqa: FBT003 - it takes no keywords
        return tree.close()
    except (expat.ExpatError, ValueError, LookupError, AssertionError) as cause:
        if isinstance(cause, GeosegError):
            raise
        raise error(f"{name}: not XML that can be taken: {cause}") from cause


def read_text(path: Path, error: type[GeosegError] = DocumentError, *, limit: int = LIMIT) -> str:
    """The text of a file of at most so many bytes, without its byte order mark; raises as ``read_json``."""
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        # A pipe would wait for a writer, a device has no end.
        raise error(f"{path}: not a file")
    data = b""
    if facts.st_size <= limit:
        with path.open("rb") as file:
            # One byte more: it may have grown, or say nothing of its size, as files of the kernel do.
            data = file.read(limit + 1)
    if max(facts.st_size, len(data)) > limit:
        raise error(f"{path}: {max(facts.st_size, len(data)):,} bytes; such a document has at most {limit:,}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise error(f"{path}: not UTF-8 text: {cause.reason} at byte {cause.start}; save it as UTF-8") from cause


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {_short(twice)} is there twice in one object")
    return found


def _integers(cause: ValueError) -> str:
    """The words of a parser, where Python's own name the interpreter's settings."""
    return "an integer of thousands of digits" if "integer string conversion" in str(cause) else str(cause)


def _not_toml(text: str, cause: ValueError) -> str:
    """What is wrong with a text that is no TOML: its line, and the cure. Not its words, for settings can hold secrets."""
    said, _, place = str(cause).partition(" (at ")
    if (line := re.match(r"line (\d+)", place)) is None and not place:
        return _integers(cause)
    number = int(line[1]) if line else len(text.splitlines()) or 1
    lines = text.splitlines()
    first = next((one for one in lines if one.strip() and not one.lstrip().startswith("#")), "")
    for begins, form in OTHER_FORMS:
        if begins.match(first):
            return f"line {number}: not TOML but {form}; write a key as key = value and an object as [table]"
    cure = next((cure for begin, cure in CURES.items() if said.startswith(begin)), None)
    return f"line {number}: not TOML: {cure or said.lower()}"


def _checked(document: Any, name: str, error: type[GeosegError]) -> Any:
    """The document, whose values are finite, of 64 bits at most, and not nested too deep. Nothing here recurses."""
    open_: list[tuple[Any, tuple[object, ...]]] = [([document], ())]
    while open_:
        value, where = open_.pop()
        if len(where) > MAX_DEPTH:
            raise error(f"{name}: nested too deep; {MAX_DEPTH} levels are the most")
        if isinstance(value, dict):
            for key in value:
                if not key.isascii() and (fault := _fault(key)) is not None:
                    raise error(f"{name}: a key of {_place(where[1:])}: {fault}")
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            kind = type(item)
            # Most of what documents hold is told by its kind.
            if kind is list or kind is dict:
                open_.append((item, (*where, key)))
            elif (
                (kind is str and item.isascii())
                or (kind is int and -MAX_INTEGER <= item < MAX_INTEGER)
                or item is None
                or kind is bool
                or (kind is float and math.isfinite(item))
            ):
                continue
            elif (fault := _fault(item)) is not None:
                raise error(f"{name}: {_place((*where, key)[1:])}: {fault}")
    return document


def _fault(value: object) -> str | None:
    """What is wrong with a single value."""
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{value} is not a finite number"
    if isinstance(value, int):
        return None if -MAX_INTEGER <= value < MAX_INTEGER else f"an integer of {value.bit_length()} bits; 64 are the most"
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return "text with half a character (a lone surrogate)"
    return None


def _place(where: tuple[object, ...]) -> str:
    return ".".join(_short(str(part)) for part in where) or "the document"


def _short(text: str) -> str:
    shown = text if len(text) <= SHOWN else text[:SHOWN] + "…"
    return shown.encode(errors="backslashreplace").decode()
