"""Names from outside become folders below the output, and nothing else."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from geoseg.errors import ConfigError, OutputError
from geoseg.scenes.names import check_inside, folder_name, name_key, scene_name
from geoseg.scenes.refs import SceneRef, without_equal_names

ATTACKS = (
    "..",
    ".",
    "",
    "/",
    "/etc/passwd",
    "../../escaped",
    "a/../../b",
    "back\\..\\x",
    "con\nnl",
    "tab\there",
    "nul\0byte",
    "bell\x07",
    "esc\x1b[31mred",
    "del\x7f",
    "c1\x85",
    "trailing.",
    "trailing ",
    "trailing. .",
    " leading",
    ".hidden",
    ".geoseg.lock",
    ".geoseg-ledger.sqlite",
    ".run",
    "index.json",
    "INDEX.JSON",
    "index.html",
    "report.html",
    "collection.json",
    "items.parquet",
    "run.json",
    "classes.tif",
    "classes.tif.aux.xml",
    "polygons.gpkg",
    "item.json",
    "CON",
    "con.2024",
    "nul",
    "LPT1",
    "com9.tif",
    "aux.xml",
    "x" * 300,
    "é" * 200,
    "\u202egnp.exe",
    "zero\u200bwidth",
    "line\u2028end",
    "caf\udce9",
    "half\ud800",
    "\ufeffbom",
    "\u2066iso",
    "~",
    "-rf",
    "$(touch x)",
)
PLAIN = (
    "a",
    "S2A_MSIL2A_20240101",
    "Übersicht 2024",
    "a b",
    "it's",
    'the "one"',
    "R&D",
    "-dash",
    "a.b.c",
    "urn:x:1",
    "東京",
    "a#b?c%20",
    "=cmd()",
)
"""Names that stay as they are."""
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}


@pytest.mark.parametrize("text", ATTACKS)
def test_attacks_become_one_folder(text: str, tmp_path: Path) -> None:
    name = folder_name(text)
    assert folder_name(name) == name
    (tmp_path / "out").mkdir()
    folder = check_inside(tmp_path / "out", name)
    folder.mkdir()
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == [name]
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
    assert name.isprintable()
    assert name.partition(".")[0].strip().casefold() not in DEVICES
    assert not name.startswith((".", " "))
    assert not name.endswith((".", " "))
    assert len(name.encode()) <= 200


@pytest.mark.parametrize("text", PLAIN)
def test_plain_names_stay(text: str) -> None:
    assert scene_name(f"sub/{text}") == f"sub/{text}"


@given(st.text(max_size=300))
@example("a/..")
@settings(max_examples=400, deadline=None)
def test_any_text_is_one_safe_name(text: str) -> None:
    name = folder_name(text)
    assert folder_name(name) == name
    assert not {"/", "\\"} & set(name)
    assert name not in ("", ".", "..")
    assert len(os.fsencode(name)) <= 200
    base = Path("/out")
    path = os.path.normpath(base / scene_name(text))
    assert path.startswith("/out/")


@given(st.text(max_size=20), st.text(max_size=20))
@settings(max_examples=300, deadline=None)
def test_other_texts_have_other_names(one: str, other: str) -> None:
    same_letters = unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)
    assert (folder_name(one) == folder_name(other)) <= same_letters


def test_changed_names_do_not_meet() -> None:
    texts = ["a/b", "a\\b", "a\nb", "a\x00b", "a_b", "a\u2028b"]
    assert len({folder_name(text) for text in texts}) == len(texts)
    assert folder_name("a_b") == "a_b"


@pytest.mark.parametrize(
    ("one", "other"), [("dup", "DUP"), ("straße", "STRASSE"), ("e\u0301", "\u00e9"), ("E\u0301", "\u00e9"), ("x/a", "X/A")]
)
def test_names_that_some_file_systems_take_for_one_are_both_refused(one: str, other: str) -> None:
    refs = [SceneRef(scene_name(one), ("one.tif",)), SceneRef(scene_name(other), ("other.tif",)), SceneRef("free", ("free.tif",))]
    assert name_key(refs[0].name) == name_key(refs[1].name)
    scenes, refused = without_equal_names(refs)
    assert [ref.name for ref in scenes] == ["free"]
    assert {item.paths[0] for item in refused} == {"one.tif", "other.tif"}
    assert all("one.tif" in item.reason and "other.tif" in item.reason for item in refused)


@pytest.mark.parametrize("name", ["..", "../../escaped", "/etc", "a/../b", ".run", "index.json", "", "a//b", "a\nb"])
def test_no_scene_has_another_name(name: str) -> None:
    with pytest.raises(ConfigError, match="can't name a folder"):
        SceneRef(name, ("a.tif",))


def test_links_in_the_output_are_not_followed(tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "link").symlink_to(elsewhere)
    (out / "inner").mkdir()
    (out / "alias").symlink_to(out / "inner")
    (out / "scene").mkdir()
    (out / "scene" / ".run").symlink_to(elsewhere)
    for parts in (("link",), ("link", "a"), ("alias",), ("scene", ".run")):
        with pytest.raises(OutputError, match="by a link"):
            check_inside(out, *parts)
    for parts in (("..",), ("a", "..", ".."), ("/etc",), (".",), ("..", "output")):
        with pytest.raises(OutputError, match="outside"):
            check_inside(out, *parts)
    # The output itself may be a link: it is the operator's.
    (tmp_path / "other").symlink_to(out)
    assert check_inside(tmp_path / "other", "inner") == tmp_path / "other" / "inner"
