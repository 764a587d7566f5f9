"""What a ledger calls done counts for the same file, model and settings alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support import WriteRaster

from geoseg.models.model_folder import Model, load_model
from pipeline.config.sections import Config
from pipeline.publish.report import SceneReport
from pipeline.watch.ledger import BrokenLedgerError, Ledger, open_ledger
from pipeline.watch.row import Row
from pipeline.watch.scan import begin_scan

NOW = {"watch": {"settle": "0s"}}


def other_version(model: Model, folder: Path) -> Model:
    """The same network with a card of another version: another model."""
    shutil.copytree(model.path, folder)
    card = json.loads((folder / "card.json").read_text())
    text = json.dumps(card).replace(f'"{model.card.version}"', '"9.9.9"')
    assert "9.9.9" in text
    (folder / "card.json").write_text(text)
    return load_model(str(folder))


def ready(source: Path, model: Model, config: Config, out: Path, *, finish: bool = False) -> list[str]:
    """What a scan would map; noted as done if asked."""
    with begin_scan([str(source)], model, config, out) as scan:
        names = [found.ref.name for found in scan.work.ready]
        for found in scan.work.ready if finish else ():
            scan.started(found)
            (out / found.ref.name).mkdir(exist_ok=True)
            (out / found.ref.name / "run.json").write_text('{"files": {}}')
            scan.finished(found, SceneReport(scene=found.ref.name, status="done"))
    return names


def test_another_model_other_settings_or_another_file_is_work(write_raster: WriteRaster, forest: Model, tmp_path: Path) -> None:
    path, out, config = write_raster(np.ones((3, 30, 30), np.uint8), "a.tif"), tmp_path / "out", Config.parse(NOW)
    assert ready(path, forest, config, out, finish=True) == ["a"]
    assert ready(path, forest, config, out) == []
    other = other_version(forest, tmp_path / "other")
    assert other.sha256 != forest.sha256
    assert ready(path, other, config, out, finish=True) == ["a"]
    assert ready(path, other, config, out) == []
    assert ready(path, other, Config.parse(NOW | {"vector": {"min_area": "1ha"}}), out, finish=True) == ["a"]
    assert ready(path, other, Config.parse(NOW | {"vector": {"min_area": "1ha"}, "infer": {"threads": 1}}), out) == []
    write_raster(np.ones((3, 31, 30), np.uint8), "a.tif")
    assert ready(path, other, Config.parse(NOW | {"vector": {"min_area": "1ha"}}), out) == ["a"]


def test_rows_are_kept_and_those_of_one_call_are_written_together(tmp_path: Path) -> None:
    rows = [Row(f"scene {k}", f"v{k}", "key", 1.5 * k, "done", k, json.dumps({"scene": f"{k}"})) for k in range(3)]
    with open_ledger(tmp_path) as ledger:
        ledger.put(rows)
        assert list(ledger.rows().values()) == rows
        with pytest.raises(BrokenLedgerError, match="NOT NULL"):
            ledger.put([Row("new", "v", "key", 0.0, "seen"), Row("bad", None, "key", 0.0, "seen")])  # type: ignore[arg-type]
    with open_ledger(tmp_path) as ledger:
        assert list(ledger.rows()) == [row.name for row in rows]
        assert [entry["scene"] for entry in ledger.entries()] == ["0", "1", "2"]


def test_attempts_count_until_one_succeeds(write_raster: WriteRaster, forest: Model, tmp_path: Path) -> None:
    path, out = write_raster(np.ones((3, 30, 30), np.uint8), "a.tif"), tmp_path / "out"
    config = Config.parse({"watch": {"settle": "0s", "max_failures": 2}})

    def attempt(status: str) -> list[str]:
        with begin_scan([str(path)], forest, config, out) as scan:
            for found in scan.work.ready:
                scan.started(found)
                scan.finished(found, SceneReport(scene="a", status=status, reason="because"))
            return [found.ref.name for found in scan.work.ready]

    def row() -> Row:
        ledger = Ledger(out)
        try:
            return ledger.rows()["a"]
        finally:
            ledger.close()

    assert attempt("failed") == ["a"]
    assert (row().status, row().attempts) == ("failed", 1)
    assert attempt("done") == ["a"]
    assert (row().status, row().attempts) == ("done", 0)
    for _ in range(2):
        assert attempt("failed") == ["a"]
    assert row().status == "quarantined"
    assert attempt("failed") == []
