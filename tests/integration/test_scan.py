"""Scans: what is new, changed or half done is mapped, whatever the source; nothing else is touched."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stand_in import s3_settings
from support import LIMIT_S, ROOT, WriteRaster, contents, patchy

from geoseg.models.model_folder import Model
from pipeline.config.sections import Config
from pipeline.files.reports import note_files
from pipeline.infer.workers import LocalWorkers
from pipeline.publish.report import SceneReport
from pipeline.watch.ledger import open_ledger
from pipeline.watch.scan import find_work, scan_once
from pipeline.watch.source import list_source

Scan = Callable[..., dict[str, str]]


@pytest.fixture
def scan(identity_model: Model, tmp_path: Path) -> Scan:
    """One scan into ``out``; gives the status of each scene that was mapped."""

    def run(*sources: str | Path, **sections: Any) -> dict[str, str]:
        config = Config.parse({"vector": {"formats": ["fgb"]}} | sections)
        reports = scan_once([str(s) for s in sources], identity_model, config, tmp_path / "out", LocalWorkers)
        return {report.scene: report.status for report in reports}

    return run


def _index(out: Path) -> dict[str, dict[str, Any]]:
    return {entry["scene"]: entry for entry in json.loads((out / "index.json").read_text())["scenes"]}


NOW = {"settle": "0s"}


def test_new_changed_and_lost_scenes_are_mapped_once(write_raster: WriteRaster, scan: Scan, tmp_path: Path) -> None:
    folder = write_raster(np.ones((70, 80), np.uint8), "a.tif").parent
    assert scan(folder, watch=NOW) == {"a": "done"}
    assert scan(folder, watch=NOW) == {}
    write_raster(np.ones((70, 80), np.uint8), "sub/b.tif")
    assert scan(folder, watch=NOW) == {"sub/b": "done"}
    write_raster(np.full((70, 80), 2, np.uint8), "a.tif")
    assert scan(folder, watch=NOW) == {"a": "done"}
    assert json.loads((tmp_path / "out" / "a" / "run.json").read_text())["classes"][2]["pixels"] == 70 * 80
    (tmp_path / "out" / "sub" / "b" / "run.json").unlink()
    assert scan(folder, watch=NOW) == {"sub/b": "done"}
    # Other settings give other maps; how often one looks does not.
    assert scan(folder, watch=NOW | {"at_once": 2}) == {}
    assert scan(folder, watch=NOW, vector={"formats": ["gpkg"]}) == {"a": "done", "sub/b": "done"}
    assert {name: entry["status"] for name, entry in _index(tmp_path / "out").items()} == {"a": "done", "sub/b": "done"}


def test_files_that_are_being_written_are_left_alone(write_raster: WriteRaster, scan: Scan) -> None:
    path = write_raster(np.ones((70, 80), np.uint8), "a.tif")
    assert scan(path.parent, watch={"settle": "1h"}) == {}
    os.utime(path, (time.time() - 7200,) * 2)
    assert scan(path.parent, watch={"settle": "1h", "done_marker": ".done"}) == {}
    Path(f"{path}.done").touch()
    assert scan(path.parent, watch={"settle": "1h", "done_marker": ".done"}) == {"a": "done"}


def test_a_clock_that_is_ahead_does_not_hide_a_file(write_raster: WriteRaster, identity_model: Model, tmp_path: Path) -> None:
    path = write_raster(np.ones((70, 80), np.uint8), "a.tif")
    os.utime(path, (time.time() + 86400,) * 2)
    config = Config.parse({"watch": {"settle": "1m"}})
    found, _ = list_source([str(path)], config)
    with open_ledger(tmp_path) as ledger:
        assert not find_work(found, ledger, tmp_path, "key", config.watch, now=1e9).ready
        assert find_work(found, ledger, tmp_path, "key", config.watch, now=1e9 + 61).ready


def test_quarantine_ends_when_the_file_changes(write_raster: WriteRaster, scan: Scan, tmp_path: Path) -> None:
    folder = write_raster(np.ones((70, 80), np.uint8), "good.tif").parent
    (folder / "bad.tif").write_bytes(b"no raster")
    settings = NOW | {"max_failures": 2}
    assert scan(folder, watch=settings) == {"bad": "failed", "good": "done"}
    assert scan(folder, watch=settings) == {"bad": "failed"}
    assert scan(folder, watch=settings) == {}
    assert re.search("in quarantine after 2 attempts.*not a raster", _index(tmp_path / "out")["bad"]["reason"])
    write_raster(np.ones((70, 80), np.uint8), "bad.tif")
    assert scan(folder, watch=settings) == {"bad": "done"}


def test_results_of_others_are_not_replaced(write_raster: WriteRaster, scan: Scan, identity_model: Model, tmp_path: Path) -> None:
    from pipeline.segment.run import segment_scene

    path = write_raster(np.ones((70, 80), np.uint8), "a.tif")
    (ref,) = (item.ref for item in list_source([str(path)], Config())[0])
    segment_scene(ref, identity_model, Config.parse({"vector": {"formats": ["gpkg"]}}), tmp_path / "out")
    before = (tmp_path / "out" / "a" / "polygons.gpkg").read_bytes()
    for _ in range(3):
        assert scan(path, watch=NOW) == {"a": "failed"}
    assert scan(path, watch=NOW) == {}
    assert (tmp_path / "out" / "a" / "polygons.gpkg").read_bytes() == before


def test_ten_thousand_known_scenes_are_known(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    report = json.dumps({"files": {}})
    for number in range(10_000):
        (tmp_path / "in" / f"{number}.tif").touch()
        (tmp_path / "out" / str(number)).mkdir(parents=True)
        (tmp_path / "out" / str(number) / "run.json").write_text(report)
    config = Config.parse({"watch": NOW})
    found, _ = list_source([str(tmp_path / "in")], config)
    with open_ledger(tmp_path / "out") as ledger:
        work = find_work(found, ledger, tmp_path / "out", "key", config.watch, time.time())
        assert len(work.ready) == 10_000
        done = json.dumps(SceneReport(scene="", status="done").entry())
        import dataclasses

        ledger.put(
            dataclasses.replace(row, status="done", entry=done, files=json.dumps(note_files(tmp_path / "out" / row.name)))
            for row in ledger.rows().values()
        )
        began = time.process_time()
        work = find_work(found, ledger, tmp_path / "out", "key", config.watch, time.time())
        assert time.process_time() - began < 2
    assert (work.ready, work.known) == ((), 10_000)


def test_killed_watch_goes_on(write_raster: WriteRaster, identity_model: Model, scan: Scan, tmp_path: Path) -> None:
    path = write_raster(patchy(1200, 1200, 5, size=8), "a.tif")
    args = ["-m", str(identity_model.path), "--settle", "0s", "--tile", "256", "--chunk", "256"]
    command = [sys.executable, "-m", "pipeline", "watch", str(path.parent), "-o", str(tmp_path / "out"), *args]
    process = subprocess.Popen([*command, "--every", "1s", "-q"], cwd=ROOT)
    chunks = tmp_path / "out" / "a" / ".run" / "chunks"
    _wait(lambda: chunks.is_dir() and len(list(chunks.glob("*.tif"))) >= 2)
    process.kill()
    process.wait(LIMIT_S)
    assert not (tmp_path / "out" / "a" / "classes.tif").exists()
    process = subprocess.Popen([*command, "--every", "1s", "-q"], cwd=ROOT)
    _wait((tmp_path / "out" / "a" / "run.json").exists)
    write_raster(np.ones((70, 80), np.uint8), "b.tif")
    _wait((tmp_path / "out" / "b" / "run.json").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT_S) == 143
    clean = [sys.executable, "-m", "pipeline", "segment", str(path), "-o", str(tmp_path / "clean"), *args[:2], *args[4:]]
    assert subprocess.run(clean, cwd=ROOT, check=False, capture_output=True).returncode == 0
    assert contents(tmp_path / "out" / "a") == contents(tmp_path / "clean" / "a")


def _wait(condition: Callable[[], bool], seconds: float = LIMIT_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_bucket(write_raster: WriteRaster, scan: Scan, stand_in: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore")
    write_raster(np.ones((70, 80), np.uint8), "2024/a.tif")
    write_raster(np.ones((70, 80), np.uint8), "other/b.tif")
    settings = s3_settings(stand_in)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert scan("s3://in/2024/", watch={"done_marker": ".done"}) == {}
    (tmp_path / "in" / "2024" / "a.tif.done").touch()
    assert scan("s3://in/2024/", watch={"done_marker": ".done"}) == {"a": "done"}
    assert scan("s3://in/2024/", watch={"done_marker": ".done"}) == {}
    assert scan("s3://in/") == {"2024/a": "done", "other/b": "done"}


def test_stac_search(write_raster: WriteRaster, scan: Scan, stand_in: str, tmp_path: Path) -> None:
    for name in ("clear.tif", "cloudy.tif"):
        write_raster(np.ones((70, 80), np.uint8), name)
    source, settings = f"stac+http://{stand_in}/stac", {"collections": ["c"], "max_cloud_cover": 20}
    assert scan(source, stac=settings) == {"clear": "done"}
    assert scan(source, stac=settings) == {}
    assert json.loads((tmp_path / "out" / "clear" / "run.json").read_text())["acquired"].startswith("2023-05-06")
