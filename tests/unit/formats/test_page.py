"""A page: one file that asks for nothing, whatever strangers have named their scenes."""

from __future__ import annotations

import sys
from pathlib import Path

import jinja2
import numpy as np
import pytest
from pages import read_page

from geoseg.formats.page.amounts import area_text, percent, seconds_text
from geoseg.formats.page.compiled import CompiledTemplates
from geoseg.formats.page.earlier import earlier_pictures
from geoseg.formats.page.elements import (
    Cell,
    Entry,
    Facts,
    Histogram,
    Link,
    Links,
    Minded,
    Notes,
    Page,
    Pictures,
    Section,
    Swatch,
    Table,
    Words,
)
from geoseg.formats.page.embedding import drawing, photo, scale_bar
from geoseg.formats.page.minding import ranked
from geoseg.formats.page.rendering import render

HOSTILE = "</title><script>alert(1)</script><img src=http://evil.example/x onerror=alert(1)>\" ' & {{ 7*7 }} \u202e"


def page_of(text: str) -> Page:
    image = np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3)
    pictures = (photo(image, text, f"Before {text}"), drawing(image // 64, text, text))
    parts = (
        Words(text),
        Pictures(pictures, (Swatch("#ff0000", text),), scale_bar(60, 10.0), swipe=True),
        Table.of(text, (text, f"#{text}"), [[Cell(text, color="#00ff00", share=0.25, tone="bad"), text]]),
        Histogram(text, text, text, ((text, 0.5), ("50", 0.5))),
        Notes((Minded(text, 3),)),
        Facts((Entry(text, text),), folded=text),
        Links((Link("a #?&'\" :b.txt", text),)),
    )
    return Page(text, text, (Entry(text, text, tone="warn"),), (Section(text, parts),), Entry(text, text, tone="bad"), text)


def test_texts_of_strangers_stay_texts(tmp_path: Path) -> None:
    (tmp_path / "a #?&'\" :b.txt").touch()
    (tmp_path / "report.html").write_text(render(page_of(HOSTILE)), encoding="utf-8")
    page = read_page(tmp_path / "report.html")
    shown = HOSTILE.replace("\u202e", " ")
    assert page.text.count(shown.strip()) >= 18
    assert len(page.all("script")) == 1
    assert "\u202e" not in page.text
    assert "49" not in page.text
    assert all(shown.strip() in image["alt"] for image in page.all("img"))


def test_the_same_page_has_the_same_bytes_and_gives_its_pictures_back(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(render(page_of("a & b")), encoding="utf-8")
    assert render(page_of("a & b")) == (tmp_path / "report.html").read_text(encoding="utf-8")
    pictures = page_of("a & b").sections[0].parts[1]
    assert isinstance(pictures, Pictures)
    assert earlier_pictures(tmp_path / "report.html") == pictures.pictures


def test_secrets_of_addresses_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOSEG_SECRET_TOKEN", "hunter2hunter2")
    text = render(page_of("https://me:pass@host.example/a.tif?sig=abcdef hunter2hunter2"))
    assert not any(secret in text for secret in ("me:pass", "abcdef", "hunter2hunter2"))


def test_pictures_fit_whatever_they_show() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), np.uint8)
    for made in (photo(noise, "noise"), drawing(noise, "noise")):
        assert len(made.uri) < 4 / 3 * 400_000 + 100
        assert max(made.width, made.height) <= 900
    narrow = photo(noise[:1], "a line")
    assert (narrow.width, narrow.height) == (900, 1)


def test_drawings_keep_their_colours() -> None:
    import base64
    import io

    from PIL import Image

    colors = np.array([[200, 10, 30], [3, 141, 59], [255, 255, 255]], np.uint8)
    classes = colors[np.random.default_rng(1).integers(0, 3, (50, 70))]
    data = base64.b64decode(drawing(classes, "classes").uri.split(",")[1])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), classes)


def test_warnings_that_differ_in_particulars_are_counted() -> None:
    texts = ["12 pixels of /a/b.tif are odd", "a note", "13.5 pixels of /c.tif are odd (a, b)", "unlike those of training"]
    found = ranked([*texts, "a note", "13 pixels of c/d are odd (e)"])
    assert [(one.text, one.count, one.tone) for one in found] == [
        ("unlike those of training", 1, "bad"),
        ("a note", 2, "warn"),
        ("13.5 pixels of /c.tif are odd (a, b)", 2, "warn"),
        ("12 pixels of /a/b.tif are odd", 1, "warn"),
    ]


def test_amounts() -> None:
    assert (percent(None), percent(0), percent(0.0004), percent(0.99999), percent(1)) == (
        "-",
        "0.0 %",
        "< 0.1 %",
        "> 99.9 %",
        "100 %",
    )
    assert (area_text(None), area_text(123.4), area_text(1.5e7)) == ("-", "123 m²", "1,500.0 ha")
    assert (seconds_text(3.21), seconds_text(59.99), seconds_text(119.6), seconds_text(7300)) == (
        "3.2 s",
        "60.0 s",
        "2 min 0 s",
        "2 h 1 min",
    )
    bar = scale_bar(1000, 10.0)
    assert bar is not None
    assert bar.label == "2 km"
    assert bar.share == pytest.approx(0.2)
    assert scale_bar(1000, None) is None


def test_a_template_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of it is taken again, unless it is another's, of other options, or damaged."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path / "kept"))
    (tmp_path / "a.html").write_text("{{ name }} is here")
    compiled: list[str] = []

    class Counting(jinja2.Environment):
        def _generate(self, *arguments: object, **options: object) -> str:
            compiled.append("once more")
            return str(super()._generate(*arguments, **options))  # type: ignore[arg-type]

    def shown(options: str = "") -> str:
        environment = Counting(loader=jinja2.FileSystemLoader(tmp_path), bytecode_cache=CompiledTemplates(options))
        return environment.get_template("a.html").render(name="Paul")

    assert [shown() for _ in range(3)] == 3 * ["Paul is here"]
    assert len(compiled) == 1
    assert shown("others") == "Paul is here"
    assert len(compiled) == 2
    (kept,) = (path for path in (tmp_path / "kept").rglob("*") if path.is_file())
    kept.write_bytes(kept.read_bytes()[:40])
    assert [shown("others") for _ in range(2)] == 2 * ["Paul is here"]
    assert len(compiled) == 3
    (tmp_path / "a.html").write_text("{{ name }} has gone")
    assert shown("others") == "Paul has gone"


def test_secrets_of_the_environment_stand_on_no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    render(page_of("before"))
    monkeypatch.setenv("SOME_TOKEN", "hunter2hunter2")
    assert "hunter2" not in render(page_of("it is hunter2hunter2, say"))
