"""View: outputs and files in a browser, from a server on loopback or as a static folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from geoseg.errors import ConfigError
from pipeline.view.assets import page_files
from pipeline.view.found import find_all
from pipeline.view.gallery import Gallery

__all__ = ["open_gallery", "view"]

SCHEMES = ("https://", "http://")
PLACES = ("{z}", "{x}", "{y}")


def open_gallery(inputs: Sequence[Path], basemap: str | None = None) -> Gallery:
    """What is shown.

    Raises:
        ConfigError: There is nothing to show, or the basemap's address is none of tiles.
        GeosegError: The first map can't be read.
    """
    if basemap is not None and not (basemap.startswith(SCHEMES) and all(place in basemap for place in PLACES)):
        raise ConfigError(f"--basemap: {basemap!r} is no address of tiles; write https://server/path/{{z}}/{{x}}/{{y}}.png")
    page_files()
    return Gallery(find_all(inputs), basemap)


def view(
    inputs: Sequence[Path], say: Callable[[str], None], *, basemap: str | None = None, port: int = 0, browser: bool = True
) -> None:
    """Serve what is shown until Ctrl-C; raises as ``open_gallery`` and ``serve``."""
    from pipeline.view.serving import serve

    serve(open_gallery(inputs, basemap), port, say, browser=browser)
