"""Files and folders appear whole or not at all, and are on the disk before their names are."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pyogrio.raw
import pytest
import shapely

from geoseg.errors import OutputError
from pipeline.files.atomic import atomic_path, remove_empty, write_json
from pipeline.files.outputs import atomic_folder, check_new_folder, output_file
from pipeline.files.run_folder import MADE

Trace = list[tuple[str, str]]


@pytest.fixture
def trace(monkeypatch: pytest.MonkeyPatch) -> Trace:
    """The calls that order writes on the disk, as they are made: what is synced, and what is renamed to what."""
    calls: Trace = []
    sync, replace, rename = os.fsync, os.replace, os.rename

    def synced(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        calls.append(("sync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync", path))
        sync(descriptor)

    def moved(call):
        def move(source, target, **options) -> None:
            calls.append((f"rename {os.path.basename(source)}", str(target)))
            call(source, target, **options)

        return move

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", moved(replace))
    monkeypatch.setattr(os, "rename", moved(rename))
    return calls


def test_content_is_on_the_disk_before_the_name_and_the_name_afterwards(tmp_path: Path, trace: Trace) -> None:
    target = tmp_path / "a.tif"
    with atomic_path(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".tif"
        temporary.write_bytes(b"new")
        assert not target.exists()
    assert trace == [("sync", str(temporary)), (f"rename {temporary.name}", str(target)), ("sync folder", str(tmp_path))]
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_what_is_synced_later_is_whole_and_waits_for_no_disk(tmp_path: Path, trace: Trace) -> None:
    write_json(tmp_path / "a.json", {"value": 1}, sync=False)
    assert [call.split()[0] for call, _ in trace] == ["rename"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")

    def half(path: Path) -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("ha")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half(target)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_json_is_strict_and_whole(tmp_path: Path, trace: Trace) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"name": "日本", "value": 1.5})
    assert json.loads(path.read_text(encoding="utf-8")) == {"name": "日本", "value": 1.5}
    assert [call.split()[0] for call, _ in trace] == ["sync", "rename", "sync"]
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON"):
            write_json(path, {"value": value})
    assert json.loads(path.read_text(encoding="utf-8"))["value"] == 1.5


def test_a_folder_appears_with_all_its_files_on_the_disk(tmp_path: Path, trace: Trace) -> None:
    target = tmp_path / "model"
    with atomic_folder(target) as temporary:
        (temporary / "a").write_text("1")
        (temporary / "b").write_text("2")
        assert not target.exists()
    moved = trace.index((f"rename {temporary.name}", str(target)))
    for name in ("a", "b", MADE):
        assert ("sync", str(temporary / name)) in trace[:moved], name
    assert trace[moved - 1 :] == [
        ("sync folder", str(temporary)),
        (f"rename {temporary.name}", str(target)),
        ("sync folder", str(tmp_path)),
    ]
    assert sorted(path.name for path in target.iterdir()) == [MADE, "a", "b"]


def test_a_folder_is_replaced_only_by_a_whole_one(tmp_path: Path) -> None:
    target = tmp_path / "model"

    def fill(name: str, *, fail: bool = False) -> None:
        with atomic_folder(target, replace=True) as temporary:
            (temporary / name).touch()
            if fail:
                raise RuntimeError

    fill("old")
    with pytest.raises(RuntimeError):
        fill("new", fail=True)
    assert sorted(path.name for path in target.iterdir()) == [MADE, "old"]
    assert list(tmp_path.iterdir()) == [target]
    fill("new")
    assert sorted(path.name for path in target.iterdir()) == [MADE, "new"]
    assert list(tmp_path.iterdir()) == [target]


def test_what_holds_something_is_not_replaced_unasked(tmp_path: Path) -> None:
    check_new_folder(tmp_path, overwrite=False)
    (tmp_path / "a").touch()
    with pytest.raises(OutputError, match="--overwrite"):
        check_new_folder(tmp_path, overwrite=False)
    with pytest.raises(OutputError, match="no run has listed"):
        check_new_folder(tmp_path, overwrite=True)


def test_only_empty_folders_are_removed(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "c").touch()
    remove_empty(tmp_path / "a" / "b", tmp_path / "a")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["c"]


def _by_python() -> None:
    with open("/dev/full", "wb") as file:
        file.write(b"x")


def _by_numpy() -> None:
    with open("/dev/full", "wb", buffering=0) as file:
        np.zeros(1 << 16, np.uint8).tofile(file)


def _by_sqlite() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("PRAGMA max_page_count = 2")
        connection.execute("CREATE TABLE one (text)")
        connection.execute("INSERT INTO one VALUES (?)", ("x" * 100_000,))


def _by_gdal() -> None:
    pyogrio.raw.write(
        "/dev/full/nowhere.gpkg", np.array([shapely.to_wkb(shapely.Point(0, 0))]), [], [], geometry_type="Point", driver="GPKG"
    )


@pytest.mark.parametrize("write", [_by_python, _by_numpy, _by_sqlite, _by_gdal])
def test_full_disks_are_told_with_what_was_being_made(tmp_path: Path, write: Callable[[], None]) -> None:
    with pytest.raises(OutputError, match=r"one\.gpkg: can't be written: .*make room"), output_file(tmp_path / "one.gpkg"):
        write()
    with pytest.raises(OutputError, match=r"maps: can't be written: .*make room"), atomic_folder(tmp_path / "maps"):
        write()
    # What is no fault of the disk stays what it is, and nothing is left behind.
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "maps"):
        (tmp_path / "nowhere").read_bytes()
    assert list(tmp_path.iterdir()) == []
