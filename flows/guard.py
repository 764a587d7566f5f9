"""A guard before a web application: only requests that name the server rightly and come from its own pages get in.

Any page in any browser of this machine can send requests to loopback. Such a page betrays itself: the browser names its
``Origin`` or says ``Sec-Fetch-Site``. A page that has its own name resolved to 127.0.0.1 (DNS rebinding) is of the same
origin to the browser, but sends that name as ``Host``. Programs send neither header and name the host that they ask.
Sources: RFC 6454 (Origin), RFC 9110 section 7.2 (Host), W3C Fetch Metadata, RFC 6455 section 10.2 (WebSocket).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Doors", "Guard"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

POLICY_VIOLATION = 1008
HARDENING = (
    # No other page shows this one in a frame and has clicks on it.
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
)


@dataclass(frozen=True, slots=True)
class Doors:
    """The names, with ports, under which a server may be asked: ``127.0.0.1:4200``."""

    hosts: frozenset[str]

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins of the server's own pages, sorted."""
        return tuple(sorted(f"{scheme}://{host}" for scheme in ("http", "https") for host in self.hosts))

    def refusal(self, headers: Headers, *, method: str = "GET", path: str = "/") -> str | None:
        """Say why a request does not get in; None where it does.

        Args:
            headers: Its headers.
            method: Its method.
            path: Its path; a link on a foreign page may lead to a page of this server, but not to its API.
        """
        given: dict[str, list[str]] = {}
        for name, value in headers:
            given.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1").strip().lower())
        host, origin = given.get("host", []), given.get("origin", [])
        if len(host) != 1 or host[0] not in self.hosts:
            return f"Host {_shown(host)} is not a name of this server"
        if origin:
            return None if len(origin) == 1 and origin[0] in self.origins else f"Origin {_shown(origin)} is not this server's"
        # Browsers leave Origin out of plain reads, and say where those come from in another header.
        site = given.get("sec-fetch-site", ["none"])
        if all(text in ("none", "same-origin") for text in site):
            return None
        link = (given.get("sec-fetch-mode"), given.get("sec-fetch-dest")) == (["navigate"], ["document"])
        if link and method in ("GET", "HEAD") and path.split("/")[1:2] != ["api"]:
            return None
        return f"Sec-Fetch-Site {_shown(site)}: a page of another site asks"


def _shown(values: list[str]) -> str:
    text = ", ".join(values)[:100]
    return repr(text) if values else "(none)"


class Guard:
    """The application behind the guard, for HTTP and WebSocket."""

    def __init__(self, application: Application, doors: Doors) -> None:
        self._application, self._doors = application, doors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request: 403 with one sentence, or what the application says."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        reason = self._doors.refusal(scope["headers"], method=scope.get("method", "GET"), path=scope["path"])
        if reason is not None:
            await _refuse(scope, send, reason)
        elif scope["type"] == "http":
            await self._application(scope, receive, _hardened(send))
        else:
            await self._application(scope, receive, send)


async def _refuse(scope: Scope, send: Send, reason: str) -> None:
    socket = scope["type"] == "websocket"
    if socket and "websocket.http.response" not in (scope.get("extensions") or {}):
        # Before it is accepted, the server makes a 403 of this.
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": reason})
        return
    body = f"geoseg: refused: {reason}; GEOSEG_SERVER_HOSTS of the server lists its names\n".encode()
    kind = "websocket.http.response" if socket else "http.response"
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode()), *HARDENING]
    await send({"type": f"{kind}.start", "status": 403, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})


def _hardened(send: Send) -> Send:
    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *HARDENING]}
        await send(message)

    return answer
