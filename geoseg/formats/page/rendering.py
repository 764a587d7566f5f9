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
from geoseg.redaction import environment_secrets, without_secrets

if TYPE_CHECKING:
    import jinja2
    import jinja2.runtime

__all__ = ["render"]

FOLDER = Path(__file__).parent
TEMPLATE, STYLE, SCRIPT = "page.html.jinja", "page.css", "swipe.js"


def render(page: Page) -> str:
    """The page as HTML; the same page gives the same text."""
    style, script = ((FOLDER / name).read_text(encoding="utf-8") for name in (STYLE, SCRIPT))
    template = _environment().get_template(TEMPLATE)
    return template.render(page=page, style=style, script=script, script_hash=_hash(script), secrets=environment_secrets())


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    from geoseg.formats.page.compiled import CompiledTemplates

    @jinja2.pass_context
    def shown(context: jinja2.runtime.Context, value: object) -> object:
        return _shown(value, context["secrets"])

    environment = jinja2.Environment(
        bytecode_cache=CompiledTemplates(Path(__file__).read_text(encoding="utf-8")),
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=shown,
    )
    environment.filters["address"] = _address
    return environment


def _shown(value: object, secrets: tuple[str, ...]) -> object:
    """A text as it may be shown: without secrets, ends of lines and marks of direction; what is marked as HTML stays."""
    if type(value) is not str or value.startswith("data:image/"):
        return value
    return clean(without_secrets(value, secrets))


def _address(name: str) -> str:
    """A relative path as an address: a name may hold ``#``, ``?``, a colon or a blank; licences have theirs already."""
    return name if name.startswith("https://") else "./" + quote(name, safe="/")


def _hash(text: str) -> str:
    """The source of a text as a content security policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
