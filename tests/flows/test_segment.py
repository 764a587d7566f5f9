"""Flows on a real, temporary Prefect server on loopback: they do what the command does, and show it."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from rasterio import Affine
from rasterio.warp import transform
from support import FINALS, LIMIT_S, TRANSFORM, UTM, WriteRaster, call_cli, contents, patchy, run_cli

from geoseg import errors
from geoseg.models.model_folder import Model
from geoseg.scenes.names import folder_name
from geoseg.transient import passing

pytest.importorskip("prefect")
OPTIONS = {"vector": {"formats": ["gpkg", "geojson"]}, "grid": {"tile": 64, "chunk": 256}}


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=LIMIT_S):
        yield


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that keeps what is posted to it, and the name under which flows know it."""
    messages: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            del args

    listener = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    monkeypatch.setenv("GEOSEG_WEBHOOK", f"http://127.0.0.1:{listener.server_port}/hook")
    yield "env:GEOSEG_WEBHOOK", messages
    listener.shutdown()
    listener.server_close()


def _artifacts() -> list[Any]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client.read_artifacts()


def _states_of_tasks() -> list[tuple[str, str]]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        runs = client.read_task_runs(limit=200)
    return [(run.name.split("-")[0], run.state.name) for run in sorted(runs, key=lambda r: r.expected_start_time)]


@pytest.mark.slow
def test_scene_flow_does_what_the_command_does(
    write_raster: WriteRaster, identity_model: Model, tmp_path: Path, webhook: tuple[str, list[dict[str, Any]]]
) -> None:
    from flows.segment import segment_scene
    from pipeline.config.sections import Config

    path = write_raster(patchy(300, 520, 5))
    config = Config.parse(OPTIONS | {"watch": {"webhook": webhook[0]}})
    entry = segment_scene([str(path)], str(identity_model.path), str(tmp_path / "flow"), config)
    assert entry["status"] == "done"
    args = ["segment", path, "-m", identity_model.path, "-o", tmp_path / "cli", "--tile", "64", "--chunk", "512"]
    assert run_cli(args).returncode == 0
    assert contents(tmp_path / "flow" / "scene") == contents(tmp_path / "cli" / "scene")
    kinds = {artifact.type: artifact for artifact in _artifacts()}
    assert {"progress", "markdown"} <= set(kinds)
    page = kinds["markdown"].data
    cells = [line.split("|") for line in page.splitlines() if line.startswith("| ") and "pixels" not in line]
    assert sum(int(row[4].replace(",", "")) for row in cells) == 300 * 520
    assert all(f"- {name}" in page for name in FINALS)
    assert "](data:image/png;base64," in page
    assert [message["event"] for message in webhook[1]] == ["flow.completed"]


def test_what_the_cache_remembers_is_believed_only_while_the_files_verify(
    write_raster: WriteRaster, identity_model: Model, tmp_path: Path
) -> None:
    from prefect import flow

    from flows import stages
    from geoseg.scenes.sources import SceneRef
    from pipeline.config.sections import Config
    from pipeline.segment.planned import SceneJob
    from pipeline.segment.run import held

    path, out = write_raster(patchy(300, 520, 5)), tmp_path / "out"
    config = Config.parse(OPTIONS)

    @flow
    def first_stages() -> None:
        job = SceneJob.of(SceneRef("scene", (str(path),)), identity_model, config, out)
        with held(job):
            planned = stages.plan(job)
            stages.trusted(stages.map_scene, planned)(planned, stages.Means())

    before = len(_states_of_tasks())
    first_stages()
    first_stages()
    states = _states_of_tasks()[before:]
    assert sorted(states) == sorted([("plan", "Completed")] * 2 + [("map", "Completed"), ("map", "Cached")])
    raster = out / "scene" / ".run" / "final" / "classes.tif"
    whole = raster.read_bytes()
    raster.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    before = len(_states_of_tasks())
    first_stages()
    assert ("map", "Completed") in _states_of_tasks()[before:]
    assert raster.read_bytes() == whole


def _statuses(out: Path) -> dict[str, str]:
    return {entry["scene"]: entry["status"] for entry in json.loads((out / "index.json").read_text())["scenes"]}


def _pages(kind: str) -> dict[str, list[str]]:
    """The texts of keyed pages, the earliest first."""
    found: dict[str, list[str]] = {}
    for one in sorted(_artifacts(), key=lambda one: one.created):
        if one.key and one.key.startswith(kind):
            found.setdefault(one.key, []).append(one.data)
    return found


def test_scan_flow(
    write_raster: WriteRaster,
    identity_model: Model,
    tmp_path: Path,
    webhook: tuple[str, list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A scan in which a scene fails is no success; its page names who needs somebody first; each scene has one page."""
    from flows.scan import scan
    from pipeline.config.sections import Config

    write_raster(np.ones((70, 80), np.uint8), "a.tif")
    (tmp_path / "in" / "junk.tif").write_bytes(b"no raster")
    config = Config.parse(
        {"watch": {"settle": "0s", "at_once": 2, "max_failures": 2, "webhook": webhook[0]}, "vector": {"formats": ["fgb"]}}
    )
    out = tmp_path / "scan flow"
    monkeypatch.setenv("GEOSEG_SERVER_MAPS", str(tmp_path))
    monkeypatch.setenv("GEOSEG_MAPS_URL", "http://127.0.0.1:1/maps/")
    args = ([str(tmp_path / "in")], str(identity_model.path), str(out), config)
    for attempt in range(2):
        state = scan(*args, return_state=True)
        assert (state.type.value, state.name) == ("FAILED", "Unfinished")
        assert state.message.startswith(("1 of 2 scenes failed: junk: ", "1 of 1 scene failed: junk: ")[attempt])
    assert _statuses(out) == {"a": "done", "junk": "failed"}
    # Nothing is new: green, and the page stays as it is.
    assert scan(*args) == []
    assert "in quarantine after 2 attempts" in json.loads((out / "index.json").read_text())["scenes"][1]["reason"]
    assert sorted(message["event"] for message in webhook[1]) == ["flow.completed", "flow.failed", "flow.failed"]
    ((key, versions),) = _pages("scan-scan-flow-").items()
    assert len(versions) == 2
    for text in versions:
        assert text.startswith("# 1 scene needs you\n\n- **junk** (")
        assert "- **junk**" not in text.partition("## Tried in this scan")[2]
    assert "| [a](http://127.0.0.1:1/maps/scan%20flow/a/report.html) | done |" in versions[0]
    assert "quarantined" in versions[1]
    ((_, (scene,)),) = _pages("scene-scan-flow-a-").items()
    assert "](http://127.0.0.1:1/maps/scan%20flow/a/report.html)" in scene
    assert "file:" not in scene + "".join(versions)
    # It is mapped again, and that is the latest on the same page.
    write_raster(np.zeros((70, 80), np.uint8), "a.tif")
    (tmp_path / "in" / "junk.tif").unlink()
    assert [entry["status"] for entry in scan(*args)] == ["done"]
    ((_, scenes),) = _pages("scene-scan-flow-a-").items()
    assert len(scenes) == 2
    assert _pages("scan-scan-flow-")[key][-1].startswith("# No scene needs you")


def test_scans_that_keep_a_mosaic(
    write_raster: WriteRaster, identity_model: Model, tmp_path: Path, webhook: tuple[str, list[dict[str, Any]]]
) -> None:
    from flows.scan import scan
    from pipeline.config.sections import Config

    for number in range(2):
        place = TRANSFORM @ Affine.translation(50 * number, 0)
        write_raster(np.ones((70, 80), np.uint8), f"{number}.tif", transform=place)
    (tmp_path / "in" / "junk.tif").write_bytes(b"no raster")
    config = Config.parse(
        {"watch": {"mosaic": True, "settle": "0s", "webhook": webhook[0]}, "vector": {"formats": ["fgb"]}, "run": {"keep": True}}
    )
    args = ([str(tmp_path / "in")], str(identity_model.path), str(tmp_path / "out"), config)
    status = lambda entries: {entry["scene"]: entry["status"] for entry in entries}  # noqa: E731
    assert "junk" in scan(*args, return_state=True).message
    assert _statuses(tmp_path / "out") == {"mosaic": "done", "junk": "failed"}
    assert sorted(message["event"] for message in webhook[1]) == ["scene.done", "scene.failed"]
    (tmp_path / "in" / "junk.tif").unlink()
    # Without it nothing is to be done but to see that.
    assert status(scan(*args)) in ({}, {"mosaic": "skipped"})
    write_raster(np.ones((70, 80), np.uint8), "2.tif", transform=TRANSFORM @ Affine.translation(100, 0))
    assert status(scan(*args)) == {"mosaic": "done"}
    assert status(scan(*args)) == {}
    names = [one["name"] for one in json.loads((tmp_path / "out" / "mosaic" / "run.json").read_text())["scenes"]]
    assert names == ["0", "1", "2"]


def test_scans_that_keep_a_mosaic_of_several_zones(write_raster: WriteRaster, identity_model: Model, tmp_path: Path) -> None:
    """A page for each map, and a scan that finds nothing new after that."""
    from flows.scan import scan
    from pipeline.config.sections import Config

    for zone, shift in ((20, -60), (21, -20)):
        (x,), _ = transform("EPSG:4326", f"EPSG:327{zone}", [-60], [-9.6])
        place = Affine(10, 0, round(x / 10) * 10 + shift * 10, 0, -10, 8_930_000)
        write_raster(np.ones((70, 80), np.uint8), f"{zone}.tif", transform=place, crs=f"EPSG:327{zone}")
    config = Config.parse({"watch": {"mosaic": True, "settle": "0s"}, "vector": {"formats": ["fgb"]}, "run": {"keep": True}})
    args = ([str(tmp_path / "in")], str(identity_model.path), str(tmp_path / "out"), config)
    names = ["mosaic-EPSG32720", "mosaic-EPSG32721"]
    assert [(entry["scene"], entry["status"]) for entry in scan(*args)] == [(name, "done") for name in names]
    assert (tmp_path / "out" / "mosaic-joined" / "polygons.fgb").is_file()
    assert _statuses(tmp_path / "out") == dict.fromkeys(names, "done")
    assert scan(*args) == []


@pytest.fixture
def areas(tmp_path: Path) -> Path:
    """Two boxes in the first scene, and one elsewhere."""
    boxes = {"north": (0, 0, 60, 30), "a/b": (20, 40, 79, 69), "away": (900, 0, 950, 30)}
    shapes = [shapely.box(*(TRANSFORM @ (a, d)), *(TRANSFORM @ (c, b))) for a, b, c, d in boxes.values()]
    path = tmp_path / "areas.gpkg"
    geopandas.GeoDataFrame({"label": list(boxes)}, geometry=shapes, crs=UTM).to_file(path)
    return path


@pytest.mark.parametrize("mosaic", [False, True])
def test_scans_that_map_several_areas_do_what_the_command_does(
    mosaic: bool,
    write_raster: WriteRaster,
    identity_model: Model,
    tmp_path: Path,
    areas: Path,
    webhook: tuple[str, list[dict[str, Any]]],
) -> None:
    """An area that a scene does not touch is no failure, of no run, and nobody is told of it."""
    from flows.scan import scan
    from pipeline.config.sections import Config

    for number in range(2):
        place = TRANSFORM @ Affine.translation(30 * number, 0)
        write_raster(patchy(70, 80, 3, number), f"{number}.tif", transform=place)
    watch = {"settle": "0s", "webhook": webhook[0], "at_once": 1 if mosaic else 2, "mosaic": mosaic}
    area = {"aoi": str(areas), "aoi_column": "label"}
    config = Config.parse({"watch": watch, "area": area, "grid": {"tile": 64}, "vector": {"formats": ["geojson"]}})
    args = ([str(tmp_path / "in")], str(identity_model.path), str(tmp_path / "out"), config)
    command = [
        "segment",
        tmp_path / "in",
        "-m",
        identity_model.path,
        "-o",
        tmp_path / "cli",
        "--tile",
        "64",
        "--formats",
        "geojson",
    ]
    command += ["--aoi", areas, "--aoi-column", "label", "-q", *(["--mosaic"] if mosaic else [])]
    assert call_cli(command).returncode == 0
    failed = _states_of_tasks().count(("plan", "Failed"))
    state = scan(*args, return_state=True)
    assert state.is_completed(), state.message
    assert _statuses(tmp_path / "out") == _statuses(tmp_path / "cli")
    done = {name for name, status in _statuses(tmp_path / "out").items() if status == "done"}
    assert {name.partition("/")[0] for name in done} == {"north", folder_name("a/b")}
    assert {one["status"] for one in state.result()} == {"done", "skipped"}
    for name in sorted(done):
        for file in ("classes.tif", "confidence.tif", "polygons.geojson", "coverage.geojson", "item.json"):
            assert (tmp_path / "out" / name / file).read_bytes() == (tmp_path / "cli" / name / file).read_bytes()
    assert [message["event"] for message in webhook[1]] == ["scene.done" if mosaic else "flow.completed"] * len(done)
    assert _states_of_tasks().count(("plan", "Failed")) == failed
    assert scan(*args) == []


def test_a_scene_outside_of_the_area_is_complete_without_a_map(
    write_raster: WriteRaster, identity_model: Model, tmp_path: Path, webhook: tuple[str, list[dict[str, Any]]]
) -> None:
    """As the command skips it: no run of it fails, and what says so is its sentence."""
    from prefect.client.orchestration import get_client

    from flows.pages.page_links import page_key
    from flows.scan import scan
    from pipeline.config.sections import Config

    for number in range(2):
        write_raster(patchy(70, 80, 3, number), f"{number}.tif", transform=TRANSFORM @ Affine.translation(500 * number, 0))
    near, far = (TRANSFORM @ corner for corner in ((10, 10), (60, 50)))
    area = {"aoi": f"{UTM}:{near[0]},{far[1]},{far[0]},{near[1]}"}
    config = Config.parse({"watch": {"settle": "0s", "webhook": webhook[0]}, "area": area, "grid": {"tile": 64}})
    out = tmp_path / "out"
    failed = _states_of_tasks().count(("plan", "Failed"))
    state = scan([str(tmp_path / "in")], str(identity_model.path), str(out), config, return_state=True)
    assert state.is_completed(), state.message
    found = {entry["scene"]: (entry["status"], entry["reason"]) for entry in state.result()}
    command = ["segment", tmp_path / "in", "-m", identity_model.path, "-o", tmp_path / "cli", "--tile", "64", "-q"]
    assert call_cli([*command, "--aoi", area["aoi"]]).returncode == 0
    listed = json.loads((tmp_path / "cli" / "index.json").read_text())["scenes"]
    assert found == {entry["scene"]: (entry["status"], entry["reason"]) for entry in listed}
    assert (found["0"][0], found["1"][0]) == ("done", "skipped")
    assert _statuses(out) == _statuses(tmp_path / "cli")
    with get_client(sync_client=True) as client:
        (run,) = [one for one in client.read_flow_runs(limit=200) if one.parameters.get("out") == str(out) and one.name == "1"]
    assert (run.state.type.value, run.state.name, run.state.message) == ("COMPLETED", "Outside", found["1"][1])
    assert _states_of_tasks().count(("plan", "Failed")) == failed
    assert {(message["scene"], message["event"]) for message in webhook[1]} == {(name, "flow.completed") for name in "01"}
    page = [artifact.data for artifact in _artifacts() if artifact.key == page_key("scan", out)][-1]
    assert "No scene needs you" in page
    assert [line.split("|")[2].strip() for line in page.splitlines() if line.startswith("| 1 ")] == ["skipped"]


def test_the_flow_of_a_scene_maps_each_area_or_the_one_that_is_named(
    write_raster: WriteRaster, identity_model: Model, tmp_path: Path, areas: Path
) -> None:
    from flows.segment import segment_scene
    from pipeline.config.sections import Config

    path = write_raster(patchy(70, 80, 3))
    config = Config.parse({"area": {"aoi": str(areas), "aoi_column": "label"}, "vector": {"formats": ["fgb"]}})
    args = ([str(path)], str(identity_model.path))
    names = [f"{folder_name(value)}/scene" for value in ("north", "a/b")]
    found = segment_scene(*args, str(tmp_path / "all"), config)
    assert [(entry["scene"], entry["status"]) for entry in found] == [(name, "done") for name in names]
    one = segment_scene(*args, str(tmp_path / "one"), config, feature="a/b")
    assert (one["scene"], one["status"]) == (names[1], "done")
    classes = [tmp_path / out / names[1] / "classes.tif" for out in ("all", "one")]
    assert classes[0].read_bytes() == classes[1].read_bytes()
    state = segment_scene(*args, str(tmp_path / "one"), config, feature="away", return_state=True)
    assert (state.type.value, state.name) == ("COMPLETED", "Outside")
    assert "does not touch" in state.message
    assert (state.result()["status"], state.result()["outputs"]) == ("skipped", [])
    for given, said in (({"feature": "b"}, "no feature has label = b"), ({"feature": "b", "config": Config()}, "is missing")):
        with pytest.raises(errors.ConfigError, match=said):
            segment_scene(*args, str(tmp_path / "bad"), **({"config": config} | given))


def test_overlapping_scan_is_cancelled(write_raster: WriteRaster, identity_model: Model, tmp_path: Path) -> None:
    from flows.scan import scan
    from pipeline.files.lock import exclusive
    from pipeline.segment.folder import LOCK

    path, out = write_raster(np.ones((70, 80), np.uint8)), tmp_path / "out"
    out.mkdir()
    with exclusive(out / LOCK):
        state = scan([str(path)], str(identity_model.path), str(out), return_state=True)
    assert state.is_cancelled()
    assert "another run is active" in state.message


@pytest.mark.slow
def test_a_stage_that_takes_too_long_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also in a thread, where scans run the flow; the next run goes on from what is finished."""
    from flows import stages
    from flows.segment import segment_scene
    from geoseg.procedural import Frontier
    from pipeline.config.sections import Config

    Frontier(2200, 2200).write(tmp_path / "a.tif")
    config = Config.parse({"grid": {"tile": 256, "chunk": 256}})
    args = ([str(tmp_path / "a.tif")], "amazon-forest", str(tmp_path / "out"), config)
    patient = stages.map_scene
    monkeypatch.setattr(stages, "map_scene", patient.with_options(timeout_seconds=5, retries=0))
    with ThreadPoolExecutor(1) as pool, pytest.raises(Exception, match=r"timed out|exceeded timeout"):
        pool.submit(copy_context().run, segment_scene, *args).result()
    assert not (tmp_path / "out" / "a" / "run.json").exists()
    finished = len(list((tmp_path / "out" / "a" / ".run" / "chunks").glob("*.tif")))
    assert 0 < finished < 144
    monkeypatch.setattr(stages, "map_scene", patient)
    assert segment_scene(*args)["status"] == "done"
    assert "cannot interrupt" not in caplog.text


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (passing(errors.ReadError("the server answers 503")), True),
        (errors.ClusterError("the cluster was lost"), True),
        (TimeoutError("silent"), True),
        (MemoryError(), True),
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (errors.OutputError("is a file"), False),
        (errors.ConfigError("tile: 3"), False),
        (errors.NotARasterError("a.tif is a page"), False),
        (errors.Interrupted("stopped"), False),
    ],
    ids=str,
)
def test_what_may_pass_is_tried_again(error: Exception, again: bool) -> None:
    from prefect.states import Failed

    from flows.stages import may_pass

    assert may_pass(None, None, Failed(data=error)) == again  # type: ignore[arg-type]
