"""The view as a static folder: the page, its documents and all tiles as files, which any web server serves."""

from __future__ import annotations

import html
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from geoseg.dialect import number_of
from geoseg.documents import Json
from geoseg.tiles.web_mercator import Tile, tiles_within
from pipeline.files.outputs import atomic_folder
from pipeline.view.gallery import Gallery
from pipeline.view.loopback_guard import policy
from pipeline.view.opened import OpenedMap
from pipeline.view.page_json import as_text
from pipeline.view.web_files import PAGE, page_files

__all__ = ["export"]

Job = tuple[Path, Callable[[Tile], bytes | None], Tile]
TOLD = 1000
"""Tiles between two words of progress."""
IN_HEADERS = "; frame-ancestors"
"""What a page can't say of itself."""


def export(gallery: Gallery, out: Path, say: Callable[[str], None], *, overwrite: bool = False) -> int:
    """Write all maps of a view.

    Args:
        gallery: What is shown.
        out: The folder, which is there whole or not at all.
        say: Is told how far it is.
        overwrite: Replace what an earlier export has written there.

    Returns:
        Number of tiles.

    Raises:
        OutputError: The folder may not be written.
        GeosegError: A map can't be read.
    """
    tiles = 0
    with atomic_folder(out, replace=overwrite) as folder:
        _write_page(folder, gallery)
        _write(folder / "view.json", gallery.document(static=True))
        for number in range(len(gallery)):
            tiles += _write_map(folder / "maps" / str(number), gallery.map(number), say)
    return tiles


def _write_page(folder: Path, gallery: Gallery) -> None:
    for name, path in page_files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)
    said = html.escape(policy(gallery.basemap_origin).partition(IN_HEADERS)[0])
    page = (folder / PAGE).read_text(encoding="utf-8")
    meta = '<meta charset="utf-8">'
    assert meta in page, "the page says its encoding"
    (folder / PAGE).write_text(
        page.replace(meta, f'{meta}\n  <meta http-equiv="Content-Security-Policy" content="{said}">'), encoding="utf-8"
    )


def _write(path: Path, document: Json) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(as_text(document), encoding="utf-8")


def _write_map(folder: Path, opened: OpenedMap, say: Callable[[str], None]) -> int:
    _write(folder / "map.json", opened.document())
    if opened.polygons is not None:
        opened.polygons.wait()
    _write(folder / "polygons.json", {"state": "none"} if opened.polygons is None else opened.polygons.document())
    written = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = _jobs(folder, opened)
        while batch := list(islice(jobs, TOLD)):
            written += sum(pool.map(_write_tile, batch))
            say(f"{opened.found.name}: {number_of(written, 'tile')}")
    return written


def _jobs(folder: Path, opened: OpenedMap) -> Iterator[Job]:
    """All tiles of a map, those of one level after the other."""
    for name, layer in opened.rasters.items():
        place = layer.tiles.place
        for zoom in range(place.min_zoom, place.max_zoom + 1):
            for tile in tiles_within(place.box, zoom):
                yield _place(folder / name, tile, layer.tiles.suffix), layer.tiles.picture, tile
    tiles = None if opened.polygons is None else opened.polygons.tiles
    if tiles is not None and len(tiles.store):
        for zoom in range(tiles.max_zoom + 1):
            for tile in tiles_within(tiles.store.box, zoom):
                yield _place(folder / "polygons", tile, "pbf"), tiles.tile, tile


def _place(folder: Path, tile: Tile, suffix: str) -> Path:
    return folder / str(tile.z) / str(tile.x) / f"{tile.y}.{suffix}"


def _write_tile(job: Job) -> bool:
    path, read, tile = job
    body = read(tile)
    if not body:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    return True
