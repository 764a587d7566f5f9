"""The server: on loopback alone, until Ctrl-C."""

from __future__ import annotations

import secrets
import socket
import webbrowser
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from geoseg.errors import ConfigError
from pipeline.view.application import application
from pipeline.view.ending import ended_by_signals
from pipeline.view.gallery import Gallery

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

__all__ = ["HOST", "serve"]

HOST = "127.0.0.1"
TOKEN_BYTES = 24
GRACE_S = 2
"""Seconds that answers under way get when the server ends."""


def serve(
    gallery: Gallery,
    port: int,
    say: Callable[[str], None],
    *,
    browser: bool,
    more: Sequence[BaseRoute] = (),
    posts: Collection[str] = (),
) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        gallery: What is shown.
        port: Where; 0 for any that is free.
        say: Is told the address.
        browser: Whether to open it in the user's browser.
        more: Routes beside those of the view.
        posts: Paths of these to which the page may send JSON.

    Raises:
        ConfigError: The port is taken, or the server is not installed.
    """
    try:
        import uvicorn
    except ModuleNotFoundError as error:
        raise ConfigError(f"view needs {error.name}, which is not installed: pip install 'geoseg[view]'") from error
    token = secrets.token_urlsafe(TOKEN_BYTES)
    with ended_by_signals(), _bound(port) as bound:
        port = bound.getsockname()[1]
        config = uvicorn.Config(
            application(gallery, token, port, more, posts),
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=GRACE_S,
        )
        address = f"http://{HOST}:{port}/{token}/"
        # The socket listens already: who opens the address at once waits for the first answer.
        say(address)
        if browser:
            webbrowser.open(address)
        uvicorn.Server(config).run(sockets=[bound])


def _bound(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((HOST, port))
    except OSError as error:
        bound.close()
        raise ConfigError(f"--port {port}: can't be used: {error.strerror}; choose another, or leave it out") from error
    bound.listen(128)
    return bound
