"""``index.html`` of an output folder: every scene, failures first, whatever their names; never in place of somebody's file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pages import read_page
from support import call_cli

from geoseg.procedural import Frontier
from pipeline.files.index import write_page
from pipeline.publish.folder_page import folder_page, write_folder_page
from pipeline.verify.run import verify_output

HOSTILE = "<img src=x onerror=alert(1)> & 'b' %41"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    scenes = folder / "scenes"
    scenes.mkdir()
    for seed, name in enumerate(("one", HOSTILE)):
        Frontier(160, 200, seed=seed).write(scenes / f"{name}.tif")
    (scenes / "broken.tif").write_bytes((scenes / "one.tif").read_bytes()[:400])
    (folder / "maps").mkdir()
    (folder / "maps" / "index.html").write_text("<p>mine</p>")
    done = call_cli(["segment", scenes, "-m", "amazon-forest", "-o", folder / "maps", "--min-area", "0.1ha"])
    assert done.returncode == 1, done.stderr
    return folder / "maps"


def test_all_scenes_are_there_failures_first(out: Path) -> None:
    page = read_page(out / "index.html")
    entries = json.loads((out / "index.json").read_text())["scenes"]
    assert {entry["status"] for entry in entries} == {"done", "failed"}
    scenes = page.rows[-len(entries) :]
    assert scenes[0][:2] == ["broken", "failed"]
    assert {row[0] for row in scenes} == {entry["scene"] for entry in entries}
    (reason,) = [entry["reason"] for entry in entries if entry["status"] == "failed"]
    assert f"Failed: {reason}" in page.text
    pages = [out / entry["scene"] / "report.html" for entry in entries if entry["status"] == "done"]
    assert len(page.all("img")) == len(pages) == 2
    assert all(link.exists() for link in pages)


def test_sums_are_those_of_the_records(out: Path) -> None:
    records = [json.loads(path.read_text()) for path in sorted(out.glob("*/run.json"))]
    assert len(records) == 2
    page = read_page(out / "index.html")
    for name in ("forest", "non-forest"):
        parts = [entry for record in records for entry in record["classes"] if entry["name"] == name]
        area, pixels = (sum(part[key] for part in parts) for key in ("area_m2", "pixels"))
        row = page.row(name)
        assert (row[1], row[3]) == (f"{area / 1e4:,.1f} ha", f"{pixels:,}")


def test_what_somebody_had_there_is_kept_and_a_change_is_found(out: Path) -> None:
    (kept,) = out.glob("index.html.kept-*")
    assert kept.read_text() == "<p>mine</p>"
    assert verify_output(out).whole
    text = (out / "index.html").read_text(encoding="utf-8")
    try:
        (out / "index.html").write_text(text.replace("Output folder", "Putout folder"), encoding="utf-8")
        assert [fault.split(" was ")[0] for fault in verify_output(out).faults] == ["index.html"]
    finally:
        (out / "index.html").write_text(text, encoding="utf-8")
    # The same scenes give the same page, in its own place.
    document = json.loads((out / "index.json").read_text())
    write_folder_page(out, document["scenes"], document["warnings"])
    assert (out / "index.html").read_text(encoding="utf-8") == text
    assert len(list(out.glob("index.html*"))) == 2


def test_a_second_run_skips_and_the_scenes_are_done_still(out: Path) -> None:
    before = {path: path.read_bytes() for path in out.glob("*/report.html")}
    call_cli(["segment", out.parent / "scenes", "-m", "amazon-forest", "-o", out, "--min-area", "0.1ha"])
    assert before == {path: path.read_bytes() for path in out.glob("*/report.html")}
    assert [row[1] for row in read_page(out / "index.html").rows[-3:]] == ["failed", "done", "done"]


def test_thousands_of_scenes_stay_one_page(tmp_path: Path) -> None:
    entries = [
        {"scene": f"scene {i}", "status": "failed", "reason": f"scene {i}.tif: no CRS; pass --crs", "outputs": [], "warnings": []}
        for i in range(4000)
    ]
    page = folder_page(tmp_path, entries)  # type: ignore[arg-type]
    (notes,) = page.sections[0].parts
    assert [note.count for note in notes.items] == [4000]  # type: ignore[union-attr]
    write_page(tmp_path, "x")
    (tmp_path / "index.json").touch()
    write_folder_page(tmp_path, entries)  # type: ignore[arg-type]
    assert "1,000 more scenes are in index.json" in read_page(tmp_path / "index.html").text
