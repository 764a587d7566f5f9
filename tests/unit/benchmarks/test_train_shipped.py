"""The benchmark that trains shipped models where a GPU is for minutes, at a small size on a CPU."""

from __future__ import annotations

import csv
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import ROOT, patchy

pytest.importorskip("lightning")

import lightning
import torch

from geoseg.errors import ConfigError
from geoseg.models.model_folder import load_model
from geoseg.training.augment.geometry import Geometry
from geoseg.training.augment.intensity import CutMix, Radiometry
from geoseg.training.data.loaders import Preparation, training_loader
from geoseg.training.data.resident import resident_loader
from geoseg.training.data.samplers import AreaSampler
from geoseg.training.data.splits import LeakError
from geoseg.training.loop import Average, Deadline, OutOfTimeError
from geoseg.windows import Window
from pipeline.train.data import open_data
from pipeline.train.recipe import Recipe
from pipeline.train.run import train

DOCUMENT: dict[str, Any] = {
    "name": "tiny",
    "description": "made by a test",
    "bands": ["red", "green", "blue"],
    "value_range": [0, 255],
    "classes": [{"name": "other", "color": "#e8d8a0"}, {"name": "forest", "color": "#1a7837"}],
    "data": [{"images": ["images"], "labels": "masks", "plain": True}],
    "split": {"val": ["south.*"]},
    "network": {
        "architecture": "unet-2015",
        "parameters": {"width": 4, "depth": 1, "padding": "same", "batch_norm": True, "dropout": 0.2},
    },
    "sample": {"chip": 32, "batch": 2},
    "augment": {"rotate": 30, "scale": 0.2, "gain": 0.1, "haze": 0.2, "noise": 0.1, "cutmix": 0.5},
    "loop": {"steps": 8, "check": 2, "rate": 5e-3, "average": 0.9},
    "calibrate": {"method": "none"},
}
SIDE = 64


@pytest.fixture(scope="module")
def benchmarks() -> dict[str, ModuleType]:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        return {name: importlib.import_module(name) for name in ("brought", "prepared", "train_shipped")}
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes of each of two places."""
    found = tmp_path_factory.mktemp("scenes")
    for part in ("images", "masks"):
        (found / part).mkdir()
    for k, name in enumerate(("north.1", "north.2", "south.1", "south.2")):
        codes = patchy(SIDE, SIDE, 2, seed=k, size=6).astype(np.uint8)
        noise = np.random.default_rng(k).normal(0, 20, (SIDE, SIDE, 3))
        Image.fromarray(np.clip(70 + 90 * codes[..., None] + noise, 0, 255).astype(np.uint8)).save(
            found / "images" / f"{name}.png"
        )
        Image.fromarray(codes).save(found / "masks" / f"{name}.png")
    return found


@pytest.fixture(scope="module")
def file(folder: Path, benchmarks: dict[str, ModuleType]) -> Path:
    path = folder / "tiny.zip"
    benchmarks["prepared"].prepare(DOCUMENT, folder, path)
    return path


def same_chips(one: Any, other: Any, window: Window) -> None:
    a, b = one.read(window), other.read(window)
    for part in ("image", "valid", "labels"):
        np.testing.assert_array_equal(getattr(a, part), getattr(b, part))
        assert getattr(a, part).dtype == getattr(b, part).dtype


def test_what_was_prepared_is_what_the_recipe_reads_and_no_place_is_on_both_sides(
    folder: Path, file: Path, benchmarks: dict[str, ModuleType], tmp_path: Path
) -> None:
    data, read = benchmarks["prepared"].load(file).data, open_data(Recipe.parse(DOCUMENT).beside(folder))
    assert data.fingerprint == read.fingerprint
    names = [[s.name for s in part] for part in (data.training, data.validation)]
    assert names == [["north.1", "north.2"], ["south.1", "south.2"]]
    for one, other in zip((*data.training, *data.validation), (*read.training, *read.validation), strict=True):
        for window in (Window.of((SIDE, SIDE)), Window.at((-5, 40), (30, 40)), Window.at((SIDE, 0), (8, 8))):
            same_chips(one, other, window)
    leaking = DOCUMENT | {"split": {"val": ["south.1"]}}
    with pytest.raises(LeakError, match=r"south\.1.*same place as south\.2"):
        benchmarks["prepared"].prepare(leaking, folder, tmp_path / "leaking.zip")
    assert not (tmp_path / "leaking.zip").exists()


def test_blocks_that_are_held_out_stay_hidden_and_are_places_of_their_own(
    folder: Path, benchmarks: dict[str, ModuleType], tmp_path: Path
) -> None:
    document = DOCUMENT | {"split": {"by": "block", "val": 0.3, "block": 32, "margin": 4}}
    benchmarks["prepared"].prepare(document, folder, tmp_path / "blocks.zip")
    data, read = benchmarks["prepared"].load(tmp_path / "blocks.zip").data, open_data(Recipe.parse(document).beside(folder))
    assert len({s.name for s in data.validation}) == len(data.areas) == len(read.areas) > 3
    by_name = {source.name: source for source in data.training}
    for one, other in zip(data.training, read.training, strict=True):
        same_chips(one, other, Window.at((-3, -3), (SIDE + 6, SIDE + 6)))
    for k, window in data.areas:
        held = data.validation[k]
        assert held.read(window).valid.all()
        assert not by_name[held.name.split()[0]].read(window.grown(4)).valid.any()


@pytest.mark.parametrize("mix", [None, CutMix(1.0)])
def test_chips_cut_on_the_device_are_those_that_are_read(
    file: Path, benchmarks: dict[str, ModuleType], mix: CutMix | None
) -> None:
    sources, size = benchmarks["prepared"].load(file).data.training, 24
    geometry = Geometry(scale=0.2, rotate=180, elastic=2)
    light = Radiometry(stddev=(40.0,) * 3, gain=0.1, offset=0.2, haze=0.3, probability=1.0, value_range=(0, 255))
    preparation = Preparation(
        mean=(100.0, 110.0, 120.0),
        stddev=(40.0, 50.0, 60.0),
        size=size,
        margin=geometry.required_margin(size),
        changes=(geometry.sized(size), light),
    )
    sampler, device = AreaSampler(sources, size, 3, 2), torch.device("cpu")
    resident = resident_loader(sources, sampler, preparation, device, batches=3, size=4, mix=mix)
    for read, cut in zip(training_loader(sources, sampler, preparation, batches=3, size=4, mix=mix), resident, strict=True):
        assert cut.labels.dtype == read.labels.dtype
        assert (cut.labels != read.labels).float().mean() < 2e-3
        torch.testing.assert_close(cut.image, read.image, atol=2e-3, rtol=0)
    first = [batch.labels for batch in resident]
    resident.batch_sampler.set_epoch(1)
    assert not any(torch.equal(a, b.labels) for a, b in zip(first, resident, strict=True))


def test_the_average_is_the_one_worked_out_by_hand() -> None:
    network = torch.nn.BatchNorm1d(1)
    averaged = torch.optim.swa_utils.AveragedModel(network, use_buffers=True, **Average(0.15)._kwargs)
    for step, weight in enumerate((1.0, 2.0, 4.0, 8.0)):
        torch.nn.init.constant_(network.weight, weight)
        network.running_mean.fill_(-weight)
        network.num_batches_tracked.fill_(step)
        averaged.update_parameters(network)
    # The first is taken as it is; then 1/11 is kept, and 0.15 where 2/12 would be more.
    second = 1 / 11 * 1 + 10 / 11 * 2
    wanted = 0.15 * (0.15 * second + 0.85 * 4) + 0.85 * 8
    assert averaged.module.weight.item() == pytest.approx(wanted, rel=1e-6)
    assert averaged.module.running_mean.item() == pytest.approx(-wanted, rel=1e-6)
    assert averaged.module.num_batches_tracked.item() == 3


class Stop(lightning.Callback):
    """As if it were killed after some steps."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step >= self._step:
            raise OutOfTimeError("killed")


def figures(folder: Path) -> list[list[str]]:
    with (folder / "training" / "curve.csv").open(newline="") as file:
        return [[value for key, value in row.items() if key != "seconds"] for row in csv.DictReader(file)]


def test_killed_and_started_again_it_gives_the_same_bytes_and_comes_home(
    file: Path, benchmarks: dict[str, ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = benchmarks["train_shipped"]

    def words(name: str) -> list[str]:
        return [
            "amazon-forest",
            "--data",
            str(file),
            "--device",
            "cpu",
            "--out",
            str(tmp_path / name),
            "--bring",
            str(tmp_path / f"{name} home"),
        ]

    assert shipped.main([*words("whole"), "--minutes", "60"]) == 0
    whole, killed = (tmp_path / name / "amazon-forest-plain-0" for name in ("whole", "killed"))
    prepared = benchmarks["prepared"].load(file)
    (one,) = shipped.trainings(shipped.parsed(words("killed")), prepared, "cpu")
    for step in (3, 7):
        with pytest.raises(OutOfTimeError):
            train(one.recipe, one.folder, progress=False, data=prepared.data, resident=True, callbacks=[Stop(step)])
        assert not one.finished
    # What it goes on from comes home, too, and may go on elsewhere.
    assert shipped.main([*words("killed"), "--minutes", "0"]) == 0
    assert json.loads((tmp_path / "killed" / "report.json").read_text())["trainings"][0]["steps"] == 6
    brought = sorted(map(str, (tmp_path / "killed home").glob("*.tar*")))
    assert shipped.main([*words("moved"), "--minutes", "60", "--from", *brought]) == 0
    moved = tmp_path / "moved" / "amazon-forest-plain-0"
    for name in ("model.safetensors", "model.onnx"):
        assert (moved / name).read_bytes() == (whole / name).read_bytes(), name
    assert figures(moved) == figures(whole)
    assert len(figures(whole)) == 4
    assert not killed.joinpath("card.json").exists()
    report = json.loads((tmp_path / "moved home" / "report.json").read_text())["trainings"][0]
    assert report["finished"]
    assert report["miou"] == pytest.approx(np.mean(list(report["iou"].values())), abs=1e-5)
    assert sorted(report["places"]) == ["south.1", "south.2"]
    assert min(report["steps_s"], report["mpx_s"], report["seconds"]) > 0
    assert "amazon-forest-plain-0 | 8 of 8" in capsys.readouterr().out
    benchmarks["brought"].unpack((tmp_path / "moved home").glob("*.tar*"), tmp_path / "again")
    assert load_model(str(tmp_path / "again" / "amazon-forest-plain-0")).sha256 == load_model(str(whole)).sha256


def test_what_is_large_comes_home_in_parts_and_what_is_too_much_stays(benchmarks: dict[str, ModuleType], tmp_path: Path) -> None:
    brought, rng = benchmarks["brought"], np.random.default_rng(0)
    for name, size in (("a", 33 << 20), ("b", 40 << 20), ("c", 1000)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "card.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_bytes(rng.bytes(size))
    found = brought.bring([tmp_path / name for name in "abc"], tmp_path / "home")
    assert found == {"a": ["a.tar.0", "a.tar.1", "a.tar.2"], "b": [], "c": ["c.tar"]}
    files = list((tmp_path / "home").iterdir())
    assert max(path.stat().st_size for path in files) <= 16 << 20
    assert sum(path.stat().st_size for path in files) < 63 << 20
    assert sorted(brought.unpack(files, tmp_path / "back")) == ["a", "c"]
    for name in "ac":
        for part in ("card.json", "model.safetensors"):
            assert (tmp_path / "back" / name / part).read_bytes() == (tmp_path / name / part).read_bytes()
    with pytest.raises(ConfigError, match="parts"):
        brought.unpack([tmp_path / "home" / "a.tar.1"], tmp_path / "back")


def test_time_is_over_before_an_interval_that_would_not_end_in_time() -> None:
    trainer: Any = type("Trainer", (), {"global_step": 5})()
    Deadline(1000).on_train_epoch_start(trainer, None)
    with pytest.raises(OutOfTimeError, match="5 steps"):
        Deadline(-1).on_train_batch_end(trainer, None, None, None, 0)
    slow = Deadline(1.0)
    slow.on_train_epoch_start(trainer, None)
    slow._began -= 100
    slow._end += 50
    slow.on_train_batch_end(trainer, None, None, None, 0)
    with pytest.raises(OutOfTimeError):
        slow.on_train_epoch_start(trainer, None)
