"""Dask: the same bytes as in one process, whatever happens to workers and schedulers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import rasterio
from clusters import SLOW_PARTS, DaskCluster, dask_cluster
from stand_in import s3_settings
from support import LIMIT_S, ROOT, contents, run_cli

from geoseg.procedural import Frontier
from pipeline.files.version import code_version

OPTIONS = ("--tile", "256", "--halo", "32", "--chunk", "256")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scene") / "frontier.tif"
    Frontier(1100, 1300).write(path)
    return path


@pytest.fixture(scope="module")
def alone(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The final files of a run in one process."""
    out = tmp_path_factory.mktemp("alone")
    done = run_cli(["segment", scene, "-m", "amazon-forest", "-o", out, *OPTIONS])
    assert done.returncode == 0, done.stderr
    return contents(out / "frontier")


class Run:
    """A run on a cluster, under way."""

    def __init__(self, scene: Path, out: Path, *more: str) -> None:
        command = [sys.executable, "-m", "pipeline", "segment", str(scene), "-m", "amazon-forest", "-o", str(out), *OPTIONS]
        self.out = out
        self.process = subprocess.Popen([*command, *more], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    @property
    def manifest(self) -> Path:
        """The records of its chunks."""
        return self.out / "frontier" / ".run" / "manifest.jsonl"

    def chunks(self) -> int:
        return self.manifest.read_bytes().count(b'"chunk":') if self.manifest.is_file() else 0

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def wait_for_chunks(self, count: int) -> None:
        self.wait_for(lambda: self.chunks() >= count)

    def finish(self) -> str:
        _, said = self.process.communicate(timeout=LIMIT_S)
        assert self.process.returncode == 0, said
        return said


@pytest.mark.slow
def test_workers(scene: Path, tmp_path: Path, alone: dict[str, bytes]) -> None:
    done = run_cli(["segment", scene, "-m", "amazon-forest", "-o", tmp_path, *OPTIONS, "--workers", "2"])
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "frontier") == alone


@pytest.mark.slow
def test_a_killed_worker_costs_nothing_but_time(scene: Path, tmp_path: Path, alone: dict[str, bytes]) -> None:
    run = Run(scene, tmp_path, "--workers", "2")
    run.wait_for_chunks(3)
    workers = [p for p in psutil.Process(run.process.pid).children(recursive=True) if "spawn_main" in " ".join(p.cmdline())]
    workers[-1].kill()
    run.finish()
    assert contents(tmp_path / "frontier") == alone


@pytest.mark.slow
def test_a_chunk_that_kills_its_worker(scene: Path, tmp_path: Path, alone: dict[str, bytes]) -> None:
    """It is recorded after three tries; those that died with it are not condemned."""
    preload = tmp_path / "poison.py"
    preload.write_text(
        "import os\nfrom pipeline.infer.dask_plugin import ChunkPlugin\n"
        "def run(self, index):\n    if index == 9:\n        os._exit(9)\n    return self.real(index)\n"
        "if not hasattr(ChunkPlugin, 'real'):\n    ChunkPlugin.real, ChunkPlugin.run = ChunkPlugin.run, run\n"
    )
    done = run_cli(
        ["segment", scene, "-m", "amazon-forest", "-o", tmp_path / "out", *OPTIONS, "--workers", "2"],
        env={"DASK_DISTRIBUTED__WORKER__PRELOAD": str(preload)},
    )
    assert done.returncode == 1, done.stderr
    report = json.loads((tmp_path / "out" / "frontier" / "run.json").read_text())
    (failed,) = report["not_analysed"]
    assert "KilledWorker" in failed["reason"]
    window = failed["window"]
    rows = slice(window["row_off"], window["row_off"] + window["height"])
    cols = slice(window["col_off"], window["col_off"] + window["width"])
    (tmp_path / "alone.tif").write_bytes(alone["classes.tif"])
    with rasterio.open(tmp_path / "alone.tif") as one, rasterio.open(tmp_path / "out" / "frontier" / "classes.tif") as other:
        expected, found = one.read(1), other.read(1)
    assert set(found[rows, cols].ravel()) <= {254, 255}
    expected[rows, cols] = found[rows, cols]
    assert (found == expected).all()


@pytest.mark.slow
def test_a_cluster_that_is_there(scene: Path, tmp_path: Path, alone: dict[str, bytes]) -> None:
    """Found through a scheduler file; the model is brought to the worker's own cache."""
    with dask_cluster(tmp_path, "one", preload="") as cluster:
        done = run_cli(["segment", scene, "-m", "amazon-forest", "-o", tmp_path / "out", *OPTIONS, "--scheduler", cluster.file])
        assert done.returncode == 0, done.stderr
        assert contents(tmp_path / "out" / "frontier") == alone
        assert cluster.has_loaded("one")


@pytest.mark.slow
def test_workers_come_and_go(scene: Path, tmp_path: Path, alone: dict[str, bytes]) -> None:
    """One joins, the first one is killed, its successor is slow."""
    with dask_cluster(tmp_path, "one") as cluster:
        run = Run(scene, tmp_path / "out", "--scheduler", cluster.address)
        run.wait_for_chunks(2)
        cluster.start_worker("late")
        run.wait_for(lambda: cluster.has_loaded("late"))
        cluster.kill("one")
        run.wait_for_chunks(run.chunks() + 2)
        cluster.start_worker("slow")
        while run.process.poll() is None:
            cluster.signal("slow", signal.SIGSTOP)
            time.sleep(0.5)
            cluster.signal("slow", signal.SIGCONT)
            time.sleep(0.2)
        run.finish()
        assert contents(tmp_path / "out" / "frontier") == alone


@pytest.mark.slow
def test_a_worker_that_hangs_is_given_up(scene: Path, tmp_path: Path, alone: dict[str, bytes]) -> None:
    patience = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "4s"}
    with dask_cluster(tmp_path, "one", "hung", env=patience) as cluster:
        run = Run(scene, tmp_path / "out", "--scheduler", cluster.address)
        run.wait_for_chunks(4)
        cluster.signal("hung", signal.SIGSTOP)
        run.finish()
        assert contents(tmp_path / "out" / "frontier") == alone


@pytest.mark.slow
def test_a_client_that_is_killed_while_workers_trace_and_compress(scene: Path, tmp_path: Path, alone: dict[str, bytes]) -> None:
    """What its workers go on to write is not taken for what the next run asks of them."""
    with dask_cluster(tmp_path, "one", preload=SLOW_PARTS) as cluster:
        run = Run(scene, tmp_path / "out", "--scheduler", cluster.address)
        run.wait_for(lambda: bool(cluster.parts("one")))
        run.process.kill()
        run.process.communicate()
        asked = len(cluster.parts("one"))
        # As if killed before the last record: where all chunks are there, the next run asks nothing of the workers.
        run.manifest.write_bytes(b"".join(run.manifest.read_bytes().splitlines(keepends=True)[:-1]))
        Run(scene, tmp_path / "out", "--scheduler", cluster.address).finish()
        assert len(cluster.parts("one")) > asked
        assert contents(tmp_path / "out" / "frontier") == alone
        assert not (tmp_path / "out" / "frontier" / ".run" / "chunks").exists()


@pytest.mark.slow
def test_a_worker_that_is_killed_while_it_traces_and_compresses(scene: Path, tmp_path: Path, alone: dict[str, bytes]) -> None:
    """Its parts are done by another worker."""
    with dask_cluster(tmp_path, "one", "two", preload=SLOW_PARTS) as cluster:
        run = Run(scene, tmp_path / "out", "--scheduler", cluster.address)
        run.wait_for(lambda: any(map(cluster.parts, ("one", "two"))))
        dead, other = sorted(("one", "two"), key=lambda name: not cluster.parts(name))
        cluster.kill(dead)
        run.finish()
        assert set(cluster.parts(dead)) <= set(cluster.parts(other))
        assert contents(tmp_path / "out" / "frontier") == alone


@pytest.mark.slow
def test_the_last_worker_is_killed_while_it_traces_and_compresses(scene: Path, tmp_path: Path, alone: dict[str, bytes]) -> None:
    """All chunks are there: the client does the rest, and waits for nobody."""
    with dask_cluster(tmp_path, "one", preload=SLOW_PARTS) as cluster:
        run = Run(scene, tmp_path / "out", "--scheduler", cluster.address)
        # The only square touches all chunks.
        run.wait_for(lambda: "0000000.squares.npy" in cluster.parts("one"))
        cluster.kill("one")
        run.finish()
        assert contents(tmp_path / "out" / "frontier") == alone


@pytest.mark.slow
def test_a_scheduler_that_is_started_anew(scene: Path, tmp_path: Path, alone: dict[str, bytes]) -> None:
    with dask_cluster(tmp_path, "one") as cluster:
        run = Run(scene, tmp_path / "out", "--scheduler", cluster.address)
        run.wait_for_chunks(3)
        cluster.kill("scheduler")
        before = run.chunks()
        cluster.start_scheduler()
        cluster.start_worker("two")
        said = run.finish()
        assert "started anew" in said
        assert before < 20
        assert contents(tmp_path / "out" / "frontier") == alone


@pytest.mark.slow
def test_a_scheduler_that_does_not_come_back(scene: Path, tmp_path: Path, alone: dict[str, bytes]) -> None:
    """What is finished is kept, and a run without a cluster goes on from there."""
    with dask_cluster(tmp_path, "one") as cluster:
        done = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "pipeline",
                "segment",
                str(scene),
                "-m",
                "amazon-forest",
                "-o",
                str(tmp_path / "out"),
                *OPTIONS,
                "--scheduler",
                cluster.address,
            ],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "GEOSEG_CONNECT_S": "4"},
        )
        manifest = tmp_path / "out" / "frontier" / ".run" / "manifest.jsonl"
        while not (manifest.is_file() and manifest.read_bytes().count(b'"chunk":') >= 3):
            assert done.poll() is None, done.communicate()[1]
            time.sleep(0.02)
        cluster.close()
        _, said = done.communicate(timeout=LIMIT_S)
    assert done.returncode != 0
    assert "run again to go on" in said
    assert "Traceback" not in said
    again = run_cli(["segment", scene, "-m", "amazon-forest", "-o", tmp_path / "out", *OPTIONS])
    assert again.returncode == 0, again.stderr
    assert "done before" in again.stderr
    assert contents(tmp_path / "out" / "frontier") == alone


def other_code(folder: Path) -> dict[str, str]:
    """An environment in which geoseg has another version."""
    for package in ("geoseg", "pipeline"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pipeline" / "infer" / "chunk_store.py").open("a").write("\n# changed\n")
    return {"PYTHONPATH": str(folder)}


@pytest.mark.slow
def test_workers_with_other_code_are_refused(scene: Path, tmp_path: Path, alone: dict[str, bytes]) -> None:
    env = other_code(tmp_path / "other")
    with dask_cluster(tmp_path) as cluster:
        cluster.start_worker("other", env=env, cwd=tmp_path)
        done = run_cli(
            ["segment", scene, "-m", "amazon-forest", "-o", tmp_path / "out", *OPTIONS, "--scheduler", cluster.address]
        )
        assert done.returncode == 2
        assert code_version() in done.stderr
        assert "install the same" in done.stderr
        # One that joins later is turned away, and the run goes on.
        cluster.kill("other")
        cluster.start_worker("one")
        run = Run(scene, tmp_path / "out", "--scheduler", cluster.address)
        run.wait_for_chunks(2)
        cluster.start_worker("other", env=env, cwd=tmp_path)
        run.wait_for(lambda: "it ends: install the same" in cluster.said("other"))
        run.finish()
        assert contents(tmp_path / "out" / "frontier") == alone


@pytest.mark.slow
def test_results_in_an_object_store(
    scene: Path, tmp_path: Path, alone: dict[str, bytes], stand_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers and client share no folder for chunk results; killed and run again, the run goes on; nothing stays behind."""
    pytest.importorskip("obstore")
    for name, value in s3_settings(stand_in).items():
        monkeypatch.setenv(name, value)
    with dask_cluster(tmp_path, "one") as cluster:
        more = ("--scheduler", cluster.address, "--scratch", "s3://bucket/scratch")
        run = Run(scene, tmp_path / "out", *more)
        run.wait_for_chunks(3)
        run.process.kill()
        run.process.communicate()
        assert len(list((tmp_path / "bucket" / "scratch").rglob("*.tif"))) >= 1
        assert not (tmp_path / "out" / "frontier" / ".run" / "chunks").exists()
        said = Run(scene, tmp_path / "out", *more).finish()
        assert "done before" in said
        assert contents(tmp_path / "out" / "frontier") == alone
        assert not [path for path in (tmp_path / "bucket").rglob("*") if path.is_file()]


@pytest.mark.slow
def test_tls(scene: Path, tmp_path: Path, alone: dict[str, bytes]) -> None:
    from distributed.security import Security

    made = Security.temporary()
    files = {"ca": made.tls_ca_file, "cert": made.tls_client_cert, "key": made.tls_client_key}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    security = tuple(part for name in files for part in (f"--tls-{'ca-file' if name == 'ca' else name}", str(tmp_path / name)))
    cluster = DaskCluster(tmp_path, security, protocol="tls")
    args = ["segment", scene, "-m", "amazon-forest", "-o", tmp_path / "out", *OPTIONS, "--scheduler", cluster.address]
    try:
        cluster.start_scheduler()
        cluster.start_worker("one")
        refused = run_cli(args, env={"GEOSEG_CONNECT_S": "5"})
        assert refused.returncode == 2
        assert "run.scheduler" in refused.stderr
        done = run_cli([*args, *(part for name in files for part in (f"--tls-{name}", tmp_path / name))])
        assert done.returncode == 0, done.stderr
    finally:
        cluster.close()
    assert contents(tmp_path / "out" / "frontier") == alone


def test_no_scheduler_there(scene: Path, tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"address": "tcp://127.0.0.1:9"}))
    done = run_cli(
        ["segment", scene, "-m", "amazon-forest", "-o", tmp_path / "out", "--scheduler", file], env={"GEOSEG_CONNECT_S": "3"}
    )
    assert done.returncode == 2
    assert "run.scheduler" in done.stderr


def test_results_of_all_layers_are_readable(scene: Path, tmp_path: Path) -> None:
    done = run_cli(["segment", scene, "-m", "amazon-forest", "-o", tmp_path, *OPTIONS, "--keep", "--no-confidence"])
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "frontier" / "confidence.tif").exists()
    for path in (tmp_path / "frontier" / ".run" / "chunks").glob("*.tif"):
        with rasterio.open(path) as dataset:
            assert dataset.count == 2
