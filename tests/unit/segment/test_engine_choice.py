"""Where and how a network is run: weighed by pixels and parameters, decided once for an output folder."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from geoseg.errors import ConfigError
from geoseg.inference.engine import EngineName
from geoseg.models.model_folder import Model
from geoseg.scenes.sources import SceneRef
from pipeline.config.sections import Config
from pipeline.files.identity import RunIdentity
from pipeline.plan.engine_choice import COMPILE_S, GPU_START_S, Placement, cores_seconds, place, saved_by_compiling
from pipeline.plan.memory import first_processes, most_in_flight, process_budget, processes, read_threads
from pipeline.segment.placed import keep_placement, kept_placement
from pipeline.segment.planned import SceneJob


def placed(model: Model, pixels: float, gpus: int = 1, count: int = 16, **infer: str) -> Placement:
    return place(model, Config.parse({"infer": infer}), pixels, gpus, count)


def test_what_was_measured_is_decided_as_it_was_better(forest: Model) -> None:
    # 4096 x 4096 pixels took 7.9 s on 16 cores, and 71 s on the GPU, which compiled.
    small = placed(forest, 4096**2)
    assert (small.engine, small.one_shape, small.compiled) == ("onnx", False, False)
    assert small.why.startswith("17 Mpx to come: about 7.9 s on 16 cores")
    # A whole Sentinel-2 scene is for the GPU; compilation cost more than all of its inference.
    scene = placed(forest, 10980**2)
    assert (scene.engine, scene.one_shape, scene.compiled) == ("torch", True, False)
    # Ten thousand of them go on for hours.
    assert placed(forest, 1e4 * 10980**2).compiled


def test_the_verdict_turns_where_the_rule_says(forest: Model) -> None:
    parameters = forest.card.total_parameters
    turn = GPU_START_S / cores_seconds(parameters, 16)
    assert placed(forest, 0.99 * turn).engine == "onnx"
    assert placed(forest, 1.01 * turn).engine == "torch"
    # Eight views take eight times as long.
    assert placed(forest, 0.2 * turn, tta="d4").engine == "torch"
    pays = COMPILE_S / saved_by_compiling(parameters)
    assert not placed(forest, 0.99 * pays).compiled
    assert placed(forest, 1.01 * pays).compiled


def test_what_is_asked_for_is_not_weighed(forest: Model) -> None:
    assert placed(forest, 1.0, device="cuda").engine == "torch"
    assert placed(forest, 1.0, engine="torch").engine == "torch"
    assert placed(forest, 1.0, compile="always") == Placement("torch", one_shape=True, compiled=True)
    assert not placed(forest, 1e15, compile="never").compiled
    assert placed(forest, 1e15, engine="onnx") == Placement("onnx")


def test_a_cpu_never_compiles_and_keeps_its_small_tiles(forest: Model) -> None:
    assert placed(forest, 1e15, gpus=0, engine="torch") == Placement("torch")
    assert placed(forest, 1e15, device="cpu", engine="torch") == Placement("torch")
    with pytest.raises(ConfigError, match=r"infer\.compile: always, but only a GPU"):
        placed(forest, 1e15, device="cpu", engine="torch", compile="always")


def test_an_output_folder_keeps_the_first_decision(tmp_path: Path, forest: Model) -> None:
    def job(name: str, **infer: str) -> SceneJob:
        return SceneJob.of(SceneRef(name, ("a.tif",)), forest, Config.parse({"infer": infer}), tmp_path)

    first, second = Placement("torch", one_shape=True, compiled=True, why="much"), Placement("onnx", why="little")
    assert kept_placement(job("a")) is None
    assert keep_placement(job("a"), first) == first
    assert keep_placement(job("b"), second) == first == kept_placement(job("c"))
    # Other wishes are decided anew.
    assert kept_placement(job("c", compile="never")) is None
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]
    (kept,) = tmp_path.iterdir()
    kept.write_text("{", encoding="utf-8")
    assert kept_placement(job("a")) is None


def test_an_identity_without_the_new_facts_is_that_of_before() -> None:
    facts = {"scene": "s", "model": "m", "config": "c", "code": "1", "engine": "torch", "chunk": 4096}
    old = RunIdentity.of({**facts, "grid": [5, 6, 32, 8, 4, False]})
    new = RunIdentity.of({**facts, "grid": [5, 6, 32, 8, 4, False, True], "compiled": True})
    assert old is not None
    assert new is not None
    assert Placement.of(old) == Placement("torch")
    assert Placement.of(new) == Placement("torch", one_shape=True, compiled=True)


def test_all_gpus_have_a_process_each(monkeypatch: pytest.MonkeyPatch) -> None:
    infer = {"device": "cuda:all", "memory": "4GB"}
    config, few = (Config.parse({"infer": infer, "run": run}) for run in ({}, {"workers": 2}))
    for count in (1, 4):
        monkeypatch.setattr("pipeline.plan.memory.gpu_count", lambda count=count: count)
        assert processes(config) == first_processes(config) == count
        assert process_budget(config) == 4 * 10**9 // count
        # As many as asked for, which share the GPUs.
        assert processes(few) == 2
    monkeypatch.setattr("pipeline.plan.memory.gpu_count", lambda: 0)
    with pytest.raises(ConfigError, match=r"infer\.device: cuda:all, but there is no GPU here; use device=cpu"):
        processes(config)


@pytest.mark.parametrize(("engine", "device"), [("onnx", "cpu"), ("torch", "auto")])
def test_readers_and_chunks_follow_the_cores(engine: EngineName, device: str, tmp_path: Path) -> None:
    from geoseg.procedural import Frontier
    from geoseg.scenes.opening import open_scene
    from geoseg.scenes.scene import OpenOptions

    Frontier(64, 64).write(tmp_path / "a.tif")
    scene = open_scene((str(tmp_path / "a.tif"),), "a", OpenOptions())
    block = 2 * max(file.block_bytes for file in scene.files)
    counts = [read_threads(scene, 1 << 34, count)[0] for count in (1, 2, 4, 16, 64)]
    assert counts == [4, 4, 4, 16, 32]
    # What more than four threads hold has its place in the plan, and little memory has few of them.
    assert read_threads(scene, 1 << 34, 16) == (16, 12 * block)
    assert read_threads(scene, 0, 16) == (4, 0)
    chunks = [most_in_flight(engine, device, count) for count in (1, 2, 16, 64)]
    assert chunks == ([3, 3, 4, 4] if engine == "onnx" else [4, 4, 8, 16])
