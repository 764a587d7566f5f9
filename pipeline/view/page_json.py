"""JSON for the page."""

from __future__ import annotations

import json

from geoseg.documents import Json

__all__ = ["as_text"]


def as_text(document: Json) -> str:
    """JSON of UTF-8, in which numbers that are not finite have no place."""
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
