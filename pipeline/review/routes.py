"""Answers to the page of reviews: its files, what is to be decided, and what was, which is the one thing that is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from geoseg.documents import Json, parse_json
from geoseg.errors import ConfigError, GeosegError
from pipeline.review.desk import Desk
from pipeline.view.page_json import as_text
from pipeline.view.web_files import PAGE, TYPES, page_files

__all__ = ["POSTS", "review_routes"]

POSTS = ("review/decisions",)
OWN = Path(__file__).with_name("page")
HEAD = "</head>"
ADDED = '  <link rel="stylesheet" href="app/review.css">\n  <script src="app/{script}" type="module"></script>\n'
REVIEW = "review.js"


def review_routes(desk: Desk, script: str = REVIEW) -> list[BaseRoute]:
    """Routes of one person's work; the view's own come behind them.

    Args:
        desk: What they work at.
        script: Of the panel.
    """
    page = page_files()[PAGE].read_text(encoding="utf-8")
    assert HEAD in page, "the page has a head"
    page = page.replace(HEAD, f"{ADDED.format(script=script)}{HEAD}", 1)

    def index(request: Request) -> Response:
        del request
        return Response(page, media_type=TYPES[".html"], headers={"cache-control": "no-cache"})

    def state(request: Request) -> Response:
        del request
        return _answer(desk.state)

    def queue(request: Request) -> Response:
        del request
        return _answer(desk.queue)

    def polygon(request: Request) -> Response:
        return _answer(lambda: desk.polygon(request.path_params["row"]))

    async def decisions(request: Request) -> Response:
        body = await request.body()
        return await run_in_threadpool(_answer, lambda: desk.decide(parse_json(body, "decision", ConfigError)))

    return [
        Route("/", index),
        *(_file(path) for path in sorted(OWN.iterdir()) if path.suffix in TYPES),
        Route("/review/state.json", state),
        Route("/review/queue.json", queue),
        Route("/review/polygons/{row:int}.json", polygon),
        Route(f"/{POSTS[0]}", decisions, methods=["POST"]),
    ]


def _file(path: Path) -> Route:
    def answer(request: Request) -> Response:
        del request
        return FileResponse(path, headers={"content-type": TYPES[path.suffix], "cache-control": "no-cache"})

    return Route(f"/app/{path.name}", answer)


def _answer(told: Callable[[], Mapping[str, Json]]) -> Response:
    try:
        document, status = told(), 200
    except ConfigError as error:
        document, status = {"message": str(error)}, 422
    except GeosegError as error:
        document, status = {"message": str(error)}, 500
    return Response(as_text(document), status, media_type="application/json", headers={"cache-control": "no-store"})
