"""A page as text: one HTML file that needs no other file, no network, and no script.

The only script moves the swipe between two pictures, which stand side by side without it. A content security policy forbids all
else, so that not even a mistake of ours could have a browser fetch something.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from geoseg.formats.page.elements import Page
from geoseg.formats.text import clean
from geoseg.redaction import redact

if TYPE_CHECKING:
    import jinja2

__all__ = ["render"]

FOLDER = Path(__file__).parent
TEMPLATE, STYLE, SCRIPT = "page.html.jinja", "page.css", "swipe.js"


def render(page: Page) -> str:
    """The page as HTML; the same page gives the same text."""
    style, script = ((FOLDER / name).read_text(encoding="utf-8") for name in (STYLE, SCRIPT))
    return _environment().get_template(TEMPLATE).render(page=page, style=style, script=script, script_hash=_hash(script))


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters["address"] = _address
    return environment


def _shown(value: object) -> object:
    """A text as it may be shown: without secrets, ends of lines and marks of direction; what is marked as HTML stays."""
    if type(value) is not str or value.startswith("data:image/"):
        return value
    return clean(redact(value))


def _address(name: str) -> str:
    """A relative path as an address: a name may hold ``#``, ``?``, a colon or a blank; licences have theirs already."""
    return name if name.startswith("https://") else "./" + quote(name, safe="/")


def _hash(text: str) -> str:
    """The source of a text as a content security policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
