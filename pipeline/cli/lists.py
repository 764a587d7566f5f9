"""Lists in one option: entries with commas between them, and quotes around what holds a comma or an equals sign.

As in a CSV file, ``"a,b",c`` is two entries, and ``""`` in quotes is a quote. Quotes count where an entry begins and behind an
equals sign; elsewhere they are letters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from geoseg.errors import ConfigError

__all__ = ["PAIRING", "QUOTING", "Assignments", "split_list", "split_pair"]

QUOTING = "Put an entry that holds a comma in quotes: '\"a,b\",c'."
PAIRING = "Put a side that holds an equals sign in quotes: '\"a=b\"=c'."
"""For help texts."""
QUOTE, COMMA, EQUALS = '"', ",", "="
Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Assignments:
    """An option whose entries are of the form ``A=B``."""

    option: str
    form: str
    """An entry as messages name it, such as ``CODE=NAME``."""
    example: str = ""
    last: bool = False
    """Whether the last equals sign divides an entry, not the first."""

    def pair(self, entry: str) -> tuple[str, str]:
        """The two sides of an entry.

        Raises:
            ConfigError: It has no equals sign, or nothing before it.
        """
        pair = split_pair(entry, self.option, last=self.last)
        if pair is None or not pair[0]:
            raise self._refused(entry)
        return pair

    def parsed(self, text: str, key: Callable[[str], Key], value: Callable[[str], Value]) -> dict[Key, Value]:
        """The entries of a list; empty ones are left out.

        Args:
            text: The list.
            key: Reads the left side; a ``ValueError`` refuses the entry.
            value: Reads the right side.

        Raises:
            ConfigError: There are none, or one can't be read.
        """
        entries = [entry for part in _cut(text, COMMA, self.option) if (entry := part.strip())]
        found: dict[Key, Value] = {}
        for entry in entries or [text]:
            left, right = self.pair(entry)
            try:
                found[key(left)] = value(right)
            except ConfigError:
                raise
            except ValueError:
                raise self._refused(entry) from None
        return found

    def _refused(self, entry: str) -> ConfigError:
        cure = f"; write for example {self.example}" if self.example else ""
        return ConfigError(f"{self.option}: {entry!r} is not {self.form}{cure}")


def split_list(text: str, option: str = "") -> list[str]:
    """Entries without their quotes; empty ones are left out.

    Raises:
        ConfigError: A quote is not closed.
    """
    return [entry for part in _cut(text, COMMA, option) if (entry := _bare(part))]


def split_pair(text: str, option: str, *, last: bool = False) -> tuple[str, str] | None:
    """The two sides of the first or the last equals sign that is in no quotes; None where there is none.

    Raises:
        ConfigError: A quote is not closed.
    """
    parts = _cut(text, EQUALS, option)
    if len(parts) == 1:
        return None
    cut = len(parts) - 1 if last else 1
    return _bare(EQUALS.join(parts[:cut])), _bare(EQUALS.join(parts[cut:]))


def _cut(text: str, at: str, option: str) -> list[str]:
    """Parts between commas or equals signs that are in no quotes, with their quotes."""
    parts, start, inside, fresh = [], 0, False, True
    for i, letter in enumerate(text):
        if letter == QUOTE and (inside or fresh):
            # A doubled quote closes and opens again, which leaves it inside.
            inside, fresh = not inside, inside
        elif not inside and letter == at:
            parts.append(text[start:i])
            start, fresh = i + 1, True
        elif not letter.isspace():
            fresh = letter in (COMMA, EQUALS) and not inside
    if inside:
        raise ConfigError(f"{option or 'a list'}: a quote is not closed in {text!r}; {QUOTING}")
    return [*parts, text[start:]]


def _bare(text: str) -> str:
    """A text without the quotes that count, and without space around it."""
    out, inside, fresh, i = [], False, True, 0
    text = text.strip()
    while i < len(text):
        letter = text[i]
        if letter == QUOTE and inside and text[i + 1 : i + 2] == QUOTE:
            out.append(QUOTE)
            i += 1
        elif letter == QUOTE and (inside or fresh):
            inside, fresh = not inside, False
        else:
            out.append(letter)
            fresh = letter == EQUALS and not inside
        i += 1
    return "".join(out)
