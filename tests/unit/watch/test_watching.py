"""What a watch remembers, when it tries again, what it says of itself: without a network and without a scene."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from geoseg.errors import ConfigError, OutputError
from geoseg.scenes.sources import SceneRef
from pipeline.config.sections import Config, WatchConfig
from pipeline.files.reports import difference, note_files
from pipeline.publish.report import SceneReport
from pipeline.watch.backoff import delay_s, due
from pipeline.watch.health import health
from pipeline.watch.ledger import LEDGER, VERSION, Ledger, open_ledger, read_ledger
from pipeline.watch.looking import Away
from pipeline.watch.prometheus import exposition
from pipeline.watch.row import Row
from pipeline.watch.source import Found
from pipeline.watch.status import STATUS_JSON, STATUS_PROM, StatusWriter, read_status
from pipeline.watch.upkeep import list_scenes, release
from pipeline.watch.work import FREE_REPAIRS, Work, after, find_work

FIRST_SCHEMA = """
CREATE TABLE IF NOT EXISTS scene (
    name TEXT PRIMARY KEY,
    version TEXT NOT NULL,
    key TEXT NOT NULL,
    seen REAL NOT NULL,
    status TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    entry TEXT
) WITHOUT ROWID
"""
ENTRY = {"scene": "a", "status": "done", "reason": None, "outputs": ["a/run.json"], "seconds": 1.0, "warnings": []}
NOW = 1_800_000_000.0
WATCH = WatchConfig(settle="0s")


def _scene(out: Path, name: str, **files: bytes) -> None:
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)
    listed = {file: {"bytes": len(content), "sha256": "0" * 64} for file, content in files.items()}
    report = {"scene": name, "status": "done", "reason": None, "outputs": [*files, "run.json"], "warnings": [], "files": listed}
    (folder / "run.json").write_text(json.dumps(report))


def _found(name: str, version: str = "1") -> Found:
    return Found(SceneRef(name, (f"{name}.tif",)), version, modified=NOW - 3600)


def _look(out: Path, *found: Found, now: float = NOW, watch: WatchConfig = WATCH) -> Work:
    with open_ledger(out) as ledger:
        return find_work(found, ledger, out, "key", watch, now)


def _put(out: Path, *rows: Row) -> None:
    with open_ledger(out) as ledger:
        ledger.put(rows)


class TestLedger:
    def test_one_of_the_first_schema_is_taken_over_whole(self, tmp_path: Path) -> None:
        rows = [
            ("done", "1:2", "k", NOW, "done", 0, json.dumps(ENTRY)),
            ("tried", "3:4", "k", NOW, "failed", 2, None),
            ("held", "5:6", "k", NOW, "quarantined", 3, json.dumps(ENTRY | {"scene": "held", "reason": "bad"})),
        ]
        with closing(sqlite3.connect(tmp_path / LEDGER)) as connection, connection:
            connection.execute(FIRST_SCHEMA)
            connection.executemany("INSERT INTO scene VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        # Looking alone leaves the file as it is.
        before = (tmp_path / LEDGER).read_bytes()
        assert set(read_ledger(tmp_path)) == {"done", "tried", "held"}
        assert (tmp_path / LEDGER).read_bytes() == before
        with open_ledger(tmp_path) as ledger:
            found = ledger.rows()
        assert {(r.name, r.version, r.key, r.seen, r.status, r.attempts, r.entry) for r in found.values()} == set(rows)
        with closing(sqlite3.connect(tmp_path / LEDGER)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
        assert [path.name for path in tmp_path.iterdir()] == [LEDGER]

    def test_one_of_a_newer_geoseg_is_refused_and_left(self, tmp_path: Path) -> None:
        _put(tmp_path, Row("a", "1", "key", NOW, "done"))
        with closing(sqlite3.connect(tmp_path / LEDGER)) as connection, connection:
            connection.execute(f"PRAGMA user_version = {VERSION + 6}")
        before = (tmp_path / LEDGER).read_bytes()
        for call in (Ledger, read_ledger):
            with pytest.raises(ConfigError, match=f"newer geoseg .schema {VERSION + 6}, this one knows {VERSION}"):
                call(tmp_path)
        assert (tmp_path / LEDGER).read_bytes() == before

    @pytest.mark.parametrize("damage", ["text", "zeros", "middle", "other", "cut"])
    def test_a_broken_one_is_moved_aside_and_made_anew_from_the_reports(self, damage: str, tmp_path: Path) -> None:
        _scene(tmp_path, "sub/a", polygons=b"abc")
        _put(tmp_path, *(Row(f"s{i}", "1", "key", NOW, "done", entry=json.dumps(ENTRY)) for i in range(200)))
        path = tmp_path / LEDGER
        data = path.read_bytes()
        if damage == "other":
            path.unlink()
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute("CREATE TABLE scene (a TEXT)")
                connection.execute(f"PRAGMA user_version = {VERSION}")
        else:
            broken = {
                "text": b"no ledger at all, but a text of some length" * 50,
                "zeros": b"\1" * 5000,
                "middle": data[:4096] + b"\xff" * 4096 + data[8192:],
                "cut": data[:5000],
            }
            path.write_bytes(broken[damage])
        with open_ledger(tmp_path) as ledger:
            rows = ledger.rows() if damage != "other" else None
            assert rows is None or list(rows) == ["sub/a"]
            assert rows is None or rows["sub/a"].facts["outputs"] == ["sub/a/polygons", "sub/a/run.json"]
        if damage != "other":
            (aside,) = tmp_path.glob(f"{LEDGER}.broken-*")
            assert aside.read_bytes() != path.read_bytes()

    def test_values_of_wrong_types_are_scenes_not_seen(self, tmp_path: Path) -> None:
        _put(tmp_path, Row("a", "1", "key", NOW, "done"), Row("b", "1", "key", NOW, "failed", 1, entry="[" * 100_000))
        with closing(sqlite3.connect(tmp_path / LEDGER)) as connection, connection:
            connection.execute("UPDATE scene SET attempts = 'many' WHERE name = 'a'")
        assert [found.ref.name for found in _look(tmp_path, _found("a"), _found("b")).ready] == ["a", "b"]

    def test_a_full_disk_is_told_and_passes(self, tmp_path: Path) -> None:
        rows = [Row(f"scene {i}", "1" * 500, "key", NOW, "seen") for i in range(200)]
        with open_ledger(tmp_path) as ledger:
            # SQLite's own limit makes the error of a disk that is full.
            ledger._connection.execute("PRAGMA max_page_count = 4")
            with pytest.raises(OutputError, match="database or disk is full") as caught:
                ledger.put(rows)
            assert caught.value.transient
            assert ledger.rows() == {}
            ledger._connection.execute("PRAGMA max_page_count = 100000")
            ledger.put(rows)
            assert len(ledger.rows()) == 200

    def test_a_link_in_its_place_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "private").write_bytes(b"mine")
        (tmp_path / LEDGER).symlink_to(tmp_path / "private")
        with pytest.raises(OutputError, match="is a link"):
            Ledger(tmp_path)
        assert (tmp_path / "private").read_bytes() == b"mine"


class TestAgain:
    def test_delays_grow_to_a_limit_and_are_drawn_apart(self) -> None:
        for failures, middle in ((1, 10), (2, 20), (5, 160), (20, 3600), (10**9, 3600)):
            drawn = {delay_s(failures, 10, 3600) for _ in range(50)}
            assert len(drawn) > 10
            assert all(0.75 * middle <= value <= 1.25 * middle for value in drawn)

    def test_a_time_that_no_delay_explains_has_come(self) -> None:
        assert due(None, NOW, 3600)
        assert due(NOW, NOW, 3600)
        assert not due(NOW + 3600, NOW, 3600)
        assert due(NOW + 86_400, NOW, 3600), "the clock was ahead"

    def test_what_may_pass_never_ends_in_quarantine(self, tmp_path: Path) -> None:
        row, now = replace(Row("a", "1", "key", NOW, "started"), attempts=1), NOW
        failed = SceneReport(scene="a", status="failed", reason="the server answers 503", transient=True)
        for number in range(50):
            row = after(row, failed, WATCH, now, None, repaired=False)
            assert (row.status, row.attempts, row.delays) == ("waiting", 0, number + 1)
            assert row.retry_at is not None
            assert row.facts["reason"].startswith("the server answers 503; waiting, tried again at 20")
            _put(tmp_path, row)
            early = _look(tmp_path, _found("a"), now=row.retry_at - 1)
            assert (early.ready, list(early.delayed), early.quarantined) == ((), ["a"], ())
            now = row.retry_at + 1
            assert [f.ref.name for f in _look(tmp_path, _found("a"), now=now).ready] == ["a"]
            row = replace(row, status="started", attempts=1)
        assert row.retry_at is not None
        assert row.retry_at - NOW > 40 * 0.75 * 3600
        # One that succeeds begins anew.
        row = after(row, SceneReport(scene="a", status="done"), WATCH, now, None, repaired=False)
        assert (row.status, row.delays, row.retry_at) == ("done", 0, None)

    def test_faults_of_the_scene_do_and_the_two_are_counted_apart(self, tmp_path: Path) -> None:
        row = Row("a", "1", "key", NOW, "seen")
        away = SceneReport(scene="a", status="failed", reason="503", transient=True)
        bad = SceneReport(scene="a", status="failed", reason="no raster")
        for report in (bad, away, away, bad, away):
            row = after(replace(row, status="started", attempts=row.attempts + 1), report, WATCH, NOW, None, repaired=False)
            assert row.status != "quarantined"
        row = after(replace(row, status="started", attempts=row.attempts + 1), bad, WATCH, NOW, None, repaired=False)
        assert (row.status, row.attempts) == ("quarantined", 3)
        _put(tmp_path, row)
        assert _look(tmp_path, _found("a")).quarantined == ("a",)
        (listed,) = list_scenes([tmp_path])
        assert (listed.status, listed.next_try) == ("quarantined", None)
        assert "in quarantine after 3 attempts" in str(listed.reason)
        assert release([tmp_path], ["a"]) == ["a"]
        assert [f.ref.name for f in _look(tmp_path, _found("a")).ready] == ["a"]
        with pytest.raises(ConfigError, match=r"no such scene in .*; near: none"):
            release([tmp_path], ["zzz"])

    def test_a_scene_whose_end_could_not_be_noted_is_not_blamed(self, tmp_path: Path) -> None:
        from pipeline.watch.work import PROCESS

        for _ in range(5):
            _put(tmp_path, Row("a", "1", "key", NOW, "started", attempts=1, holder=PROCESS))
            assert [f.ref.name for f in _look(tmp_path, _found("a")).ready] == ["a"]
        # One that ended its process three times is.
        _put(tmp_path, Row("a", "1", "key", NOW, "started", attempts=3, holder="another"))
        assert _look(tmp_path, _found("a")).quarantined == ("a",)

    def test_a_clock_that_was_ahead_holds_nothing_up(self, tmp_path: Path) -> None:
        watch, year = WatchConfig(settle="1m"), 366 * 86_400
        late = replace(_found("a"), modified=NOW + year)
        assert _look(tmp_path, late, now=NOW + year, watch=watch).waiting == ("a",)
        # The clock is put right: it is waited for once more, not for a year.
        assert _look(tmp_path, late, now=NOW, watch=watch).waiting == ("a",)
        assert [f.ref.name for f in _look(tmp_path, late, now=NOW + 61, watch=watch).ready] == ["a"]
        _put(tmp_path, Row("b", "1", "key", NOW, "waiting", delays=3, retry_at=NOW + year))
        assert [f.ref.name for f in _look(tmp_path, _found("b"), now=NOW).ready] == ["b"]


class TestRepair:
    @pytest.fixture
    def done(self, tmp_path: Path) -> Iterator[Path]:
        _scene(tmp_path, "a", classes=b"123", polygons=b"4567")
        files = json.dumps(note_files(tmp_path / "a"))
        _put(tmp_path, Row("a", "1", "key", NOW, "done", entry=json.dumps(ENTRY), files=files))
        return tmp_path  # type: ignore[return-value]

    def test_what_is_as_it_was_left_is_left(self, done: Path) -> None:
        work = _look(done, _found("a"))
        assert (work.ready, work.known) == ((), 1)

    @pytest.mark.parametrize("fault", ["deleted", "longer", "touched", "report deleted", "report changed", "folder deleted"])
    def test_a_difference_is_a_repair(self, fault: str, done: Path) -> None:
        import os
        import shutil

        path = done / "a" / ("run.json" if fault.startswith("report") else "polygons")
        if fault == "folder deleted":
            shutil.rmtree(done / "a")
        elif fault.endswith("deleted"):
            path.unlink()
        elif fault == "longer":
            path.write_bytes(b"45678")
        else:
            data = path.read_bytes()
            path.write_bytes(data)
            os.utime(path, ns=(1, 1))
        work = _look(done, _found("a"))
        assert [found.ref.name for found in work.ready] == ["a"]
        assert work.reasons["a"].startswith("repair: ")
        # An operator can have files left as they are.
        if not fault.startswith(("report deleted", "folder")):
            left = _look(done, _found("a"), watch=WatchConfig(settle="0s", repair=False))
            assert (left.ready, list(left.damaged)) == ((), ["a"])

    def test_a_ledger_without_notes_asks_the_report(self, done: Path) -> None:
        _put(done, Row("a", "1", "key", NOW, "done", entry=json.dumps(ENTRY)))
        assert _look(done, _found("a")).known == 1
        (done / "a" / "polygons").unlink()
        assert _look(done, _found("a")).reasons == {"a": "repair: polygons is gone"}

    def test_files_that_change_again_and_again_are_repaired_ever_more_rarely(self, done: Path) -> None:
        with open_ledger(done) as ledger:
            row = ledger.rows()["a"]
        report, waits, now = SceneReport(scene="a", status="done"), [], NOW
        for _ in range(12):
            row = after(replace(row, status="started", attempts=1), report, WATCH, now, row.files, repaired=True)
            waits.append(0.0 if row.retry_at is None else row.retry_at - now)
            now += waits[-1] + 1
        assert waits[: FREE_REPAIRS - 1] == [0.0] * (FREE_REPAIRS - 1)
        assert 400 < waits[FREE_REPAIRS - 1] < 800
        assert 60_000 < waits[-1] < 110_000
        # A day of peace, and the next one is at once again.
        assert after(row, report, WATCH, now + 3 * 86_400, row.files, repaired=True).retry_at is None

    def test_nonsense_in_the_notes_is_no_trace(self, done: Path) -> None:
        for noted in ({"polygons": 7}, {"polygons": ["a", None]}, {}, {"\0": [1, 2], "run.json": [1, 2]}):
            assert difference(done / "a", noted) is None or isinstance(difference(done / "a", noted), str)


class TestStatus:
    @staticmethod
    def _written(out: Path) -> dict[str, Any]:
        work = Work((), ("c",), ("q",), 1)
        rows = {
            name: Row(name, "1", "key", NOW, status)
            for name, status in {
                "a": "done",
                "b": "started",
                "c": "seen",
                "q": "quarantined",
                "w": "waiting",
                "f": "failed",
            }.items()
        }
        status = StatusWriter(out, every_s=600)
        with status.scanning():
            status.looked([Away("s3://x/", 'a "quoted" \\ reason\nof two lines')])
            status.running("b", begun=True)
            status.counted(rows, work)
            status.mapped({"infer": 2.5, "plan": 1})
            found = read_status(out)
            assert found is not None
            assert (found["state"], found["running"]) == ("scanning", ["b"])
        found = read_status(out)
        assert found is not None
        return found

    def test_both_files_say_the_same(self, tmp_path: Path) -> None:
        parser = pytest.importorskip("prometheus_client.parser")
        found = self._written(tmp_path)
        expected = {
            "waiting": 1,
            "running": 1,
            "done": 1,
            "partial": 0,
            "failed": 1,
            "quarantined": 1,
            "backing_off": 1,
            "settling": 1,
            "damaged": 0,
        }
        assert found["scenes"] == expected
        text = (tmp_path / STATUS_PROM).read_text()
        samples = {
            (sample.name, *sample.labels.values()): sample.value
            for family in parser.text_string_to_metric_families(text)
            for sample in family.samples
        }
        assert {key[1]: value for key, value in samples.items() if key[0] == "geoseg_watch_scenes"} == expected
        assert samples["geoseg_watch_stage_seconds_total", "infer"] == 2.5
        assert samples["geoseg_watch_last_scan_success",] == 0, "a source was away"
        assert samples["geoseg_watch_disk_free_bytes",] == found["disk"]["free_bytes"] > 0
        assert abs(samples["geoseg_watch_last_good_scan_timestamp_seconds",] - time.time()) < 60
        # Totals go on in the next process.
        assert self._written(tmp_path)["seconds_by_stage"] == {"infer": 5.0, "plan": 2.0}
        assert sorted(path.name for path in tmp_path.iterdir()) == [STATUS_JSON, STATUS_PROM]

    def test_labels_are_escaped(self, tmp_path: Path) -> None:
        parser = pytest.importorskip("prometheus_client.parser")
        status = StatusWriter(tmp_path).document() | {"seconds_by_stage": {'a"b\\c\nd': 1.0}}
        (found,) = [
            sample.labels["stage"]
            for family in parser.text_string_to_metric_families(exposition(status))
            for sample in family.samples
            if sample.name == "geoseg_watch_stage_seconds_total"
        ]
        assert found == 'a"b\\c\nd'

    def test_a_file_of_somebody_is_left(self, tmp_path: Path) -> None:
        (tmp_path / STATUS_JSON).write_text('{"mine": true}')
        (tmp_path / STATUS_PROM).symlink_to(tmp_path / "elsewhere")
        StatusWriter(tmp_path).write()
        assert (tmp_path / STATUS_JSON).read_text() == '{"mine": true}'
        assert not (tmp_path / "elsewhere").exists()

    def test_health(self, tmp_path: Path) -> None:
        assert health(tmp_path)[0] is False
        self._written(tmp_path)
        well, line = health(tmp_path)
        assert well, line
        assert "1 in quarantine" in line
        assert "\n" not in line
        assert health(tmp_path, now=time.time() + 1000)[0], "three scans of ten minutes"
        assert not health(tmp_path, max_age_s=600, now=time.time() + 1000)[0]
        assert "nothing scanned for 3" in health(tmp_path, now=time.time() + 1900)[1]
        assert "ahead of the clock" in health(tmp_path, now=time.time() - 4000)[1]
        status = StatusWriter(tmp_path)
        with pytest.raises(OutputError), status.scanning():
            raise OutputError("no room is left")
        assert health(tmp_path)[:1] == (False,)
        assert "no room is left" in health(tmp_path)[1]
        for nonsense in ("{}", "[" * 100_000, '{"format": "geoseg-watch-status-1"}', ""):
            (tmp_path / STATUS_JSON).write_text(nonsense)
            assert not health(tmp_path)[0]


def test_settings_that_say_when() -> None:
    config = Config.parse({"watch": {"scan_timeout": "90s", "retry_delay": "1m", "retry_most": "1d"}})
    assert (config.watch.scan_timeout_s, config.watch.retry_delay_s, config.watch.retry_most_s) == (90, 60, 86_400)
    assert config.result_hash() == Config().result_hash()
    with pytest.raises(ConfigError, match="longer than a year"):
        Config.parse({"watch": {"retry_most": "9999999d"}})
