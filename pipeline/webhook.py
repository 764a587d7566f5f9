"""Messages to a webhook: what became of a scene."""

from __future__ import annotations

import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from geoseg.deadline import within
from geoseg.scenes.remote import shown

__all__ = ["notify"]

log = logging.getLogger(__name__)
TRIES, TIMEOUT_S = 3, 10.0
MOST_S = 45.0
"""Seconds that a message may take in all: a server can answer a byte now and then."""


def notify(url: str, message: Mapping[str, Any]) -> bool:
    """POST a message as JSON; says whether it arrived. A webhook that is down is a warning: no map is lost for it."""
    try:
        return within(MOST_S, lambda: _send(url, message), "geoseg-webhook")
    except TimeoutError as error:
        log.warning("webhook %s: %s; the message on %s is lost", shown(url), error, message.get("scene"))
        return False


def _send(url: str, message: Mapping[str, Any]) -> bool:
    body = json.dumps(message, ensure_ascii=False).encode()
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"}, method="POST")
    reason = ""
    for attempt in range(TRIES):
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S):
                return True
        except urllib.error.HTTPError as error:
            reason = f"the server answers {error.code}"
            if error.code < 500 and error.code != 429:
                break
        except OSError as error:
            reason = str(getattr(error, "reason", error))
        if attempt + 1 < TRIES:
            time.sleep(2.0**attempt)
    log.warning("webhook %s: %s; the message on %s is lost", shown(url), reason, message.get("scene"))
    return False
