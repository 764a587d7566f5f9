"""Redaction: texts of libraries and strangers without secrets, on one line, and without what steers a terminal."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import Any

from geoseg.addresses import HIDDEN, hide_keyed, secrets_of, shown

__all__ = ["cause_of", "environment_secrets", "printable", "redact", "redact_all", "sanitized", "without_secrets"]

LEAST_SECRET = 8
"""Values of the environment that are shorter are not looked for: they are part of other words."""
_EMBEDDED = re.compile(
    r"(?:/vsi\w+/)*(?:[a-z][a-z0-9+.-]*://|(?:https?|s3|gs|az|ftp|tcp|tls):/)[^\s\"<>|]+|/vsi\w+\?[^\s\"<>|]+", re.IGNORECASE
)
_TRAIL = ".,;:!?)]}'"
_HEADER = re.compile(
    r"(?P<name>(?:proxy-)?authorization['\"]?\s*[:=]\s*['\"]?)(?:(?:basic|bearer|digest)\s+)?[^\s'\",;]+", re.IGNORECASE
)
_VARIABLE = re.compile(
    r"SECRET|TOKEN|PASSW|API_?KEY|ACCESS_?KEY|ACCOUNT_?KEY|SAS|USERPWD|BEARER|CREDENTIALS?$|CONNECTION_STRING|AUTH_STRING"
)
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufffe\uffff\ud800-\udfff]")


def redact(text: str, *addresses: str) -> str:
    """A text whose addresses have no credentials, query and fragment, and in which no known secret stands.

    Args:
        text: The text.
        addresses: Those it speaks of; libraries quote parts of them.
    """
    return without_secrets(text, (*(secret for address in addresses for secret in secrets_of(address)), *environment_secrets()))


def cause_of(error: BaseException, address: str) -> str:
    """A library's own words on what is wrong with a file, on one line and without what is secret in its address."""
    lines = str(error.__cause__ or error).strip().splitlines()
    return redact(lines[0], address) if lines else type(error).__name__


def redact_all(document: Any) -> Any:
    """A JSON document with all of its texts redacted, and without halves of surrogate pairs, which no file can hold."""
    return _redacted_document(document, environment_secrets())


def printable(text: str) -> str:
    """A text on one line: controls, marks of direction and bytes that are no UTF-8 are written as Python writes them."""
    return _UNPRINTABLE.sub(_escape, text)


def sanitized(text: str) -> str:
    """A message as people see it: redacted and printable."""
    return printable(redact(text))


def without_secrets(text: str, secrets: tuple[str, ...]) -> str:
    """A text whose addresses have no credentials, query and fragment, and in which no secret of some stands.

    Args:
        text: The text.
        secrets: What ``environment_secrets`` gives: to look there for each of many texts takes longer than they do.
    """
    for secret in secrets:
        if secret in text:
            text = text.replace(secret, HIDDEN)
    if ":/" in text or "/vsi" in text.lower():
        text = _EMBEDDED.sub(_shown_within, text)
    if "uthorization" in text.lower():
        text = _HEADER.sub(lambda match: match["name"] + HIDDEN, text)
    return hide_keyed(text)


def _shown_within(match: re.Match[str]) -> str:
    """An address within a text, and the punctuation of the text that follows it."""
    address = match.group().rstrip(_TRAIL)
    return shown(address) + match.group()[len(address) :]


def _redacted_document(value: Any, secrets: tuple[str, ...]) -> Any:
    if isinstance(value, str):
        return _encodable(without_secrets(value, secrets))
    if isinstance(value, dict):
        return {_redacted_document(key, secrets): _redacted_document(item, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted_document(item, secrets) for item in value]
    return value


def _encodable(text: str) -> str:
    return text if text.isascii() else re.sub("[\ud800-\udfff]", _escape, text)


def environment_secrets() -> tuple[str, ...]:
    """Values of variables of the environment that are named as secrets, the longest first: one can be a part of another."""
    found = {value for name, value in os.environ.items() if len(value) >= LEAST_SECRET and _names_a_secret(name)}
    return tuple(sorted(found, key=lambda value: (-len(value), value)))


@lru_cache(maxsize=4096)
def _names_a_secret(name: str) -> bool:
    return _VARIABLE.search(name.upper()) is not None


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    if 0xDC80 <= code <= 0xDCFF:
        # What stands for a byte of a name that is no UTF-8.
        return f"\\x{code - 0xDC00:02x}"
    return ascii(match.group())[1:-1]
