"""Messages to a webhook: what became of a scene."""

from __future__ import annotations

import json
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException

from geoseg.addresses import host_of
from geoseg.deadline import within
from geoseg.errors import ConfigError
from geoseg.redaction import redact_all, sanitized
from geoseg.scenes.remote import open_http

__all__ = ["notify", "webhook_address"]

log = logging.getLogger(__name__)
TRIES, TIMEOUT_S = 3, 10.0
MOST_S = 45.0
"""Seconds that a message may take in all: a server can answer a byte now and then."""


def webhook_address(text: str) -> str:
    """The address that a setting gives: itself, or the value of the environment variable of ``env:NAME``.

    Raises:
        ConfigError: There is no such variable, or only a Prefect server could tell.
    """
    kind, _, name = text.partition(":")
    if kind == "secret":
        raise ConfigError(f"watch.webhook: {text} is a block of a Prefect server; write env:NAME outside of flows")
    if kind == "env" and not os.environ.get(name):
        raise ConfigError(f"watch.webhook: {text}: there is no such variable")
    return os.environ[name] if kind == "env" else text


def notify(url: str, message: Mapping[str, object]) -> bool:
    """POST a message as JSON, without secrets; says whether it arrived.

    A webhook that is down is a warning: no map is lost for it.

    Its address is a secret as a whole: whoever knows it can write to it.
    """
    try:
        return within(MOST_S, lambda: _send(url, message), "geoseg-webhook")
    except TimeoutError as error:
        log.warning("webhook %s: %s; the message on %s is lost", host_of(url), error, message.get("scene"))
        return False


def _send(url: str, message: Mapping[str, object]) -> bool:
    body = json.dumps(redact_all(message), ensure_ascii=False).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")  # noqa: S310 - its scheme was checked
    reason = ""
    for attempt in range(TRIES):
        try:
            with open_http(request, TIMEOUT_S):
                return True
        except urllib.error.HTTPError as error:
            reason = f"the server answers {error.code}"
            if error.code < 500 and error.code != 429:
                break
        except (OSError, HTTPException, ValueError) as error:
            reason = (
                type(error).__name__ if isinstance(error, HTTPException | ValueError) else str(getattr(error, "reason", error))
            )
        if attempt + 1 < TRIES:
            time.sleep(2.0**attempt)
    log.warning("webhook %s: %s; the message on %s is lost", host_of(url), sanitized(reason), message.get("scene"))
    return False
