"""What the page is told in JSON: the maps, the layers of each, and its polygons."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from geoseg.documents import Json
from geoseg.errors import ConfigError, GeosegError
from pipeline.view.gallery import Gallery
from pipeline.view.page_json import as_text

__all__ = ["document_routes"]


def document_routes(gallery: Gallery) -> list[BaseRoute]:
    """Routes of the documents."""

    def view(request: Request) -> Response:
        del request
        return _answer(gallery.document)

    def one(request: Request) -> Response:
        return _answer(lambda: gallery.map(request.path_params["number"]).document())

    def polygons(request: Request) -> Response:
        def told() -> Mapping[str, Json]:
            layer = gallery.map(request.path_params["number"]).polygons
            return {"state": "none"} if layer is None else layer.document()

        return _answer(told)

    return [
        Route("/view.json", view),
        Route("/maps/{number:int}/map.json", one),
        Route("/maps/{number:int}/polygons.json", polygons),
    ]


def _answer(told: Callable[[], Mapping[str, Json]]) -> Response:
    try:
        document, status = told(), 200
    except ConfigError as error:
        document, status = {"message": str(error)}, 404
    except GeosegError as error:
        document, status = {"message": str(error)}, 500
    return Response(as_text(document), status, media_type="application/json", headers={"cache-control": "no-store"})
