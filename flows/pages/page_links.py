"""Keys of pages in Prefect, addresses of maps that a browser opens, and texts of strangers in Markdown.

``GEOSEG_SERVER_MAPS`` is the folder that the server serves, ``GEOSEG_MAPS_URL`` its address; without both, a page names
files and links none: a page of a server can't lead into the disks of the machine that looks at it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

from geoseg.formats.text import html_text
from geoseg.redaction import redact

__all__ = ["MAPS", "MAPS_URL", "PREFIX", "file_address", "link", "markdown_table", "markdown_text", "page_key"]

MAPS, MAPS_URL = "GEOSEG_SERVER_MAPS", "GEOSEG_MAPS_URL"
PREFIX = "/maps/"
"""Where the server has the maps."""
READABLE = 60
MARKUP = re.compile(r"[\\`*|\[\]!#~]")


def page_key(kind: str, folder: Path, name: str = "") -> str:
    """The key of a page: the same for the same folder and scene, another for any other (``[a-z0-9-]``, as Prefect asks).

    Args:
        kind: Of the page: ``scene`` or ``scan``.
        folder: The output folder; two may have one name.
        name: The scene.
    """
    where = str(folder.resolve())
    readable = re.sub("[^a-z0-9]+", "-", f"{kind} {Path(where).name} {name}".lower()).strip("-")[:READABLE].strip("-")
    digest = hashlib.sha256(f"{where}\0{name}".encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"{readable}-{digest}"


def file_address(path: Path) -> str | None:
    """The address of a file of an output folder; None where it is not served."""
    root, address = os.environ.get(MAPS), os.environ.get(MAPS_URL)
    if not root or not address:
        return None
    try:
        inside = path.resolve().relative_to(Path(root).resolve())
    except ValueError:
        return None
    return f"{address.rstrip('/')}/{quote(inside.as_posix())}"


def link(text: str, path: Path) -> str:
    """A link to a file, or its name where it is not served."""
    address = file_address(path)
    return markdown_text(text) if address is None else f"[{markdown_text(text)}]({address})"


def markdown_text(text: str) -> str:
    """A text for Markdown, in which nothing is markup and nothing is secret."""
    return MARKUP.sub(lambda found: f"&#{ord(found[0])};", html_text(redact(text)))


def markdown_table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table; its cells are Markdown already."""
    return [
        "| " + " | ".join(names) + " |",
        "|" + "---|" * len(names),
        *("| " + " | ".join(cells) + " |" for cells in rows),
        "",
    ]
