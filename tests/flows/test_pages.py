"""Pages in Prefect: keys, links and texts of strangers; the maps that its server serves beside them."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from services import PASSWORD, prefect_server

pytest.importorskip("prefect")


@given(
    st.sampled_from(["a/maps", "b/maps"]),
    st.sampled_from(["a/maps", "b/maps"]),
    st.text(max_size=80),
    st.text(max_size=80),
)
@example("a/maps", "a/maps", "x" * 100, "x" * 101)
def test_each_scene_of_each_folder_has_a_key_of_its_own(folder: str, other: str, name: str, second: str) -> None:
    from flows.pages.page_links import page_key

    key = page_key("scene", Path(folder), name)
    assert re.fullmatch("[a-z0-9-]{1,80}", key)
    assert (key == page_key("scene", Path(other), second)) == ((folder, name) == (other, second))


def test_only_what_is_served_has_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.pages.page_links import file_address, link

    report = tmp_path / "maps" / "a b#c" / "report.html"
    monkeypatch.delenv("GEOSEG_SERVER_MAPS", raising=False)
    monkeypatch.delenv("GEOSEG_MAPS_URL", raising=False)
    assert file_address(report) is None
    monkeypatch.setenv("GEOSEG_SERVER_MAPS", str(tmp_path / "maps"))
    assert link("report", report) == "report"
    monkeypatch.setenv("GEOSEG_MAPS_URL", "https://maps.example/maps")
    assert link("report", report) == "[report](https://maps.example/maps/a%20b%23c/report.html)"
    assert file_address(tmp_path / "elsewhere" / "report.html") is None


@pytest.mark.parametrize("text", ["a|b", "[x](javascript:1)", "<script>", "![](x)", "`code`", "*loud*", "# title", "a\n\n# b"])
def test_texts_of_strangers_are_no_markup(text: str) -> None:
    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark", {"html": True}).enable("table")
    from flows.pages.page_links import markdown_table, markdown_text

    page = markdown.render("\n".join(markdown_table(("name",), [(markdown_text(text),)])))
    tags = set(re.findall(r"<(\w+)", page))
    assert tags == {"table", "thead", "tbody", "tr", "th", "td"}


def test_a_scan_is_named_by_its_sources() -> None:
    from flows.pages.scan_artifact import scan_name

    assert scan_name(["/data/inbox"]) == "inbox"
    assert scan_name(["/data/inbox/", "b", "c"]) == "inbox and 2 more"
    assert scan_name(["https://host/list.txt?sig=secret"]) == "https://host/list.txt"


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the maps of a server."""
    folder = tmp_path_factory.mktemp("served")
    scene = folder / "maps" / "a b"
    (scene / ".run").mkdir(parents=True)
    (folder / "outside.txt").write_text("outside")
    (scene / "link.txt").symlink_to(folder / "outside.txt")
    (scene / "report.html").write_text("<h1>report</h1>")
    (scene / ".run" / "journal").write_text("hidden")
    (folder / "maps" / ".geoseg-ledger.sqlite").write_text("hidden")
    with prefect_server(folder, GEOSEG_SERVER_MAPS=str(folder / "maps")) as environment:
        yield environment["PREFECT_API_URL"].removesuffix("/api") + "/maps/"


def _get(address: str, user: str | None = PASSWORD, **more: str) -> tuple[int, Message, str]:
    headers = {} if user is None else {"Authorization": "Basic " + b64encode(user.encode()).decode()}
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers | more), timeout=60) as response:
            return response.status, response.headers, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


def test_the_server_serves_reports_to_those_who_know_the_password(maps: str) -> None:
    status, headers, text = _get(f"{maps}a%20b/report.html")
    assert (status, text) == (200, "<h1>report</h1>")
    # It is of an origin of its own: nothing in it can ask Prefect's API as the user.
    (sandbox,) = (text for text in headers.get_all("content-security-policy", []) if text.startswith("sandbox "))
    assert "allow-same-origin" not in sandbox
    for user in (None, "geoseg:wrong", "x" + PASSWORD):
        status, headers, _ = _get(f"{maps}a%20b/report.html", user)
        assert (status, headers["www-authenticate"]) == (401, 'Basic realm="geoseg"')
    foreign = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    assert _get(f"{maps}a%20b/report.html", **foreign)[0] == 403


@pytest.mark.parametrize(
    "path",
    [".geoseg-ledger.sqlite", "a%20b/.run/journal", "a%20b/link.txt", "../outside.txt", "%2e%2e/outside.txt", "", "a%20b", "x"],
)
def test_nothing_else_is_served(maps: str, path: str) -> None:
    status, _, text = _get(maps + path)
    assert status == 404
    assert "hidden" not in text
    assert "outside</" not in text
