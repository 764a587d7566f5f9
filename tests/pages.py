"""Reads a page as a browser would, and refuses what a page may not have."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

VOID = {"meta", "img", "input", "br", "link", "hr"}
CLOSED_BY_ITSELF = {"circle", "rect", "line", "path"}


@dataclass
class ReadPage(HTMLParser):
    """Tags, texts and addresses of a page."""

    text: str = ""
    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        HTMLParser.__init__(self)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), (tag, attrs)
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in CLOSED_BY_ITSELF, tag
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1:] == [tag], f"</{tag}> within {self._open[-3:]}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("script", "style"):
            return
        self.text += data
        if self.rows and {"th", "td"} & set(self._open[-4:]):
            self.rows[-1][-1] += data.strip()

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.tags if name == tag]

    def row(self, head: str) -> list[str]:
        (found,) = [row for row in self.rows if row and row[0] == head and len(row) > 1][:1]
        return found


def read_page(path: Path) -> ReadPage:
    """A page that is well-formed, readable for all, asks for nothing from elsewhere, and whose links lead somewhere."""
    source = path.read_text(encoding="utf-8")
    assert len(source.encode()) < 3 << 20
    page = ReadPage()
    page.feed(source)
    page.close()
    assert not page._open
    assert source.startswith("<!DOCTYPE html>")
    assert page.all("html") == [{"lang": "en"}]
    assert all(len(page.all(tag)) == 1 for tag in ("h1", "main", "header", "footer", "head"))
    assert all(image["alt"].strip() and image["src"].startswith("data:image/") for image in page.all("img"))
    assert all(head.get("scope") in ("col", "row") for head in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(set(ids)) == len(ids)
    assert all(section["aria-labelledby"] in ids for section in page.all("section"))
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'; img-src data:;")
    for tag, attrs in page.tags:
        assert not {"srcset", "onload", "onerror", "onclick", "style", "action"} & set(attrs) or tag in ("g", "path"), (
            tag,
            attrs,
        )
        assert tag not in ("link", "iframe", "object", "embed", "base", "form"), tag
        for name in ("href", "src"):
            where = attrs.get(name)
            if where is None or where.startswith(("data:", "#")):
                assert where != "#"
                assert where is None or not where.startswith("#") or where[1:] in ids
            elif where.startswith("https://"):
                assert where.startswith("https://spdx.org/licenses/")
            else:
                assert (path.parent / unquote(where)).exists(), where
    return page
