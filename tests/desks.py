"""Asks servers at which people review or label."""

from __future__ import annotations

import http.client
import json
import time

from support import LIMIT_S


def ask(
    server: tuple[str, int, str], path: str, body: bytes | str | None = None, method: str | None = None, **headers: str
) -> tuple[int, dict]:
    connection = http.client.HTTPConnection(server[0], server[1], timeout=LIMIT_S)
    own = {} if body is None else {"Origin": f"http://{server[0]}:{server[1]}", "Content-Type": "application/json"}
    given = {name.replace("_", "-"): text for name, text in headers.items()}
    try:
        connection.request(
            method or ("GET" if body is None else "POST"), path, body, {k: v for k, v in {**own, **given}.items() if v}
        )
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text.startswith(b"{") else {"text": text.decode("latin-1")}
    finally:
        connection.close()


def queue_of(server: tuple[str, int, str]) -> dict:
    for _ in range(LIMIT_S * 10):
        _, document = ask(server, f"{server[2]}review/queue.json")
        if document["state"] == "ready":
            return document
        time.sleep(0.1)
    raise AssertionError("the polygons were never read")
