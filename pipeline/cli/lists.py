"""Lists in one option: entries with commas between them, and quotes around what holds a comma or an equals sign.

As in a CSV file, ``"a,b",c`` is two entries, and ``""`` in quotes is a quote. Quotes count where an entry begins and behind an
equals sign; elsewhere they are letters.
"""

from __future__ import annotations

from collections.abc import Iterator

from geoseg.errors import ConfigError

__all__ = ["PAIRING", "QUOTING", "split_list", "split_pair", "split_pairs"]

QUOTING = "Put an entry that holds a comma in quotes: '\"a,b\",c'."
PAIRING = "Put a side that holds an equals sign in quotes: '\"a=b\"=c'."
"""For help texts."""
QUOTE, COMMA, EQUALS = '"', ",", "="


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


def split_pairs(text: str, option: str, *, last: bool = False) -> Iterator[tuple[str, tuple[str, str] | None]]:
    """Entries as they were written, with what ``split_pair`` makes of each.

    Raises:
        ConfigError: A quote is not closed.
    """
    for part in _cut(text, COMMA, option):
        yield part.strip(), split_pair(part.strip(), option, last=last)


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
