"""Secrets by name: what everybody sees among a run's parameters says where a secret is, never what it is."""

from __future__ import annotations

import os
import re

from flows.access.roots import has_secret
from geoseg.errors import ConfigError

__all__ = ["HOW", "check_plain", "is_reference", "resolve"]

VARIABLE = re.compile(r"env:(GEOSEG_[A-Z0-9_]+)")
BLOCK = re.compile(r"secret:(geoseg-[a-z0-9-]+)")
HOW = (
    "parameters of flows are for everyone to see; write env:GEOSEG_NAME for a variable of the worker, "
    "or secret:geoseg-name for a Secret block"
)


def is_reference(text: str) -> bool:
    """Whether a text names a secret: ``env:GEOSEG_WEBHOOK`` or ``secret:geoseg-webhook``."""
    return text.startswith(("env:", "secret:"))


def check_plain(key: str, text: str) -> None:
    """Refuse an address with a user, a query or a fragment, which may be a credential.

    Raises:
        ConfigError: It has one; the message does not repeat it.
    """
    if has_secret(text):
        raise ConfigError(f"{key}: the address carries a user, a query or a fragment, and {HOW}")


def resolve(key: str, text: str) -> str:
    """The text itself, or what it names.

    Raises:
        ConfigError: It names something that is not there, or is not of geoseg's.
    """
    if (variable := VARIABLE.fullmatch(text)) is not None:
        value = os.environ.get(variable[1])
        if not value:
            raise ConfigError(f"{key}: {text} is not set in the environment of the process that runs the flow")
        return value
    if (block := BLOCK.fullmatch(text)) is not None:
        from prefect.blocks.system import Secret

        try:
            return str(Secret.load(block[1]).get())  # type: ignore[union-attr]  # async only within async code
        except ValueError as error:
            raise ConfigError(f"{key}: there is no Secret block {block[1]!r} on the server") from error
    if is_reference(text):
        raise ConfigError(f"{key}: {text} is neither env:GEOSEG_NAME nor secret:geoseg-name; no other secrets are read")
    return text
