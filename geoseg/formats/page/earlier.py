"""The pictures of a page that was written before, for the page that takes its place."""

from __future__ import annotations

import html.parser
from dataclasses import replace
from pathlib import Path

from geoseg.formats.page.elements import Picture

__all__ = ["earlier_pictures"]


def earlier_pictures(path: Path) -> tuple[Picture, ...]:
    """The pictures of a page that was written before; none where it can't be read."""
    reader = _Images()
    try:
        reader.feed(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ()
    return tuple(reader.found)


class _Images(html.parser.HTMLParser):
    """Collects the figures of the first row of pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Picture] = []
        self._captioned = self._ended = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = {name: value or "" for name, value in attrs}
        if tag == "ul":
            self._ended = self._ended or bool(self.found)
        elif tag == "img" and not self._ended:
            size = int(facts["width"]), int(facts["height"])
            self.found.append(Picture(facts["src"], *size, facts["alt"], crisp=facts.get("class") == "crisp"))
        self._captioned = tag == "figcaption" and not self._ended

    def handle_data(self, data: str) -> None:
        if self._captioned:
            self.found[-1] = replace(self.found[-1], caption=self.found[-1].caption + data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "figcaption":
            self._captioned = False
