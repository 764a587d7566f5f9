"""The application: routes of several modules behind one guard. What is to be added brings routes of its own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pipeline.view.gallery import Gallery
from pipeline.view.loopback_guard import Guard
from pipeline.view.web_files import page_files

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.routing import BaseRoute

__all__ = ["application"]


def application(gallery: Gallery, token: str, port: int, more: Sequence[BaseRoute] = (), posts: Collection[str] = ()) -> Guard:
    """The guarded application.

    Args:
        gallery: What is shown.
        token: What its addresses begin with.
        port: Where it listens.
        more: Routes beside those of the view, which come first.
        posts: Paths of these to which the page may send JSON.

    Raises:
        ConfigError: Files of the page are missing.
    """
    from starlette.applications import Starlette
    from starlette.routing import Mount

    from pipeline.view.routes.map_documents import document_routes
    from pipeline.view.routes.page_files import page_routes
    from pipeline.view.routes.tile_answers import tile_routes

    routes = [*more, *document_routes(gallery), *tile_routes(gallery), *page_routes(page_files())]
    app = Starlette(routes=[Mount(f"/{token}", routes=routes)], lifespan=_few_threads)
    return Guard(app, token, port, gallery.basemap_origin, posts)


@asynccontextmanager
async def _few_threads(app: Starlette) -> AsyncIterator[None]:
    """Have few tiles read at once: each thread holds files open."""
    from anyio.to_thread import current_default_thread_limiter

    del app
    current_default_thread_limiter().total_tokens = 2 + (os.cpu_count() or 1)
    yield
