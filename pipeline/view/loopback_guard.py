"""Who may ask: a page of this very server, with the token of its address.

A name of a stranger's can be made to lead to loopback (DNS rebinding), and any page can send requests there: so the ``Host``
must be loopback's, an ``Origin`` the server's own, and the token in the path right. Answers forbid whatever the page doesn't use.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["MOST_POSTED", "Guard", "policy"]

READING = ("GET", "HEAD")
MOST_POSTED = 1 << 20
"""Bytes of what a page sends."""
LOOPBACK = ("127.0.0.1", "localhost")


def policy(basemap: str | None) -> str:
    """The content security policy of all answers: scripts and data of this server alone, and images of a basemap."""
    tiles = "" if basemap is None else f" {basemap}"
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:{tiles}; connect-src 'self'{tiles}; "
        "worker-src blob:; child-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class Guard:
    """Stands before an application."""

    def __init__(self, app: ASGIApp, token: str, port: int, basemap: str | None = None, posts: Collection[str] = ()) -> None:
        """Guard an application.

        Args:
            app: The application.
            token: What its addresses begin with.
            port: Where the server listens.
            basemap: The origin of the basemap's tiles.
            posts: Paths behind the token to which the page may send JSON; all else only reads.
        """
        self._posts = {f"/{token}/{path}" for path in posts}
        self._app, self._token = app, token.encode()
        # Browsers leave the port of HTTP away.
        self._hosts = {(name if port == 80 else f"{name}:{port}").encode() for name in LOOPBACK}
        self._origins = {b"http://" + host for host in self._hosts}
        self._headers = [
            (b"content-security-policy", policy(basemap).encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-resource-policy", b"same-origin"),
            (b"cross-origin-opener-policy", b"same-origin"),
            (b"x-frame-options", b"DENY"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._headers]
            await send(message)

        status = self._refusal(scope)
        if status is not None:
            await answer({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
            await answer({"type": "http.response.body", "body": b"refused\n"})
            return
        await self._app(scope, receive, answer)

    def _refusal(self, scope: Scope) -> int | None:
        """The status of a refusal; None where the request is one of the page's own."""
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        if len(headers.get(b"host", ())) != 1 or headers[b"host"][0] not in self._hosts:
            return 421
        if any(origin not in self._origins for origin in headers.get(b"origin", ())):
            return 403
        if scope["method"] not in READING and not (scope["method"] == "POST" and scope["path"] in self._posts):
            return 405
        first = scope["path"].encode().lstrip(b"/").split(b"/", 1)[0]
        if not secrets.compare_digest(first, self._token):
            return 404
        return _refused_post(headers) if scope["method"] == "POST" else None


def _refused_post(headers: Mapping[bytes, list[bytes]]) -> int | None:
    """The status of the refusal of what is sent: of a page that does not say that it is ours, no JSON, too long or no length."""
    if len(headers.get(b"origin", ())) != 1:
        return 403
    if headers.get(b"content-type") != [b"application/json"]:
        return 415
    length = headers.get(b"content-length", [b""])
    if len(length) != 1 or not length[0].isdigit():
        return 411
    return 413 if len(length[0]) > 10 or int(length[0]) > MOST_POSTED else None
