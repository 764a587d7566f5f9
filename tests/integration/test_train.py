"""``geoseg train``: from scenes and a recipe to a model that ``geoseg segment`` runs; killed, it goes on."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from support import LIMIT_S, call_cli, run_cli

pytest.importorskip("lightning")

from geoseg.errors import ConfigError
from geoseg.models.model_folder import load_model
from geoseg.training.data.statistics import Statistics
from geoseg.windows import Window
from pipeline.train.data import open_data
from pipeline.train.planning import loss_of
from pipeline.train.recipe import Recipe
from pipeline.train.recipe_tables import LossRecipe

RECIPE = """
name = "tiny"
description = "made by a test"
bands = ["red", "green", "blue"]
value_range = [0, 255]

[[classes]]
name = "other"
color = "#e8d8a0"

[[classes]]
name = "forest"
color = "#1a7837"

[[data]]
images = ["{data}/train/images"]
labels = "{data}/train/masks"
only = ["Amazon_1[0-7]*"]

[split]
val = 0.3

[network]
architecture = "unet-2015"
parameters = {{ width = 6, depth = 2, padding = "same", batch_norm = true }}

[sample]
chip = 64
batch = 4

[augment]
scale = 0.2
rotate = 20
gain = 0.05

[loss.terms]
cross-entropy = 1.0
dice = 0.5

[loop]
steps = 30
check = 10
rate = 5e-3
"""


@pytest.fixture(scope="module")
def recipe(forest_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "train.toml"
    path.write_text(RECIPE.format(data=forest_data))
    return path


@pytest.fixture(scope="module")
def trained(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "tiny"
    done = run_cli(["train", recipe, "--out", out])
    assert done.returncode == 0, done.stderr
    # Said before the first step, and on the first ones.
    for words in ("device       ", "network      ", "steps        30 of 4", "validation is on 3 scenes: ", " a step, measured; "):
        assert words in done.stderr
    return out


def curve(out: Path) -> list[dict[str, str]]:
    with (out / "training" / "curve.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def test_the_model_runs_and_its_report_is_what_an_own_count_gives(trained: Path, forest_data: Path, tmp_path: Path) -> None:
    model = load_model(str(trained))
    report: dict[str, Any] = json.loads((trained / "training" / "validation.json").read_text())
    assert report["torch_onnx_difference"] < 1e-4
    assert len(report["scenes"]) + len(report["trained_on"]) >= 4
    assert model.card.calibration is not None or report["calibration"]["method"] == "before"
    assert f"mean IoU **{report['miou']:.3f}**" in (trained / "README.md").read_text()
    assert len(curve(trained)) == 3
    page = (trained / "training" / "report.html").read_text()
    assert f"{report['miou']:.4f}" in page
    assert all(f"{entry['iou']:.4f}" in page for entry in report["classes"])
    assert all(scene["scene"] in page for scene in report["scenes"])
    assert page.count("<polyline") == 3
    assert sorted(p.name for p in (trained / "training" / "pictures").iterdir()) == [f"step-0000{k}0.png" for k in (1, 2, 3)]
    # The scenes that were held out, mapped by the main job with the exact halo, give the same matrix, up to calibration.
    folder = forest_data / "train"
    held = [str(folder / "images" / f"{scene['scene']}.tif") for scene in report["scenes"]]
    plain = tmp_path / "plain"
    plain.mkdir()
    for name in ("config.json", "model.onnx", "README.md"):
        (plain / name).write_bytes((trained / name).read_bytes())
    card = model.card.model_copy(update={"calibration": None})
    card = card.model_copy(update={"files": {k: v for k, v in card.files.items() if k != "model.safetensors"}})
    card.write(plain / "card.json")
    done = call_cli(
        ["segment", *held, "--model", plain, "--out", tmp_path / "maps", "--halo", "exact", "--formats", "none", "-q"]
    )
    assert done.returncode == 0, done.stderr
    matrix = np.zeros((2, 2), np.int64)
    for path in held:
        with (
            rasterio.open(path.replace("images", "masks")) as truth,
            rasterio.open(tmp_path / "maps" / Path(path).stem / "classes.tif") as map_,
        ):
            t, m = truth.read(1), map_.read(1)
        known = t < 2
        matrix += np.bincount(2 * t[known].astype(int) + m[known], minlength=4).reshape(2, 2)
    assert matrix.tolist() == report["confusion"]


def test_a_finished_model_is_left_alone_and_another_recipe_refused(trained: Path, recipe: Path) -> None:
    before = (trained / "card.json").stat().st_mtime_ns
    assert call_cli(["train", recipe, "--out", trained]).returncode == 0
    assert (trained / "card.json").stat().st_mtime_ns == before
    other = call_cli(["train", recipe, "--out", trained, "--set", "loop.steps=40"])
    assert other.returncode == 2
    assert "holds a training of another recipe" in other.stderr


@pytest.mark.slow
def test_killed_at_a_check_it_ends_with_the_same_model(trained: Path, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "pipeline", "train", str(recipe), "--out", str(out), "-q"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + LIMIT_S
    while not ((out / "training" / "curve.csv").is_file() and len(curve(out)) >= 2):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not (out / "card.json").exists()
    done = run_cli(["train", recipe, "--out", out])
    assert done.returncode == 0, done.stderr
    assert curve(out) == curve(trained)
    # The card also holds how much memory a pass took, which is measured.
    a, b = (load_model(str(folder)).card for folder in (out, trained))
    assert (a.files, a.calibration, a.scaling) == (b.files, b.calibration, b.scaling)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("loop.stepz=3", "loop.stepz: Extra inputs are not permitted"),
        ("loss.terms.huber=1", "loss.terms: huber is not known; choose of cross-entropy"),
        ("network.encoder=resnet19", "timm"),
        ("adapt.statistics=true", 'add [[data]] with role = "target"'),
        ("keep.distill=1", "there is no old model; name it in init.weights"),
        ("init.weights=nowhere.safetensors", "nowhere.safetensors: no such file"),
        ("init.weights=''", "init.weights: is empty; leave it out to begin with random weights"),
        ("init.weights=imagnet", "no encoder that weights named 'imagnet' could be loaded into"),
        ('split.val=["Mars"]', "no scene is named"),
        ("loss.factors.Mars=2", "loss.factors: 'Mars' is not a class: other, forest"),
        ("sample.chip=8", "sample.chip: Input should be greater than or equal to 16"),
        ("sample.chip=100000", "sample.chip: Input should be less than or equal to 16384"),
        # What the card would refuse when the training is over.
        ("value_range=[5,1]", "value_range: 5 to 1; the first is to be the smaller"),
        ("normalize=[[0,1],[0,0],[0,1]]", "normalize: a standard deviation of 0"),
        ('bands=["red","red","blue"]', "bands: red is there twice"),
        ('sources=[{name="a"}]', "sources.0.license: is missing"),
    ],
)
def test_what_can_not_work_is_said_in_a_sentence(recipe: Path, tmp_path: Path, change: str, words: str) -> None:
    change = change.replace("network.encoder=resnet19", "network={architecture='unet',encoder='resnet19'}")
    done = call_cli(["train", recipe, "--out", tmp_path / "m", "--set", change])
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "m" / "card.json").exists()


def test_an_empty_recipe_says_all_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "empty.toml").write_text("")
    done = call_cli(["train", tmp_path / "empty.toml", "--out", tmp_path / "m"])
    what = "name, description, bands, classes, data: are missing, and have no defaults; give them values"
    assert (done.returncode, done.stderr) == (2, f"geoseg: {what}\n")


def test_weights_and_networks_are_checked_before_scenes_are_read_and_anything_is_begun(recipe: Path, tmp_path: Path) -> None:
    """What is told once scenes are measured is not told, and a correction needs no --overwrite."""
    changes = {
        "init.weights=nowhere.pth": "nowhere.pth: no such file",
        f"init.weights={tmp_path}": "no card.json",
        "network={architecture='unet',encoder='resnet19'}": "'resnet19' is not known",
    }
    for more in ([], ["--dry-run"]):
        for change, words in changes.items():
            done = call_cli(["train", recipe, "--out", tmp_path / "m", "--set", change, *more])
            assert done.returncode == 2
            assert done.stderr.startswith("geoseg: ")
            assert words in done.stderr
            assert not (tmp_path / "m" / "training").exists()


def test_the_network_is_built_and_its_first_weights_are_loaded_once(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it begins as one that is made for the training alone, random numbers included."""
    import torch

    from geoseg.training import run
    from pipeline.config.document import read_toml
    from pipeline.train.planning import begin
    from pipeline.train.run import train

    document = read_toml(recipe)
    torch.save(begin(Recipe.parse(document)).network.state_dict(), tmp_path / "first.pth")
    loop = {"steps": 2, "check": 2, "seed": 5}
    wanted = Recipe.parse({**document, "init": {"weights": str(tmp_path / "first.pth")}, "loop": loop})
    counts, begun = Counter[str](), list[tuple[dict[str, Any], Any]]()

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            counts[name] += 1
            return function(*args, **more)

        return call

    def fit(module: Any, *args: Any) -> None:
        del args
        begun.append(({name: value.clone() for name, value in module.network.state_dict().items()}, torch.rand(8)))
        raise KeyboardInterrupt

    def anew(*args: Any, **more: Any) -> Any:
        return real_plan(*args, **{**more, "begun": None})

    real_plan = run.run_plan
    for name in ("build_network", "load_weights"):
        monkeypatch.setattr(run, name, counted(name, getattr(run, name)))
    monkeypatch.setattr(run, "fit", fit)
    with pytest.raises(KeyboardInterrupt):
        train(wanted, tmp_path / "m", progress=False)
    assert counts == {"build_network": 1, "load_weights": 1}
    monkeypatch.setattr(run, "run_plan", anew)
    with pytest.raises(KeyboardInterrupt):
        train(wanted, tmp_path / "alone", progress=False)
    (ours, drawn), (alone, also) = begun
    assert ours.keys() == alone.keys()
    assert all(torch.equal(ours[name], alone[name]) for name in ours)
    assert torch.equal(drawn, also)


def test_dry_run_says_what_would_be_trained_on(recipe: Path, tmp_path: Path) -> None:
    done = call_cli(["train", recipe, "--out", tmp_path / "m", "--dry-run"])
    assert done.returncode == 0, done.stderr
    assert "train        " in done.stdout
    assert "6 scenes, 1,572,864 px" in done.stdout
    lines = {line[:12].strip(): line[13:] for line in done.stdout.splitlines()}
    assert re.fullmatch(r"(CPU|GPU).*", lines["device"])
    assert " parameters" in lines["network"]
    assert lines["steps"].startswith("30 of 4 chips of 64 px; 3 checks on ")
    assert re.match(r"\S+ (s|min) a step, measured; \S+ (s|min) a check; about \S+ (s|min) in all", lines["time"])
    assert re.match(r"\d+\.\d GB of ", lines["memory"])
    assert lines["warning"].startswith("validation is on 3 scenes: ")
    assert not (tmp_path / "m").exists()


def test_a_training_keeps_what_it_takes(trained: Path) -> None:
    pace = json.loads((trained / "training" / "pace.json").read_text())
    assert pace["seconds"] == pytest.approx(30 * pace["step_s"] + 3 * pace["check_s"])
    assert min(pace["step_s"], pace["check_s"]) > 0
    assert (pace["steps"], pace["checks"]) == (30, 3)


def test_classes_are_weighed_by_balance_and_by_hand(recipe: Path) -> None:
    found = Recipe.read(recipe)
    seen = Statistics((0.0,) * 3, (1.0,) * 3, 100, (75, 25))
    balanced = found.model_copy(update={"loss": LossRecipe(balance="inverse", factors={"forest": 2.0})})
    alone = found.model_copy(update={"loss": LossRecipe(balance="inverse")})
    by_hand = found.model_copy(update={"loss": LossRecipe(factors={"forest": 2.0})})
    assert loss_of(by_hand, seen).class_weights == (1.0, 2.0)
    plain, double = loss_of(alone, seen).class_weights, loss_of(balanced, seen).class_weights
    assert plain is not None
    assert double == (plain[0], 2 * plain[1])


def test_tasks_that_their_data_can_not_serve_are_refused(recipe: Path) -> None:
    found = Recipe.read(recipe).model_dump(mode="json")
    with pytest.raises(ConfigError, match="boundaries that are none"):
        Recipe.parse(found | {"augment": {"cutmix": 0.5}, "tasks": {"distance": 1.0}})
    data = [entry | {"border": 3} for entry in found["data"]]
    with pytest.raises(ConfigError, match=r"data\.border"):
        Recipe.parse(found | {"data": data, "tasks": {"boundary": 1.0}})


@pytest.mark.parametrize("plain", [False, True])
def test_tables_with_scenes_of_one_name_are_told_apart_by_a_prefix(
    recipe: Path, forest_data: Path, tmp_path: Path, plain: bool
) -> None:
    name = next(path for path in sorted((forest_data / "train" / "images").iterdir())).name
    found = Recipe.read(recipe).model_dump(mode="json")
    for part in ("first", "second"):
        for kind in ("images", "masks"):
            (tmp_path / part / kind).mkdir(parents=True)
    # Another place under the same name: copies of one would be refused as a leak.
    other = next(path for path in sorted((forest_data / "val" / "images").iterdir())).name
    for part, folder, source in (("first", "train", name), ("second", "val", other)):
        for kind in ("images", "masks"):
            shutil.copyfile(forest_data / folder / kind / source, tmp_path / part / kind / "scene.tif")
    first, second = (
        {"images": [f"{tmp_path}/{part}/images"], "labels": f"{tmp_path}/{part}/masks", "plain": plain, "role": role}
        for part, role in (("first", "train"), ("second", "val"))
    )
    with pytest.raises(ConfigError, match=r"two scenes are named scene; give one table a prefix"):
        open_data(Recipe.parse(found | {"data": [first, second]}))
    data = open_data(Recipe.parse(found | {"data": [first, second | {"prefix": "other-"}]}))
    assert [source.name for source in (*data.training, *data.validation)] == ["scene", "other-scene"]
    window = Window.of((64, 64))
    assert (data.training[0].read(window).labels != data.validation[0].read(window).labels).any()
