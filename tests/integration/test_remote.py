"""Scenes on a server: the same bytes as from a file, through a server's faults; refused at once where there is no hope."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from faulty_server import faulty_server
from support import call_cli, contents

from geoseg.procedural import Frontier

Serve = Callable[[str], str]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("served") / "frontier.tif"
    Frontier(900, 900).write(path)
    return path


@pytest.fixture(scope="module")
def from_disk(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("disk")
    assert call_cli(["segment", scene, "-m", "amazon-forest", "-o", out, "--date", "2023-07-14"]).returncode == 0
    return contents(out / "frontier")


@pytest.fixture
def serve(scene: Path) -> Iterator[Serve]:
    with ExitStack() as servers:
        yield lambda mode: servers.enter_context(faulty_server(scene.parent, mode)) + f"/{scene.name}"


@pytest.mark.parametrize("mode", ["ok", "503every=3", "short=4", "reset=5", "slow=0.05"])
def test_faults_are_overcome(serve: Serve, tmp_path: Path, from_disk: dict[str, bytes], mode: str) -> None:
    done = call_cli(["segment", serve(mode), "-m", "amazon-forest", "-o", tmp_path])
    assert done.returncode == 0, done.stderr
    found = contents(tmp_path / "frontier")
    for name in ("classes.tif", "confidence.tif", "polygons.gpkg", "polygons.geojson"):
        assert found[name] == from_disk[name], name


@pytest.mark.parametrize(
    ("mode", "words"),
    [("auth", "403 (access is denied)"), ("norange", "parts of"), ("503always", "503"), ("changing", "changed")],
)
def test_refused(serve: Serve, tmp_path: Path, mode: str, words: str) -> None:
    address = serve(mode)
    done = call_cli(["segment", address, "-m", "amazon-forest", "-o", tmp_path])
    assert done.returncode == 1
    assert words in done.stderr
    assert not (tmp_path / "frontier" / "classes.tif").exists()


def test_not_there(serve: Serve, tmp_path: Path) -> None:
    address = serve("ok").replace("frontier", "nothing") + "?token=secret"
    done = call_cli(["segment", address, "-m", "amazon-forest", "-o", tmp_path])
    assert done.returncode == 1
    assert "404 (not found)" in done.stderr
    assert "secret" not in done.stderr
