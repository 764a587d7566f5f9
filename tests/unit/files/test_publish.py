"""A publish is all or nothing, touches nothing that is somebody's, and is on the disk in the right order."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from kill_points import CHANGES, apart, killed_at, traced

from geoseg.errors import OutputBusyError, OutputError
from pipeline.files.lock import exclusive
from pipeline.files.outputs import atomic_folder, check_new_folder, output_file, take_away
from pipeline.files.owned import FileFacts, digest_of
from pipeline.files.run_folder import MADE, RunFolder

OLD = {"classes.tif": b"old map", "polygons.gpkg": b"old polygons", "zones.csv": b"old zones", "images/1.tif": b"old chip"}
NEW = {"classes.tif": b"new map", "polygons.gpkg": b"new polygons", "changes.csv": b"new table", "images/2.tif": b"new chip"}


def publish(folder: Path, files: Mapping[str, bytes], settings: str = "a") -> tuple[str, ...]:
    """What a run does at its end; gives what it says."""
    place = RunFolder(folder)
    with place.held():
        place.manifest.write_bytes(b"")
        stage = place.clear_stage()
        for name, data in files.items():
            (stage / name).parent.mkdir(exist_ok=True)
            (stage / name).write_bytes(data)
        document = {"geoseg": "1", "status": "done", "identity": {"config": settings, "code": "1"}}
        return place.publish(document).notes


def made(folder: Path, files: Mapping[str, bytes]) -> None:
    """What a command does that makes a folder at once."""
    with atomic_folder(folder, replace=True) as part:
        for name, data in files.items():
            (part / name).parent.mkdir(exist_ok=True)
            (part / name).write_bytes(data)


def contents(folder: Path) -> dict[str, bytes]:
    """All files but those under way, and without what tells the time."""
    found = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.startswith(".run/"):
            found[name] = path.read_bytes()
            document = json.loads(found[name]) if name in ("run.json", MADE) else {}
            if "digest" in document:
                assert document["digest"] == digest_of(document)
                found[name] = json.dumps({k: v for k, v in document.items() if k != "digest"}).encode()
    return found


@pytest.mark.parametrize(
    ("action", "first"),
    [(publish, True), (publish, False), (made, True), pytest.param(made, False, marks=pytest.mark.slow)],
)
@apart
def test_killed_at_each_change_it_ends_in_the_old_or_the_new(
    tmp_path: Path, action: Callable[[Path, Mapping[str, bytes]], object], first: bool
) -> None:
    record = MADE if action is made else "run.json"
    start, out = tmp_path / "start", tmp_path / "out" / "scene"
    start.mkdir()
    if not first:
        action(start, OLD)
        RunFolder(start, record).leave()
        shutil.rmtree(start / ".run", ignore_errors=True)
        (start / "polygons.gpkg").write_bytes(b"somebody's work")
        (start / "notes.txt").write_bytes(b"notes")

    def fresh() -> None:
        shutil.rmtree(out.parent, ignore_errors=True)
        out.parent.mkdir()
        if not first:
            shutil.copytree(start, out)

    fresh()
    action(out, NEW)
    before, after = contents(start), contents(out)
    mine = {name: data for name, data in before.items() if name not in OLD or data != OLD[name]}
    number, seen = 0, set()
    while True:
        fresh()
        killed = killed_at(number, lambda: action(out, NEW), out.parent)
        there = contents(out)
        assert set(mine.values()) - {before.get(record)} <= set(there.values()), number
        # Where a record lies, all that it lists does.
        assert record not in there or _without_dates(there) in (_without_dates(before), _without_dates(after)), number
        # The next start may be anybody's, and may be killed as well.
        again = 0
        while killed and killed_at(again, RunFolder(out, record).settle, out.parent):
            again += 5
        RunFolder(out, record).settle()
        found = contents(out)
        if not killed:
            assert _without_dates(found) == _without_dates(after)
            break
        assert _without_dates(found) in (_without_dates(before), _without_dates(after)), number
        seen.add(_without_dates(found) == _without_dates(after))
        assert not (out / ".run" / "publish.json").exists()
        assert not (out / ".run" / "old").exists()
        number += 1
    assert number >= 4
    assert seen == {False, True}
    # What a kill has left behind is no obstacle.
    action(out, NEW)
    assert {k: v for k, v in contents(out).items() if k != record} == {k: v for k, v in found.items() if k != record}


def _without_dates(files: dict[str, bytes]) -> dict[str, bytes]:
    import re

    return {re.sub(r"kept-\w+", "kept", n): re.sub(rb"kept-\w+", b"kept", data) for n, data in files.items()}


@apart
def test_a_staged_file_that_is_damaged_takes_the_publish_back(tmp_path: Path) -> None:
    """What was there is whole again, and an edit has its name back."""
    publish(tmp_path / "scene", OLD)
    (tmp_path / "scene" / "zones.csv").write_bytes(b"edited")
    before = contents(tmp_path / "scene")
    shutil.copytree(tmp_path / "scene", tmp_path / "saved")
    for number in range(200):
        shutil.rmtree(tmp_path / "scene")
        shutil.copytree(tmp_path / "saved", tmp_path / "scene")
        if not killed_at(number, lambda: publish(tmp_path / "scene", NEW), tmp_path):
            break
        left = list((tmp_path / "scene" / ".run" / "final").rglob("*.gpkg"))
        if (tmp_path / "scene" / ".run" / "publish.json").exists() and left:
            left[0].write_bytes(b"torn")
            RunFolder(tmp_path / "scene").settle()
            assert contents(tmp_path / "scene") == before, number
    assert 10 < number < 199


@apart
def test_what_somebody_does_to_a_publish_that_was_cut_off_is_neither_lost_nor_undone(tmp_path: Path) -> None:
    folder = tmp_path / "scene"
    publish(folder, OLD)
    shutil.copytree(folder, tmp_path / "saved")
    done = set()
    for number in range(200):
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "saved", folder)
        if not killed_at(number, lambda: publish(folder, NEW), tmp_path):
            break
        if not (folder / ".run" / "publish.json").exists():
            continue
        over = not (folder / ".run" / "final" / "run.json").exists()
        if over:
            (folder / "classes.tif").unlink()
        elif not (folder / "changes.csv").exists():
            (folder / "changes.csv").write_bytes(b"mine")
        else:
            continue
        done.add(over)
        RunFolder(folder).settle()
        found = contents(folder)
        record = json.loads(found.pop("run.json"))
        assert record["files"].keys() == NEW.keys(), number
        if over:
            assert found == {name: data for name, data in NEW.items() if name != "classes.tif"}, number
        else:
            assert NEW.items() <= found.items(), number
            assert [data for name, data in found.items() if name not in NEW] == [b"mine"], number
    assert done == {False, True}


def test_a_digest_is_that_of_the_canonical_text() -> None:
    text = '{"a":"\u00fc","b":{"c":1,"d":[1.5,null]}}'
    expected = hashlib.sha256(text.encode()).hexdigest()
    assert digest_of({"b": {"d": [1.5, None], "c": 1}, "digest": "of before", "a": "\u00fc"}) == expected
    assert digest_of({"a": "\u00fc", "b": {"c": 1, "d": [1.5, None]}}) == expected


def test_what_is_somebodys_is_kept_and_told(tmp_path: Path) -> None:
    folder = tmp_path / "scene"
    assert publish(folder, OLD) == ()
    for name, data in (("classes.tif", b"edited"), ("changes.csv", b"mine"), ("polygons.shp", b"mine"), ("item.csv", b"mine")):
        (folder / name).write_bytes(data)
    os.utime(folder / "classes.tif", (0, 0))
    (folder / "images").rename(tmp_path / "elsewhere")
    (folder / "images").symlink_to(tmp_path / "elsewhere")
    notes = publish(folder, NEW)
    there = contents(folder)
    kept = {name.partition(".kept-")[0]: data for name, data in there.items() if ".kept-" in name}
    assert {"classes.tif": b"edited", "changes.csv": b"mine"}.items() <= kept.items()
    assert {"polygons.shp": b"mine", "item.csv": b"mine", **NEW}.items() <= there.items()
    assert (tmp_path / "elsewhere" / "1.tif").read_bytes() == b"old chip"
    assert sorted(note.split(":")[0].removeprefix(f"{folder}/") for note in notes) == ["changes.csv", "classes.tif", "images"]
    assert json.loads((folder / "run.json").read_text())["warnings"] == list(notes)
    # Kept twice in a second, each has a name of its own; nor is a record that somebody has changed replaced.
    for _ in range(3):
        (folder / "classes.tif").write_bytes(os.urandom(8))
        (folder / "run.json").write_text((folder / "run.json").read_text().replace('"done"', '"done" '))
        publish(folder, NEW)
    assert len(list(folder.glob("classes.tif.kept-*"))) == 4
    document = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(document | {"comment": "mine"}))
    publish(folder, NEW)
    assert any('"mine"' in path.read_text() for path in folder.glob("run.json.kept-*"))


def test_what_sqlite_has_beside_a_file_goes_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "scene"
    base = tmp_path / "base.gpkg"
    with sqlite3.connect(base) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    publish(folder, {"polygons.gpkg": base.read_bytes()})
    # An edit that is in the log alone, as by a GIS that was killed; the file itself has its bytes.
    with sqlite3.connect(base) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("INSERT INTO t VALUES (42)")
        connection.commit()
        for end in ("", "-wal", "-shm"):
            shutil.copy(f"{base}{end}", folder / f"polygons.gpkg{end}")
    connection.close()
    record = json.loads((folder / "run.json").read_text())
    assert FileFacts.of(folder / "polygons.gpkg").to_json() == record["files"]["polygons.gpkg"]
    publish(folder, NEW)
    (kept,) = folder.glob("polygons.gpkg.kept-*Z")
    assert sqlite3.connect(kept).execute("SELECT x FROM t").fetchall() == [(42,)]
    assert (folder / "polygons.gpkg").read_bytes() == NEW["polygons.gpkg"]
    assert not list(folder.glob("polygons.gpkg-*"))


def test_a_folder_that_is_no_runs_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "scene"
    folder.mkdir()
    publish(folder / "sub" / "scene", OLD)
    publish(folder, OLD)  # a scene of a subfolder may have its folder in that of a scene of this name
    mine = tmp_path / "mine"
    (mine / ".run").mkdir(parents=True)
    for name in ("model.onnx", "a.csv", "b.csv", "c.csv", "d.csv", "e.csv", ".run/final"):
        (mine / name).write_bytes(b"mine")
    (mine / "run.json").write_text(json.dumps({"geoseg": "1", "files": {"../a.txt": {"bytes": 4, "sha256": "0"}}}))
    before = contents(mine)
    for action in (lambda: publish(mine, NEW), lambda: check_new_folder(mine, overwrite=True), lambda: made(mine, NEW)):
        with pytest.raises(OutputError, match=r"mine: holds \.run, a\.csv, b\.csv, c\.csv, d\.csv and 3 more.*--overwrite"):
            action()
    assert contents(mine) == before
    assert (mine / ".run" / "final").read_bytes() == b"mine"


def test_what_was_moved_aside_blocks_nothing_that_comes_back(tmp_path: Path) -> None:
    """A map that was edited and taken away leaves the edit; its folder takes a map again, and the edit stays."""
    place = RunFolder(tmp_path / "zone")
    publish(place.folder, OLD)
    (place.folder / "classes.tif").write_bytes(b"work of somebody")
    (place.folder / "images" / "1.tif").write_bytes(b"work of somebody")
    take_away(place)
    kept = contents(place.folder)
    assert [name.partition(".kept-")[0] for name in kept] == ["classes.tif", "images/1.tif"]
    publish(place.folder, NEW)
    assert contents(place.folder).items() >= {**NEW, **kept}.items()
    # What only looks like it is somebody's.
    other = tmp_path / "other"
    other.mkdir()
    (other / "classes.tif.kept-2024").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"classes\.tif\.kept-2024, which no run has listed"):
        publish(other, NEW)


def test_what_somebody_keeps_under_the_name_of_what_is_under_way_stays(tmp_path: Path) -> None:
    made(tmp_path / "made", OLD)
    (tmp_path / "made" / ".run").mkdir()
    (tmp_path / "made" / ".run" / "notes.txt").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"holds \.run,"):
        made(tmp_path / "made", NEW)
    place = RunFolder(tmp_path / "scene")
    publish(tmp_path / "scene", OLD)
    (place / "notes.txt").write_bytes(b"mine")
    (place / ".publish.0123456789abcdef.tmp.json").write_bytes(b"of a kill")
    place.prune()
    assert [path.name for path in place.work.iterdir()] == ["notes.txt"]


def test_a_record_from_elsewhere_reaches_nothing_outside(tmp_path: Path) -> None:
    """Who sends a folder could list what lies around it."""
    (tmp_path / "secret").write_bytes(b"mine")
    publish(tmp_path / "out" / "scene", OLD)
    record = tmp_path / "out" / "scene" / "run.json"
    document = json.loads(record.read_text())
    shutil.rmtree(tmp_path / "out" / "scene" / ".run")
    document["files"]["../../secret"] = FileFacts.of(tmp_path / "secret").to_json()
    record.write_text(json.dumps(document))
    with pytest.raises(OutputError):
        publish(tmp_path / "out" / "scene", NEW)
    work = tmp_path / "out" / "other" / ".run"
    work.mkdir(parents=True)
    (work / "publish.json").write_text(
        json.dumps({"stage": "final", "record": "run.json", "old": ["../../secret"], "kept": {}, "new": {}})
    )
    with pytest.raises(OutputError, match="no name in the folder"):
        RunFolder(tmp_path / "out" / "other").settle()
    assert (tmp_path / "secret").read_bytes() == b"mine"


@pytest.mark.parametrize("what", [".run", ".run/lock", ".run/final", ".run/manifest.jsonl"])
@pytest.mark.parametrize("hard", [False, True])
def test_links_are_not_followed(tmp_path: Path, what: str, hard: bool) -> None:
    target = tmp_path / "mine"
    folder = what in (".run", ".run/final")
    if folder:
        target.mkdir()
    (target / "notes.txt" if folder else target).write_bytes(b"mine")
    link = tmp_path / "out" / "scene" / what
    link.parent.mkdir(parents=True)
    if hard and not folder:
        os.link(target, link)
    else:
        link.symlink_to(target)
    if what == ".run/manifest.jsonl" and hard:
        from pipeline.files.manifest import Manifest

        with pytest.raises(OutputError, match="second name"):
            Manifest(link, {})._append({})
    else:
        with pytest.raises(OutputError, match=r"is a link|second name|holds"):
            publish(tmp_path / "out" / "scene", NEW)
    assert (target / "notes.txt" if folder else target).read_bytes() == b"mine"


def test_a_lock_that_is_no_lock_stays(tmp_path: Path) -> None:
    for path in (tmp_path / ".geoseg.lock", tmp_path / "fifo"):
        path.write_text("shopping list") if path.name != "fifo" else os.mkfifo(path)
        with pytest.raises(OutputError, match="somebody"), exclusive(path):
            pass
        assert path.exists()
    assert (tmp_path / ".geoseg.lock").read_text() == "shopping list"


def test_a_file_that_is_there_is_kept_unless_it_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "sample.gpkg"

    def write(data: bytes) -> None:
        with output_file(path) as part:
            part.write_bytes(data)

    write(b"one")
    write(b"one")
    assert [p.name for p in tmp_path.iterdir()] == ["sample.gpkg"]
    write(b"two")
    (kept,) = tmp_path.glob("sample.gpkg.kept-*")
    assert (kept.read_bytes(), path.read_bytes()) == (b"one", b"two")
    (tmp_path / "elsewhere").write_bytes(b"mine")
    path.unlink()
    path.symlink_to("elsewhere")
    write(b"three")
    assert (tmp_path / "elsewhere").read_bytes() == b"mine"


def test_a_reader_waits_for_a_publish_that_is_under_way(tmp_path: Path) -> None:
    number, journal = 0, tmp_path / "scene" / ".run" / "publish.json"
    while killed_at(number, lambda: publish(tmp_path / "scene", NEW), tmp_path) and not journal.exists():
        shutil.rmtree(tmp_path / "scene", ignore_errors=True)
        number += 1
    assert journal.exists()
    with exclusive(tmp_path / "scene" / ".run" / "lock"), pytest.raises(OutputBusyError):
        RunFolder(tmp_path / "scene").settle()
    RunFolder(tmp_path / "scene").settle()
    assert NEW.items() <= contents(tmp_path / "scene").items()


def test_all_is_on_the_disk_before_the_record_has_its_name(tmp_path: Path) -> None:
    """Traced: content before journal, journal before the first change, names before the record, record before the old goes."""
    folder = tmp_path / "scene"
    publish(folder, OLD)
    shutil.copytree(folder, tmp_path / "copy")
    events: list[tuple[str, str]] = []

    def note(name: str, args: tuple[object, ...]) -> None:
        given = args[0]
        place = os.readlink(f"/proc/self/fd/{given}") if isinstance(given, int) else str(given)
        to = f" {os.path.relpath(str(args[1]), folder)}" if name in ("rename", "replace") else ""
        events.append((name, os.path.relpath(place, folder) + to))

    with traced(note, (*CHANGES, "fsync")):
        publish(folder, NEW)
    first = next(i for i, e in enumerate(events) if e[0] in ("rename", "replace") and e[1].startswith("run.json .run/old/"))
    journal = next(i for i, e in enumerate(events) if e[0] in ("rename", "replace") and e[1].endswith(" .run/publish.json"))
    record = events.index(("rename", ".run/final/run.json run.json"))
    for name in (*NEW, "run.json"):
        assert events.index(("fsync", f".run/final/{name}")) < journal, name
    assert events.index(("fsync", ".run/final")) < journal
    assert ("fsync", ".run") in events[journal:first]
    moved = [i for i, e in enumerate(events) if e[0] == "rename" and e[1].startswith(".run/final/") and i != record]
    assert len(moved) == len(NEW)
    assert max(moved) < record
    assert {("fsync", "."), ("fsync", "images")} <= set(events[max(moved) : record])
    removed = [i for i, e in enumerate(events) if i > first and e[0] in ("unlink", "rmdir") and "old" in e[1]]
    assert ("fsync", ".") in events[record : min(removed, default=len(events))]
    assert not (folder / ".run" / "old").exists()
