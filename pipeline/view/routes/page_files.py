"""The page, its scripts and styles: a fixed list of files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from pipeline.view.web_files import PAGE, TYPES

__all__ = ["page_routes"]


def page_routes(files: Mapping[str, Path]) -> list[BaseRoute]:
    """Routes of the files of the page; a name that is not among them is not there."""

    def file(request: Request) -> Response:
        name = request.path_params.get("name") or PAGE
        path = files.get(name)
        if path is None:
            return Response("not found\n", 404, media_type="text/plain")
        return FileResponse(path, headers={"content-type": TYPES[PurePosixPath(name).suffix], "cache-control": "no-cache"})

    return [Route("/", file), Route("/{name:path}", file)]
