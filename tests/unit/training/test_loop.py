"""The loop: killed at any time, it gives what it would have given; so it does with other workers."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import LIMIT_S, ROOT

pytest.importorskip("lightning")

from geoseg.errors import GeosegError


def start(folder: Path, **options: Any) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, str(ROOT / "tests" / "training_toy.py"), str(folder), json.dumps(options)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finished(folder: Path, **options: Any) -> None:
    process = start(folder, **options)
    _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, errors.decode()[-2000:]


def curve(folder: Path) -> list[dict[str, str]]:
    with (folder / "curve.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def weights(folder: Path) -> dict[str, Any]:
    from geoseg.training.loop import BEST, weights_of

    return weights_of(folder / "checkpoints" / BEST)


def same(a: Path, b: Path) -> bool:
    import torch

    x, y = weights(a), weights(b)
    return curve(a) == curve(b) and x.keys() == y.keys() and all(torch.equal(x[key], y[key]) for key in x)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that nothing interrupted."""
    folder = tmp_path_factory.mktemp("training") / "whole"
    finished(folder)
    return folder


def test_the_toy_learns(whole: Path) -> None:
    rows = curve(whole)
    assert [int(row["step"]) for row in rows] == [4, 8, 12, 16, 20, 24]
    assert float(rows[-1]["val/miou"]) > 0.9 > float(rows[0]["val/miou"])


@pytest.mark.slow
def test_killed_and_resumed_gives_the_same_curve_and_weights(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    process = start(folder)
    deadline = time.monotonic() + LIMIT_S
    # Killed as soon as a further check is written: its checkpoint may or may not be there yet.
    while not ((folder / "curve.csv").is_file() and len(curve(folder)) >= 3):
        assert process.poll() is None, process.stderr.read().decode()[-2000:] if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert len(curve(folder)) < 6
    finished(folder)
    assert same(whole, folder)


@pytest.mark.slow
def test_the_last_checkpoint_is_that_of_the_last_check_also_where_another_is_the_best(tmp_path: Path) -> None:
    import torch

    from geoseg.training.loop import BEST, LAST

    finished(tmp_path / "spoilt", spoil_after=12)
    rows = curve(tmp_path / "spoilt")
    best = max(rows, key=lambda row: float(row["val/miou"]))
    steps = {
        name: torch.load(tmp_path / "spoilt" / "checkpoints" / name, weights_only=True)["global_step"] for name in (BEST, LAST)
    }
    assert int(best["step"]) < 24
    assert steps == {BEST: int(best["step"]), LAST: 24}


@pytest.mark.slow
def test_reading_processes_change_nothing(whole: Path, tmp_path: Path) -> None:
    finished(tmp_path / "workers", workers=2)
    assert same(whole, tmp_path / "workers")


def test_every_epoch_has_chips_of_its_own(tmp_path: Path) -> None:
    import torch
    from training_toy import main

    threads = torch.get_num_threads()
    try:
        main(tmp_path, {"steps": 12, "record": True})
    finally:
        torch.set_num_threads(threads)
    wanted = [ref.key for epoch in range(3) for ref in _sampler().epoch(epoch, 16)]
    assert len({*wanted}) == 48
    assert [int(line) for line in (tmp_path / "chips-0.txt").read_text().split()] == wanted


@pytest.mark.slow
def test_every_epoch_has_chips_of_its_own_also_after_an_interruption(tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    # Read ahead by a worker, which is asked for chips before the first epoch after the interruption begins.
    finished(folder, steps=12, workers=1, record=True)
    finished(folder, steps=24, workers=1, record=True)
    wanted = [ref.key for epoch in range(6) for ref in _sampler().epoch(epoch, 16)]
    assert len({*wanted}) == len(wanted) == 96
    read = [int(line) for line in (folder / "chips-0.txt").read_text().split()]
    assert read[:48] + read[-48:] == wanted
    # Read ahead, and left: chips of the next epoch, not of the first one again.
    assert {*read[48:-48]} <= {*wanted[48:]}


@pytest.mark.slow
def test_processes_that_train_together_share_the_chips(tmp_path: Path) -> None:
    finished(tmp_path / "two", steps=8, devices=2, record=True)
    parts = [[int(line) for line in (tmp_path / "two" / f"chips-{rank}.txt").read_text().split()] for rank in (0, 1)]
    wanted = [ref.key for epoch in range(2) for ref in _sampler().epoch(epoch, 32)]
    assert parts == [wanted[0::2], wanted[1::2]]


def _sampler() -> Any:
    from training_toy import Patches

    from geoseg.training.data.samplers import AreaSampler

    return AreaSampler([Patches(f"scene {k}", k) for k in range(2)], 32, 7, 2)


def test_a_loss_that_is_not_finite_ends_the_training_with_a_sentence(tmp_path: Path) -> None:
    import torch
    from training_toy import main

    threads = torch.get_num_threads()
    try:
        with pytest.raises(GeosegError, match="lower the learning rate"):
            main(tmp_path, {"rate": 1e30})
    finally:
        torch.set_num_threads(threads)


def test_learning_rates_rise_and_fall() -> None:
    from geoseg.training.training_plan import LearningRates

    factors = np.array([LearningRates(1e-3, 1000).factor(step) for step in range(1001)])
    assert factors.argmax() == 150
    assert factors[0] == pytest.approx(0.04)
    assert (np.diff(factors[:150]) > 0).all()
    assert (np.diff(factors[150:]) <= 0).all()
    assert factors[-1] < 1e-4
