"""The pace of a training: told once its steps are known, and again after a check, without changing what is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("lightning")

from geoseg.training.pace import Paced, computes_bf16, device_line, precision_line
from geoseg.training.training_plan import LoopSettings
from pipeline.train.forecast import Forecast, duration


def test_all_steps_and_all_checks_are_counted(tmp_path: Path) -> None:
    forecast = Forecast.of(LoopSettings(steps=250, epoch=200, accumulate=2))
    assert (forecast.steps, forecast.checks) == (250, 3)
    said: list[str] = []
    tell = forecast.teller(tmp_path / "pace.json", said.append)
    tell(Paced(2.0, None, 3_000_000_000, on_gpu=False))
    assert said[0].endswith("2 s a step, measured; checks not measured yet; about 8.33 min in all")
    tell(Paced(2.0, 60.0, 3_000_000_000, on_gpu=True))
    assert said[2].endswith("1 min a check; about 11.3 min in all")
    assert said[3].endswith("3.0 GB of the GPU at the most so far")
    assert json.loads((tmp_path / "pace.json").read_text())["seconds"] == 250 * 2 + 3 * 60


def test_times_are_in_the_unit_that_one_reads() -> None:
    assert [duration(s) for s in (0.0123, 59.4, 90, 7200)] == ["0.012 s", "59 s", "1.5 min", "2 h"]


def test_the_device_says_why_no_gpu_is_used() -> None:
    import torch

    from geoseg.inference.choice import gpu_count

    line = device_line(LoopSettings(device="cpu"))
    assert line.startswith("CPU: ")
    assert line.endswith("a GPU is there and not used: loop.device is cpu" if gpu_count() else "no CUDA device is there")
    if torch.cuda.is_available():
        assert torch.cuda.get_device_name(0) in device_line(LoopSettings())


def test_bf16_is_advised_where_the_processor_computes_it() -> None:
    flags = Path("/proc/cpuinfo")
    if not flags.is_file() or "flags" not in flags.read_text():
        pytest.skip("the processor does not say what it computes")
    able = {"avx512_bf16", "amx_bf16"} & set(flags.read_text().split())
    plain, short = LoopSettings(device="cpu"), LoopSettings(device="cpu", precision="bf16")
    assert computes_bf16(plain) == bool(able)
    assert ("loop.precision = bf16" in precision_line(plain)) == bool(able)
    assert precision_line(short) == "precision bf16"


def test_a_training_is_the_same_with_and_without_it(tmp_path: Path) -> None:
    import torch
    from training_toy import main

    from geoseg.training.loop import BEST, weights_of
    from geoseg.training.pace import Pace

    told: list[Paced] = []
    threads = torch.get_num_threads()
    try:
        main(tmp_path / "with", {"steps": 8}, [Pace(told.append)])
        main(tmp_path / "without", {"steps": 8})
    finally:
        torch.set_num_threads(threads)
    one, other = (weights_of(tmp_path / name / "checkpoints" / BEST) for name in ("with", "without"))
    assert all(torch.equal(one[key], other[key]) for key in one)
    # Checks are four steps apart: two are left out, two are measured.
    assert len(told) == 1
    assert told[0].step_s > 0
    assert told[0].check_s is not None
    assert told[0].memory_bytes > 50e6
