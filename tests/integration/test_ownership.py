"""What is in the output folder belongs to its owner, across whole runs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from kill_points import CHANGES, traced
from support import FINALS, WriteRaster, contents, patchy

from geoseg.models.model_folder import Model
from geoseg.scenes.sources import list_scenes
from pipeline.config.sections import Config
from pipeline.files.manifest import Manifest
from pipeline.files.owned import digest_of, sealed
from pipeline.infer.workers import LocalWorkers
from pipeline.plan.engine_choice import Placement
from pipeline.plan.make import make_plan
from pipeline.publish.report import SceneReport
from pipeline.segment.folder import segment_folder

Segment = Callable[..., dict[str, SceneReport]]
FILES = ("model.onnx", "item.csv", "preview.jpg", "polygons.shp", "classes.tfw", "classes.tif.ovr")


@pytest.fixture
def segment(identity_model: Model, tmp_path: Path) -> Segment:
    """Maps scenes into ``out``; gives the reports by scene."""

    def run(*paths: Path, **options: Any) -> dict[str, SceneReport]:
        config = Config.parse({"grid": {"tile": 64, "halo": 0, "chunk": 256}, "run": options})
        scenes, refused = list_scenes([str(path) for path in paths])
        reports = segment_folder(scenes, refused, identity_model, config, tmp_path / "out", LocalWorkers)
        return {report.scene: report for report in reports}

    return run


def _all(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def scene(write_raster: WriteRaster) -> Path:
    return write_raster(patchy(300, 520, 5), "a.tif")


def test_files_of_a_user_are_neither_removed_nor_mixed_with(segment: Segment, scene: Path, tmp_path: Path) -> None:
    own = tmp_path / "out" / "a"
    own.mkdir(parents=True)
    for name in FILES:
        (own / name).write_bytes(name.encode())
    before = _all(own)
    for overwrite in (False, True):
        report = segment(scene, overwrite=overwrite)["a"]
        assert report.status == "failed"
        assert "classes.tfw" in str(report.reason)
        assert "--overwrite neither" in str(report.reason)
        assert _all(own) == before
    # Beside the files of a run they stay as well, whatever becomes of these.
    shutil.rmtree(own)
    assert segment(scene)["a"].status == "done"
    for name in FILES:
        (own / name).write_bytes(name.encode())
    assert segment(scene, overwrite=True, confidence=False)["a"].status == "done"
    assert before.items() <= _all(own).items()
    assert not (own / "confidence.tif").exists()


def test_what_is_damaged_is_made_anew_and_an_edit_is_kept(
    segment: Segment, scene: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out" / "a"
    assert segment(scene)["a"].warnings == ()
    whole = contents(out)
    data = bytearray(whole["classes.tif"])
    data[len(data) // 2] ^= 1
    (out / "classes.tif").write_bytes(data)
    (out / "polygons.gpkg").write_bytes(b"hours of work")
    (out / "item.json").unlink()
    report = segment(scene)["a"]
    assert report.status == "done"
    assert contents(out) == whole
    kept = {path.name.partition(".kept-")[0]: path.read_bytes() for path in out.glob("*.kept-*")}
    assert kept == {"classes.tif": bytes(data), "polygons.gpkg": b"hours of work"}
    said = [note for note in report.warnings if "it is kept as" in note]
    assert len(said) == 2
    assert set(said) <= set(caplog.messages)
    assert segment(scene)["a"].status == "skipped"
    # A record that is gone vouches for nothing: all that it spoke of is kept.
    (out / "run.json").unlink()
    assert segment(scene)["a"].status == "done"
    assert contents(out) == whole
    assert {f"{name}.kept" for name in FINALS} <= {path.name.rpartition("-")[0] for path in out.glob("*.kept-*")}


def test_another_version_of_the_code_has_finished_or_only_begun(segment: Segment, scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "a"
    segment(scene)
    document = json.loads((out / "run.json").read_text())
    code = document["identity"]["code"]
    other = {**document, "geoseg": "0.0.9+old", "identity": {**document["identity"], "code": "0.0.9+old"}}
    (out / "run.json").write_text(json.dumps(sealed(other)))
    before = _all(out)
    report = segment(scene)["a"]
    assert (report.status, report.reason) == ("skipped", "finished by geoseg 0.0.9+old; --overwrite redoes it")
    assert _all(out) == before
    assert segment(scene, overwrite=True)["a"].status == "done"
    assert json.loads((out / "run.json").read_text())["identity"]["code"] == code
    assert segment(scene, overwrite=True)["a"].reason == "finished by an earlier run"
    # Chunks that another version has left are not taken up.
    shutil.rmtree(out)
    segment(scene, keep=True)
    manifest = out / ".run" / "manifest.jsonl"
    identity = Manifest.read_identity(manifest)
    assert identity is not None
    manifest.unlink()
    Manifest.open(manifest, {**identity, "code": "0.0.9+old"}).add_chunk(0, {"status": "done", "files": {}})
    for name in ("run.json", "classes.tif"):
        (out / name).unlink()
    assert segment(scene)["a"].status == "done"


def test_the_index_agrees_with_what_is_there(segment: Segment, scene: Path, write_raster: WriteRaster, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def index() -> dict[str, tuple[str, int]]:
        document = json.loads((out / "index.json").read_text())
        assert document["digest"] == digest_of(document)
        for entry in document["scenes"]:
            assert all((out / name).is_file() for name in entry["outputs"])
        return {entry["scene"]: (entry["status"], len(entry["outputs"])) for entry in document["scenes"]}

    out.mkdir()
    (out / "index.json").write_text('{"scenes": "of a play"}')
    (out / "items.parquet").write_text("a table of mine")
    other = write_raster(np.ones((70, 80), np.uint8), "b.tif")
    segment(scene)
    (kept,) = out.glob("index.json.kept-*")
    assert kept.read_text() == '{"scenes": "of a play"}'
    (kept,) = out.glob("items.parquet.kept-*")
    assert kept.read_text() == "a table of mine"
    (bad := scene.with_name("c.tif")).write_bytes(b"no raster")
    # And run.json, chunks.json, report.html.
    count = len(FINALS) + 3
    segment(other, bad)
    assert index() == {"a": ("done", count), "b": ("done", count), "c": ("failed", 0)}
    assert {link["href"] for link in json.loads((out / "collection.json").read_text())["links"]} == {
        "./a/item.json",
        "./b/item.json",
    }
    table = geopandas.read_parquet(out / "items.parquet")
    assert list(table["id"]) == ["a", "b"]
    assert all((out / asset["href"]).is_file() for row in table["assets"] for asset in row.values())
    assert not list(out.glob("items.parquet.kept-*"))[1:]
    # What fails now, or is not come to, may have been mapped before; what is gone is told of no more.
    scene.write_bytes(b"no raster")
    shutil.rmtree(out / "b")
    segment(scene, strict=True)
    assert index() == {"a": ("failed", count)}


def test_all_files_are_on_the_disk_before_the_record(segment: Segment, scene: Path, tmp_path: Path) -> None:
    """Files that GDAL, SQLite and Arrow write, too: each is synchronized after its last change, and before the journal."""
    out = tmp_path / "out" / "a"
    events: list[tuple[str, str, int]] = []

    def note(name: str, args: tuple[Any, ...]) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{args[0]}") if isinstance(args[0], int) else args[0])
        place = str(args[1]) if name in ("rename", "replace") else str(path)
        events.append((name, os.path.relpath(place, out), path.stat().st_mtime_ns if path.exists() else 0))

    with traced(note, (*CHANGES, "fsync")):
        segment(scene)
    journal = next(i for i, event in enumerate(events) if event[:2] == ("replace", ".run/publish.json"))
    record = next(i for i, event in enumerate(events) if event[:2] == ("rename", "run.json"))
    assert journal < record
    for name in (*FINALS, "chunks.json", "run.json"):
        synced = [event[2] for event in events[:journal] if event[:2] == ("fsync", f".run/final/{name}")]
        assert synced, name
        assert synced[-1] == (out / name).stat().st_mtime_ns, name
        if name != "run.json":
            assert next(i for i, event in enumerate(events) if event[:2] == ("rename", name)) < record
    last = max(i for i, event in enumerate(events[:record]) if event[0] == "rename")
    assert "." in {event[1] for event in events[last:record] if event[0] == "fsync"}
    assert "." in {event[1] for event in events[record:] if event[0] == "fsync"}


def test_chunks_can_be_computed_again_and_compared(segment: Segment, scene: Path, identity_model: Model, tmp_path: Path) -> None:
    """The hash of a chunk is that of the pixels which the rasters have there."""
    from pipeline.infer.chunk import ChunkWorker
    from pipeline.infer.storage import FolderStorage

    segment(scene)
    out = tmp_path / "out" / "a"
    report, chunks = (json.loads((out / name).read_text()) for name in ("run.json", "chunks.json"))
    with rasterio.open(out / "classes.tif") as classes, rasterio.open(out / "confidence.tif") as confidence:
        layers = {"classes": classes.read(1), "confidence": confidence.read(1)}
    assert chunks["format"] == "geoseg-chunks/1"
    assert chunks["total"] == len(chunks["chunks"]) == 6
    for _, row, col, height, width, status, sha256, machine in chunks["chunks"]:
        digest = hashlib.sha256()
        for name, _ in chunks["layers"]:
            part = layers[name][row : row + height, col : col + width]
            digest.update(f"{name} |u1 {part.shape}\n".encode() + part.tobytes())
        assert (status, sha256) == ("done", digest.hexdigest())
        assert "onnxruntime" in chunks["machines"][machine]
    # From what the folder says, anew.
    config = Config.parse(report["config"])
    (ref,), _ = list_scenes(report["given"]["paths"])
    plan = make_plan(
        ref, identity_model, config, chunk=chunks["identity"]["chunk"], placement=Placement(chunks["identity"]["engine"])
    )
    assert {**plan.identity(config), "grid": list(plan.identity(config)["grid"])} == chunks["identity"]
    worker = ChunkWorker(plan, FolderStorage(tmp_path / "nowhere"))
    try:
        assert [worker.anew(line[0])[0] for line in chunks["chunks"]] == [line[6] for line in chunks["chunks"]]
    finally:
        worker.close()
    assert not (tmp_path / "nowhere").exists()
