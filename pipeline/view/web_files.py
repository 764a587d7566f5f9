"""Files of the page: its own, and MapLibre GL JS from the wheel that carries it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from geoseg.errors import ConfigError

__all__ = ["PAGE", "TYPES", "page_files"]

PAGE = "index.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".webp": "image/webp",
    ".pbf": "application/x-protobuf",
}
"""Media types by ending; nothing else is served."""
WHEEL, VENDOR = "maplibre", ("maplibre-gl.js", "maplibre-gl.css")


def page_files() -> dict[str, Path]:
    """All files of the page by their name in addresses.

    Raises:
        ConfigError: The wheel with MapLibre GL JS is not installed.
    """
    own = Path(__file__).with_name("page")
    found = {path.name if path.name == PAGE else f"app/{path.name}": path for path in sorted(own.iterdir()) if path.is_file()}
    try:
        wheel = distribution(WHEEL)
    except PackageNotFoundError as error:
        raise ConfigError("view needs MapLibre GL JS, which is not installed: pip install 'geoseg[view]'") from error
    for name in VENDOR:
        path = Path(str(wheel.locate_file(f"{WHEEL}/srcjs/{name}")))
        if not path.is_file():
            raise ConfigError(f"the package {WHEEL} {wheel.version} holds no {name}: pip install 'geoseg[view]'")
        found[f"vendor/{name}"] = path
    return found
