"""Tiles of rasters and polygons."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from geoseg.errors import GeosegError
from geoseg.tiles.web_mercator import Tile
from pipeline.view.gallery import Gallery
from pipeline.view.web_files import TYPES

__all__ = ["tile_routes"]

FRESH = {"cache-control": "no-store"}


def tile_routes(gallery: Gallery) -> list[BaseRoute]:
    """Routes of the tiles of all maps; only layers that are open have any."""

    def raster(request: Request) -> Response:
        asked = request.path_params
        layer = gallery.map(asked["number"]).rasters.get(asked["layer"])
        if layer is None or layer.tiles.suffix != asked["suffix"]:
            return _missing()
        return _answer(asked, f".{layer.tiles.suffix}", layer.tiles.picture)

    def polygons(request: Request) -> Response:
        layer = gallery.map(request.path_params["number"]).polygons
        return _missing() if layer is None else _answer(request.path_params, ".pbf", layer.tile)

    return [
        Route("/maps/{number:int}/polygons/{z:int}/{x:int}/{y:int}.pbf", polygons),
        Route("/maps/{number:int}/{layer}/{z:int}/{x:int}/{y:int}.{suffix}", raster),
    ]


def _answer(asked: dict[str, int], suffix: str, read: Callable[[Tile], bytes | None]) -> Response:
    tile = Tile(asked["z"], asked["x"], asked["y"])
    if not tile.is_there:
        return _missing()
    try:
        body = read(tile)
    except GeosegError as error:
        return Response(str(error), 500, media_type="text/plain", headers=FRESH)
    return _missing() if body is None else Response(body, media_type=TYPES[suffix], headers=FRESH)


def _missing() -> Response:
    return Response("not found\n", 404, media_type="text/plain", headers=FRESH)
