"""Runs of deployments on a real, guarded server: bound to their lists, without secrets, limited in time, forgotten in time."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from services import wait

from flows.access.allowed import lists_of
from geoseg.procedural import Frontier
from pipeline.config.sections import Config

pytest.importorskip("prefect")
TOKEN = "T0KEN-of-the-hook"


@pytest.fixture(autouse=True)
def client(guarded: dict[str, str]) -> Iterator[Any]:
    """A client of the guarded server, which flows of this process use too."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    given = {PREFECT_API_URL: guarded["PREFECT_API_URL"], PREFECT_API_AUTH_STRING: guarded["PREFECT_API_AUTH_STRING"]}
    with temporary_settings(given), get_client(sync_client=True) as opened:
        yield opened


class Listener:
    """A server that remembers what it was asked, and what was posted to it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.messages: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.asked.append(self.path)
                outer.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def do_GET(self) -> None:
                outer.asked.append(self.path)
                self.send_error(404)

            def log_message(self, *args: object) -> None:
                del args

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    found = Listener()
    yield found
    found.close()


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """A folder with a scene, and one beside it that is private."""
    for name in ("in", "private"):
        (tmp_path / name).mkdir()
        Frontier(200, 200).write(tmp_path / name / "a.tif")
    return tmp_path / "in"


@pytest.fixture
def bound(inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listener: Listener) -> dict[str, Any]:
    """Parameters that its deployment is for, with their lists in the environment."""
    webhook = {"watch": {"webhook": "env:GEOSEG_WEBHOOK", "settle": "0s"}}
    given = {"sources": [str(inbox)], "model": "amazon-forest", "out": str(tmp_path / "out"), "config": webhook}
    lists = lists_of(given["sources"], given["out"], given["model"], Config.parse(webhook))
    for name, value in lists.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GEOSEG_WEBHOOK", f"{listener.address}/{TOKEN}")
    return given


def start(client: Any, flow: Any, parameters: dict[str, Any]) -> Any:
    """A run of a deployment with parameters of somebody who may start it, done in this process; gives its state."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.flow_engine import run_flow
    from prefect.types.entrypoint import EntrypointType

    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name="pool", type="process"))
    made = flow.to_deployment(flow.name, work_pool_name="pool", entrypoint_type=EntrypointType.MODULE_PATH)
    run = client.create_flow_run_from_deployment(made.apply(), parameters=parameters)
    return run_flow(flow, flow_run=run, parameters=run.parameters, return_type="state")


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# One of each kind: tests/flows/test_allowed.py has the others.
ATTACKS: dict[str, tuple[str, dict[str, Any]]] = {
    "a private file": ("sources", {"sources": ["{}/private/a.tif"]}),
    "an output elsewhere": ("out", {"out": "{}/out/../../escaped"}),
    "another model": ("model", {"model": "{}/private"}),
    "a webhook": ("watch.webhook", {"config": {"watch": {"webhook": "{hook}"}}}),
    "a scheduler": ("run.scheduler", {"config": {"run": {"scheduler": "tcp://127.0.0.1:9"}}}),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_run_with_foreign_parameters_touches_nothing(
    client: Any, bound: dict[str, Any], listener: Listener, tmp_path: Path, attack: str
) -> None:
    from flows.scan import scan

    key, change = ATTACKS[attack]
    fill = lambda value: json.loads(json.dumps(value).replace("{}", str(tmp_path)).replace("{hook}", listener.address))  # noqa: E731
    before = tree(tmp_path)
    state = start(client, scan, bound | fill(change))
    assert state.is_failed()
    assert f"ConfigError: {key}: " in state.message
    assert "\n" not in state.message
    assert tree(tmp_path) == before
    assert not (tmp_path.parent / "escaped").exists()
    assert not listener.asked


def test_the_flow_of_a_scene_is_bound_as_well(client: Any, bound: dict[str, Any], listener: Listener, tmp_path: Path) -> None:
    from flows.segment import segment_scene

    own = {key: bound[key] for key in ("model", "out", "config")} | {"paths": [f"{tmp_path}/in/a.tif"]}
    before = tree(tmp_path)
    for change in (
        {"paths": [f"{tmp_path}/private/a.tif"]},
        {"name": "../../escaped"},
        {"name": "/etc/x"},
        {"out": str(tmp_path)},
    ):
        state = start(client, segment_scene, own | change)
        assert state.is_failed()
        # The hook of the run tells the webhook of the deployment, and no other.
        assert [message["event"] for message in listener.messages] == ["flow.failed"]
        listener.messages.clear()
    listener.asked.clear()
    state = start(client, segment_scene, own | {"config": {"watch": {"webhook": listener.address}}})
    assert state.is_failed()
    assert not listener.asked
    assert tree(tmp_path) == before


def test_without_lists_a_deployment_does_nothing(
    client: Any, bound: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.scan import scan

    for name in [name for name in os.environ if name.startswith("GEOSEG_ALLOWED_")]:
        monkeypatch.delenv(name)
    state = start(client, scan, bound)
    assert state.is_failed()
    assert "may use (nothing); GEOSEG_ALLOWED_" in state.message
    assert not (tmp_path / "out").exists()


def test_scenes_are_mapped_and_no_secret_is_left_anywhere(
    client: Any,
    bound: dict[str, Any],
    inbox: Path,
    listener: Listener,
    stand_in: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A list has a signed address, a folder has a link that leads outside, the webhook has a token."""
    from flows.scan import scan

    signed = tmp_path / "signed.txt"
    signed.write_text(f"http://{stand_in}/in/a.tif?sig={TOKEN}\n")
    (inbox / "deep").mkdir()
    (inbox / "deep" / "b.tif").symlink_to(tmp_path / "private" / "a.tif")
    monkeypatch.setenv("GEOSEG_ALLOWED_SOURCES", f"{inbox},{signed},http://{stand_in}/in")
    state = start(client, scan, bound | {"sources": [str(signed), f"{inbox}/deep"]})
    assert state.name == "Unfinished"
    found = {entry["scene"]: entry for entry in json.loads((tmp_path / "out" / "index.json").read_text())["scenes"]}
    assert {name: entry["status"] for name, entry in found.items()} == {"a": "done", "b": "failed"}
    assert "b.tif is outside" in found["b"]["reason"]
    assert not (tmp_path / "out" / "b").exists()
    # The webhook was told, at the address that the parameters only name.
    assert listener.asked == [f"/{TOKEN}"] * 2
    wait(lambda: bool(client.read_logs()))
    left = [client.read_flow_runs(), client.read_task_runs(), client.read_artifacts(), client.read_logs()]
    assert all(left)
    assert TOKEN not in repr(left) + json.dumps(listener.messages)


@contextmanager
def silent() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_silent_server_does_not_hold_the_output(
    client: Any, bound: dict[str, Any], inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.scan import scan

    with silent() as address:
        monkeypatch.setenv("GEOSEG_ALLOWED_SOURCES", f"stac+{address},{inbox}")
        config = {"watch": bound["config"]["watch"] | {"scan_timeout": "3s"}}
        began = time.monotonic()
        state = start(client, scan, bound | {"sources": [f"stac+{address}"], "config": config})
        assert time.monotonic() - began < 60
        assert state.is_failed()
        assert "no answer within" in state.message
        state = start(client, scan, bound)
    assert [entry["status"] for entry in state.result()] == ["done"]


@pytest.mark.slow
def test_a_scan_that_takes_too_long_stops_its_scenes_and_the_next_goes_on(
    client: Any, bound: dict[str, Any], inbox: Path, tmp_path: Path
) -> None:
    from flows.scan import scan

    (inbox / "a.tif").unlink()
    Frontier(2600, 2600).write(inbox / "b.tif")
    bound["config"] = bound["config"] | {"grid": {"tile": 256, "chunk": 256}}
    began = time.monotonic()
    state = start(client, scan.with_options(timeout_seconds=4), bound)
    assert state.name == "TimedOut"
    assert time.monotonic() - began < 120
    assert not (tmp_path / "out" / "b" / "run.json").exists()
    state = start(client, scan, bound)
    assert [entry["status"] for entry in state.result()] == ["done"]


def test_runs_that_ended_long_ago_are_forgotten_and_maps_stay_known(
    client: Any, bound: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.logging.handlers import APILogWorker

    from flows.retention import forget
    from flows.scan import scan

    assert start(client, scan, bound).is_completed()
    before = tree(tmp_path / "out")
    runs = {run.id for run in client.read_flow_runs()}
    assert runs
    assert client.read_artifacts()
    assert forget(timedelta(days=1)) == (0, 0)
    assert {run.id for run in client.read_flow_runs()} == runs
    time.sleep(1)
    # What is logged after a run was deleted stays.
    APILogWorker.drain_all(timeout=60)
    deleted, artifacts = forget(timedelta(0))
    assert deleted == len(runs)
    assert artifacts > 0
    assert client.read_flow_runs() == client.read_artifacts() == []
    wait(lambda: not client.read_logs())
    # What was mapped stays known.
    assert tree(tmp_path / "out") == before
    assert start(client, scan, bound).result() == []
    # Also where a backup was put back: files as they are, the ledger by SQLite.
    restored = tmp_path / "restored"
    shutil.copytree(tmp_path / "out", restored, ignore=shutil.ignore_patterns(".geoseg-ledger*", ".run"))
    with (
        closing(sqlite3.connect(tmp_path / "out" / ".geoseg-ledger.sqlite")) as live,
        closing(sqlite3.connect(restored / ".geoseg-ledger.sqlite")) as copy,
    ):
        live.backup(copy)
    monkeypatch.setenv("GEOSEG_ALLOWED_OUT", str(restored))
    assert start(client, scan, bound | {"out": str(restored)}).result() == []


def test_somebody_is_told_when_nothing_is_scanned(client: Any, listener: Listener) -> None:
    """The server takes the automation, and it fires."""
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    from flows.alert import NAME, create
    from geoseg.errors import ConfigError

    block = CustomWebhookNotificationBlock(
        name="ops", url=f"{listener.address}/alert", json_data={"text": "{{subject}}: {{body}}"}
    )
    block.save("ops", overwrite=True)
    with pytest.raises(ConfigError, match="has no block"):
        create(60, "slack-webhook/missing")
    with pytest.raises(ConfigError, match="too short"):
        create(1, "custom-webhook/ops")
    create(3600, "custom-webhook/ops")
    create(10, "custom-webhook/ops")
    assert [found.trigger.within for found in client.read_automations_by_name(NAME)] == [timedelta(seconds=10)]
    wait(lambda: bool(listener.messages))
    assert listener.messages[0]["text"].startswith(f"{NAME}: No run of the flow scan has ended well")
