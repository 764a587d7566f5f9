"""Numbers in documents are those of what they speak of."""

from __future__ import annotations

import re
from pathlib import Path

from bad_rasters import make_bad_rasters
from support import ROOT

DOCUMENTS = [
    ROOT / "Makefile",
    ROOT / "CHANGELOG.md",
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
COUNTED = re.compile(r"(\d[\d,]*) (?:\w+ ){0,2}?(?:faults|kills)\b")


def table_of_faults() -> list[list[str]]:
    """The rows of what ``make faults`` printed."""
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    table = text[text.index("| fault | tried |") :].split("\n\n", 1)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_what_came_of_faults_adds_up() -> None:
    rows = table_of_faults()
    assert len(rows) >= 15
    for fault, tried, same, refused, wrong, *_ in rows:
        assert int(tried) == int(same) + int(refused) + int(wrong), fault
        assert int(wrong) == 0, fault


def test_counts_of_faults_are_those_of_the_table() -> None:
    total = sum(int(row[1]) for row in table_of_faults())
    stated = {
        f"{path.name}: {match[0]}": int(match[1].replace(",", ""))
        for path in DOCUMENTS
        for match in COUNTED.finditer(path.read_text(encoding="utf-8"))
    }
    assert {text: count for text, count in stated.items() if count != total} == {}
    assert [m[1] for m in COUNTED.finditer("some 1,250 kills, 300 faults and 12 other kinds of faults")] == ["1,250", "300"]


def test_bad_rasters_are_as_many_as_is_said(tmp_path: Path) -> None:
    made = make_bad_rasters(tmp_path / "rasters")
    assert {path.name for path in (tmp_path / "rasters").iterdir()} - {"external_mask.tif.msk"} == set(made)
    for path in (ROOT / "docs" / "reliability.md", ROOT / "tests" / "bad_rasters.py"):
        stated = re.findall(r"(\d+) (?:bad and odd|awkward and broken) rasters", path.read_text(encoding="utf-8"))
        assert [int(number) for number in stated] == [len(made)], path.name


def test_tests_that_documents_name_are_there() -> None:
    for path in DOCUMENTS:
        for name in set(re.findall(r"`(tests/[\w/]+\.py)`", path.read_text(encoding="utf-8"))):
            assert (ROOT / name).is_file(), f"{path.name}: {name}"
