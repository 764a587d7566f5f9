"""The picture that is drawn while polygons are written is the one that is drawn afterwards; a run that goes on draws anew."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from support import WriteRaster

from geoseg.errors import OutputError
from geoseg.models.model_folder import Model
from geoseg.scenes.sources import SceneRef
from pipeline.config.sections import Config
from pipeline.publish.run import draw_preview
from pipeline.segment import drawn_ahead, publishing, scene_stages
from pipeline.segment.drawn_ahead import DrawnAhead
from pipeline.segment.overlapped import map_scene
from pipeline.segment.planned import SceneJob
from pipeline.segment.planning import plan
from pipeline.segment.publishing import publish
from pipeline.segment.run import held, segment_scene


@pytest.fixture
def job(write_raster: WriteRaster, identity_model: Model, tmp_path: Path) -> SceneJob:
    path = write_raster((np.indices((600, 900)).sum(axis=0) // 40 % 3).astype(np.uint8))
    config = Config.parse({"grid": {"tile": 64, "halo": 0, "chunk": 256}, "vector": {"formats": ["gpkg", "parquet"]}})
    return SceneJob.of(SceneRef("scene", (str(path),)), identity_model, config, tmp_path / "ahead")


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The threads that drew."""
    names: list[str] = []

    def noted(*args: object) -> object:
        names.append(threading.current_thread().name)
        return draw_preview(*args)  # type: ignore[arg-type]

    for module in (drawn_ahead, publishing):
        monkeypatch.setattr(module, "draw_preview", noted)
    return names


def test_picture_drawn_ahead_is_that_of_the_end(job: SceneJob, threads: list[str], tmp_path: Path) -> None:
    with held(job):
        planned = plan(job)
        with DrawnAhead(planned) as ahead:
            mapped = map_scene(planned, on_traced=ahead.begin)
            publish(planned, mapped, drawn=ahead.pictures)
    assert [name.startswith("geoseg-preview") for name in threads] == [True]
    other = SceneJob.of(job.ref, job.model, job.config, tmp_path / "after")
    with held(other):
        planned = plan(other)
        publish(planned, map_scene(planned))
    assert [name.startswith("geoseg-preview") for name in threads] == [True, False]
    one, two = ((folder.folder / "preview.png").read_bytes() for folder in (job, other))
    assert one == two
    pages = [(folder.folder / "report.html").read_text(encoding="utf-8").count("data:image/") for folder in (job, other)]
    assert pages[0] == pages[1] > 0


def test_run_that_goes_on_after_its_stages_draws_anew(job: SceneJob, threads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # Killed before its end: what was drawn is of a process that is gone, and may be half a picture.
    monkeypatch.setattr("pipeline.segment.run.publish", lambda *_args, **_more: (_ for _ in ()).throw(OutputError("killed")))
    with pytest.raises(OutputError, match="killed"):
        segment_scene(job.ref, job.model, job.config, job.out)
    picture = job.place.stage / "preview.png"
    picture.write_bytes(picture.read_bytes()[:100])
    monkeypatch.undo()
    assert segment_scene(job.ref, job.model, job.config, job.out).status == "done"
    assert len(threads) == 1
    assert (job.folder / "preview.png").stat().st_size > 100


def test_failure_of_the_rasters_is_told_and_nothing_is_drawn(
    job: SceneJob, threads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scene_stages, "stitch_layers", lambda *_args, **_more: (_ for _ in ()).throw(OutputError("disk")))
    with pytest.raises(OutputError, match="disk"):
        segment_scene(job.ref, job.model, job.config, job.out)
    assert threads == []
