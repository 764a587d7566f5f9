"""The maps of a folder beside Prefect's pages, below ``/maps/``: read only, nothing hidden, no listing."""

from __future__ import annotations

import base64
import hmac
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.staticfiles import StaticFiles

from flows.guard import Application, Message, Receive, Scope, Send
from flows.pages.page_links import PREFIX

__all__ = ["ServedMaps"]

# A report that was made here is a stranger to Prefect's pages all the same: with an origin of its own it can't ask their API.
ISOLATED = (
    (b"content-security-policy", b"sandbox allow-scripts allow-popups allow-downloads"),
    (b"cache-control", b"no-cache"),
)


class ServedMaps:
    """An application, with the files of a folder below ``/maps/``."""

    def __init__(self, application: Application, folder: Path, password: str | None) -> None:
        """Serve a folder.

        Args:
            application: What answers all else.
            folder: Of maps; links that lead out of it are not followed.
            password: ``user:password`` that is asked for; None for everyone who gets in.
        """
        self._application = application
        self._files = StaticFiles(directory=folder, check_dir=False)
        self._password = None if password is None else b"Basic " + base64.b64encode(password.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        path = scope.get("path", "")
        if scope["type"] != "http" or not path.startswith(PREFIX):
            await self._application(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"authorization", b"")
        if self._password is not None and not hmac.compare_digest(given, self._password):
            answer = PlainTextResponse("geoseg: user and password, please\n", 401, {"WWW-Authenticate": 'Basic realm="geoseg"'})
            await answer(scope, receive, send)
            return
        inside = path.removeprefix(PREFIX)
        hidden = any(part.startswith(".") for part in inside.split("/"))
        try:
            response = None if hidden else await self._files.get_response(inside, scope)
        except HTTPException:
            response = None
        response = response or PlainTextResponse(f"geoseg: {inside[:200]!r}: no such file here\n", 404)
        await response(scope, receive, _isolated(send))


def _isolated(send: Send) -> Send:
    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *ISOLATED]}
        await send(message)

    return answer
