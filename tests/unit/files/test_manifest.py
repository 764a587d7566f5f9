"""What a run has finished counts for the same inputs, model, settings and code alone; damaged lines are as if never written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from geoseg.models.model_folder import Model
from pipeline.config.sections import Config
from pipeline.files.manifest import Manifest, StageRecord

IDENTITY = {"scene": "s", "model": "m", "config": "c", "code": "1", "engine": "onnx", "grid": [1, 2], "chunk": 4096}


def filled(path: Path, chunks: int = 5) -> Manifest:
    manifest = Manifest.open(path, IDENTITY)
    for index in range(chunks):
        manifest.add_chunk(index, {"status": "done", "files": {"a": f"{index}"}})
    manifest.add_stage(StageRecord(stage="stitch", key="k", files={}))
    return manifest


def test_facts_are_found_again(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    filled(path)
    again = Manifest.open(path, IDENTITY)
    assert again.resumed
    assert {index: again.chunks[index]["files"]["a"] for index in again.chunks} == {k: str(k) for k in range(5)}
    assert again.stages["stitch"].key == "k"
    again.add_chunk(2, {"status": "done", "files": {"a": "other"}})
    assert Manifest.open(path, IDENTITY).chunks[2]["files"]["a"] == "other"
    assert Manifest.read_identity(path) == IDENTITY


@pytest.mark.parametrize("key", IDENTITY)
def test_nothing_is_taken_from_a_run_of_another_identity(tmp_path: Path, key: str) -> None:
    path = tmp_path / "manifest.jsonl"
    filled(path)
    other = Manifest.open(path, IDENTITY | {key: "other"})
    assert not other.resumed
    assert not list(other.chunks)
    assert not other.stages
    # And the other way round: what was begun anew is what counts now.
    assert not Manifest.open(path, IDENTITY).resumed


def test_every_cut_and_every_flipped_byte_costs_no_more_than_its_line(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    filled(path, 3)
    content = path.read_bytes()
    first = content.index(b"\n")
    ends = [at for at, byte in enumerate(content) if byte == 10]
    for at in sorted({*range(0, len(content), 13), *ends, *(end - 1 for end in ends), *(end + 1 for end in ends[:-1])}):
        for damaged in (content[:at], content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]):
            path.write_bytes(damaged)
            found = Manifest.open(path, IDENTITY)
            assert found.resumed == (at > first or (at == first and len(damaged) == at))
            for index in found.chunks:
                assert found.chunks[index] == {"chunk": index, "status": "done", "files": {"a": f"{index}"}}
            if found.resumed and len(damaged) == len(content):
                # A flipped byte costs a line, or two where it was the end of one.
                assert len(found.chunks) + len(found.stages) >= 2
            # What is added afterwards is not swallowed by the rest of a line.
            found.add_chunk(9, {"status": "done", "files": {"a": "9"}})
            assert 9 in Manifest.open(path, IDENTITY).chunks


def test_stages_are_on_the_disk_and_chunks_within_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = 0
    sync = os.fsync

    def counted(descriptor: int) -> None:
        nonlocal synced
        synced += 1
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", counted)
    manifest = Manifest.open(tmp_path / "manifest.jsonl", IDENTITY)
    assert synced == 1
    for index in range(20):
        manifest.add_chunk(index, {"status": "done"})
    assert synced <= 3
    before = synced
    manifest.add_stage(StageRecord(stage="stitch", key="k", files={}))
    assert synced == before + 1
    monkeypatch.setattr("pipeline.files.manifest.SYNC_EVERY_S", 0.0)
    manifest.add_chunk(20, {"status": "done"})
    assert synced == before + 2


CHANGES = [
    ("scene", {"bands": ["3", "2", "1"]}, True, True),
    ("scene", {"ignore_nodata": True}, True, True),
    ("grid", {"tile": 512}, True, True),
    ("grid", {"halo": 32}, True, True),
    ("grid", {"chunk": 512}, False, False),
    ("infer", {"tta": "d4"}, True, True),
    ("infer", {"threads": 1}, False, False),
    ("infer", {"batch": 7}, False, False),
    ("infer", {"compile": "always"}, False, False),
    ("infer", {"memory": "2GB"}, False, False),
    ("infer", {"probabilities": True}, True, True),
    ("vector", {"min_area": "1ha"}, False, True),
    ("vector", {"formats": ["fgb"]}, False, True),
    ("dates", {"change_rate": 0.3}, True, True),
    ("dates", {"least_width": 5.0}, False, True),
    ("run", {"date": "2024-01-02"}, False, True),
    ("run", {"keep": True}, False, False),
    # An area counts by its geometry, in the identity of each scene.
    ("area", {"aoi": "1,2,3,4"}, False, False),
    ("area", {"aoi": "1,2,3,4", "aoi_cut": "exact"}, False, True),
    ("area", {"aoi_cut": "exact"}, False, False),
    ("watch", {"settle": "1h"}, False, False),
    ("stac", {"max_items": 3}, False, False),
]


@pytest.mark.parametrize(("section", "values", "chunks", "result"), CHANGES)
def test_settings_count_for_what_depends_on_them(section: str, values: dict[str, object], chunks: bool, result: bool) -> None:
    plain, changed = Config(), Config.parse({section: values})
    assert (plain.chunk_hash() != changed.chunk_hash()) == chunks
    assert (plain.result_hash() != changed.result_hash()) == result


def test_the_plan_of_another_scene_model_engine_or_grid_is_another(tmp_path: Path, forest: Model) -> None:
    from dataclasses import replace

    from geoseg.grid import Grid
    from geoseg.procedural import Frontier
    from geoseg.scenes.sources import list_scenes
    from pipeline.plan.engine_choice import Placement
    from pipeline.plan.make import make_plan

    Frontier(100, 120).write(tmp_path / "a.tif")
    (ref,), _ = list_scenes([str(tmp_path / "a.tif")])
    config = Config.parse({"grid": {"tile": 256, "chunk": 256}})
    plan = make_plan(ref, forest, config)
    identity = plan.identity(config)
    others = [
        replace(plan, scene=replace(plan.scene, fingerprint="other")),
        replace(plan, model_sha256="other"),
        replace(plan, placement=Placement("torch")),
        replace(plan, placement=Placement("onnx", compiled=True)),
        replace(plan, grid=replace(plan.grid, one_shape=True)),
        replace(plan, grid=Grid(100, 120, tile=512, halo=64, stride=16, chunk=256)),
        replace(plan, grid=Grid(100, 120, tile=256, halo=32, stride=16, chunk=256)),
    ]
    assert plan.identity(config) == identity
    for other in others:
        assert other.identity(config) != identity
    # A touched file is another scene.
    os.utime(tmp_path / "a.tif", (1e9, 1e9))
    assert make_plan(ref, forest, config).identity(config)["scene"] != identity["scene"]
