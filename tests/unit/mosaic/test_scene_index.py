"""Scenes whose files are as an earlier run has left them in the index of its mosaic: they are planned, and not opened."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from support import TRANSFORM, WriteRaster, patchy

from geoseg.errors import SceneError
from geoseg.models.model_folder import Model
from geoseg.scenes.fingerprint import fingerprint, states_of, with_ends
from geoseg.scenes.sources import SceneRef, list_scenes
from pipeline.config.sections import Config
from pipeline.files.owned import FileFacts, sealed
from pipeline.infer.workers import LocalWorkers
from pipeline.mosaic.planning import laid_out
from pipeline.mosaic.run import map_mosaic
from pipeline.mosaic.scene_index import SCENES, KnownScenes
from pipeline.mosaic.scenes import Given, survey
from pipeline.mosaic.utm_zones import job_of
from pipeline.segment.planned import SceneJob

SECTIONS: dict[str, Any] = {"grid": {"tile": 64, "halo": 0, "chunk": 256}, "vector": {"formats": ["geojson"]}}


@pytest.fixture
def scenes(write_raster: WriteRaster) -> list[Path]:
    """Four scenes side by side; one of them off the pixels of the others."""

    def write(number: int) -> Path:
        shift = 80 * number + (0.4 if number == 2 else 0.0)
        place = TRANSFORM @ rasterio.Affine.translation(shift, 0)
        return write_raster(patchy(100, 120, 3, number), f"2024-0{number + 1}-07.tif", transform=place)

    return [write(number) for number in range(4)]


def refs_of(scenes: Sequence[Path]) -> list[SceneRef]:
    return list_scenes([str(scenes[0].parent)])[0]


def made(scenes: Sequence[Path], model: Model, out: Path) -> tuple[str, Path]:
    (report,) = map_mosaic(refs_of(scenes), [], model, Config.parse(SECTIONS), out, LocalWorkers)
    return report.status, out / "mosaic"


def spoil(path: Path) -> None:
    """Make a file that nothing can open, of the same size and time."""
    stat = path.stat()
    path.write_bytes(bytes(stat.st_size))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def known(given: Sequence[Given]) -> list[str]:
    return [one.name for one in given if one.states]


def planned(job: SceneJob, given: Sequence[Given]) -> list[object]:
    """All that a plan says, but for what only opened files tell: how they are stored."""
    plan, placed, common = laid_out(given, job)
    facts = [plan.identity(job.config), plan.describe(), plan.active, plan.grid, plan.layers, plan.estimate, plan.warnings]
    scene = plan.scene
    paths = [file.path for file in scene.files]
    facts += [scene.georeference, scene.fingerprint, scene.acquired, scene.modified, scene.own_paths, paths]
    return [*facts, plan.thumbnail, plan.sources, common.lattice, [replace(one, states=()) for one in placed]]


@pytest.mark.parametrize("area", [{}, {"aoi": "EPSG:32720:430500,8929200,431900,8929800"}])
def test_the_plan_is_the_same_and_known_files_are_not_opened(
    area: dict[str, str], scenes: list[Path], identity_model: Model, write_raster: WriteRaster, tmp_path: Path
) -> None:
    status, folder = made(scenes, identity_model, tmp_path / "out")
    assert status == "done"
    place = TRANSFORM @ rasterio.Affine.translation(320, 10)
    scenes.append(write_raster(patchy(90, 80, 3, 9), "new.tif", transform=place))
    os.utime(scenes[1], ns=(0, 1_700_000_000_123_456_789))
    config = Config.parse(SECTIONS | {"area": area})
    job, card = job_of(refs_of(scenes), [], identity_model, config, tmp_path / "out"), identity_model.card
    wanted = planned(job, survey(job.ref.later, config, card))
    for path in (scenes[2], scenes[3]):
        spoil(path)
    with pytest.raises(SceneError):
        survey(job.ref.later, config, card)
    given = survey(job.ref.later, config, card, known=KnownScenes([folder.parent], config, identity_model).given)
    assert known(given) == [scenes[0].stem, scenes[2].stem, scenes[3].stem]
    assert planned(job, given) == wanted


def test_a_run_again_opens_none_of_the_others(scenes: list[Path], identity_model: Model, tmp_path: Path) -> None:
    """It finds all done; where one of them has changed since, it looks at that one."""
    _, folder = made(scenes, identity_model, tmp_path / "out")
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    for path in scenes[1:]:
        spoil(path)
    assert made(scenes, identity_model, tmp_path / "out")[0] == "skipped"
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    scenes[2].touch()
    assert made(scenes, identity_model, tmp_path / "out")[0] == "failed"


@pytest.mark.parametrize(
    "change",
    [
        lambda scenes, _: Path(f"{scenes[1]}.aux.xml").write_text("<PAMDataset/>"),
        lambda scenes, _: scenes[1].with_suffix(".tfw").write_text("10\n0\n0\n-10\n0\n0\n"),
        lambda scenes, _: scenes[1].write_bytes(scenes[1].read_bytes() + b"0"),
        lambda scenes, _: scenes[1].touch(),
    ],
    ids=["aux", "world", "size", "time"],
)
def test_a_file_that_has_changed_or_got_company_is_opened(
    change: Callable[[list[Path], Path], object], scenes: list[Path], identity_model: Model, tmp_path: Path
) -> None:
    _, folder = made(scenes, identity_model, tmp_path / "out")
    change(scenes, folder)
    config, refs = Config.parse(SECTIONS), refs_of(scenes)
    looks = KnownScenes([folder.parent], config, identity_model)
    assert [looks.given(ref) is not None for ref in refs] == [True, False, True, True]


def test_what_was_looked_at_otherwise_or_changed_by_hand_is_not_taken(
    scenes: list[Path], identity_model: Model, tmp_path: Path
) -> None:
    _, folder = made(scenes, identity_model, tmp_path / "out")
    refs, config = refs_of(scenes), Config.parse(SECTIONS)

    def count(config: Config = config) -> int:
        looks = KnownScenes([folder.parent], config, identity_model)
        return sum(looks.given(ref) is not None for ref in refs)

    assert count() == 4
    # Where scenes are brought is no matter of how they are opened.
    assert count(Config.parse(SECTIONS | {"scene": {"target_crs": "EPSG:32721"}})) == 4
    for section, key, value in (("scene", "assume_crs", "EPSG:32720"), ("scene", "nodata", "0"), ("run", "date", "2024-01-01")):
        assert count(Config.parse(SECTIONS | {section: {key: value}})) == 0
    # An index of before has no such columns, and is an index all the same.
    index, record = folder / SCENES, folder / "run.json"
    table = pq.read_table(index)
    own = [name for name in table.schema.names if name in ("geoseg:files", "geoseg:opened_with", "geoseg:acquired", "geoseg:crs")]
    assert len(own) == 4
    pq.write_table(table.drop_columns(own), index)
    assert count() == 0
    document = json.loads(record.read_text())
    document["files"][SCENES] = FileFacts.of(index).to_json()
    record.write_text(json.dumps(sealed(document)))
    assert count() == 0
    assert [ref.name for ref in list_scenes([str(index)])[0]] == [ref.name for ref in refs]
    assert made(scenes, identity_model, tmp_path / "out")[0] == "skipped"


def test_fingerprints_are_the_same_from_states(write_raster: WriteRaster, tmp_path: Path) -> None:
    big = write_raster(np.random.default_rng(1).integers(0, 255, (400, 500), dtype=np.uint8), "a.tif")
    Path(f"{big}.aux.xml").write_text("<PAMDataset/>")
    for other in ("a.tfw", "a_RPC.TXT", "ab.tif", "a_2.tif"):
        (big.parent / other).write_text(other)
    paths = [str(big)]
    states = states_of(paths, {})
    assert [Path(state.path).name for state in states] == ["a.tfw", "a.tif", "a.tif.aux.xml", "a_RPC.TXT"]
    read = with_ends(states, paths)
    assert [state.ends is not None for state in read] == [False, True, True, False]
    assert fingerprint(paths, states=read) == fingerprint(paths, states=states) == fingerprint(paths)
    wanted = fingerprint(paths)
    spoil(big)
    assert fingerprint(paths, states=read) == wanted != fingerprint(paths)
    big.touch()
    assert fingerprint(paths, states=read) == fingerprint(paths)
