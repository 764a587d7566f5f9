"""View: outputs and files in a browser, from a server on loopback or as a static folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from geoseg.errors import ConfigError
from pipeline.view.ending import ended_by_signals
from pipeline.view.gallery import Gallery
from pipeline.view.viewed_inputs import find_all
from pipeline.view.web_files import page_files

__all__ = ["open_gallery", "view"]

BASEMAP = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-9]+)?/[^\s\"'<>]*")
"""Its server goes into the policy of the page, which is a text of its own syntax."""
PLACES = ("{z}", "{x}", "{y}")


def open_gallery(inputs: Sequence[Path], basemap: str | None = None) -> Gallery:
    """What is shown.

    Raises:
        ConfigError: There is nothing to show, or the basemap's address is none of tiles.
        GeosegError: The first map can't be read.
    """
    if basemap is not None and not (BASEMAP.fullmatch(basemap) and all(place in basemap for place in PLACES)):
        raise ConfigError(f"--basemap: {basemap!r} is no address of tiles; write https://server/path/{{z}}/{{x}}/{{y}}.png")
    page_files()
    return Gallery(find_all(inputs), basemap)


def view(
    inputs: Sequence[Path], say: Callable[[str], None], *, basemap: str | None = None, port: int = 0, browser: bool = True
) -> None:
    """Serve what is shown until Ctrl-C or SIGTERM; raises as ``open_gallery`` and ``serve``."""
    with ended_by_signals():
        from pipeline.view.serving import serve

        serve(open_gallery(inputs, basemap), port, say, browser=browser)
