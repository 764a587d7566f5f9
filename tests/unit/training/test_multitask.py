"""Heads beside segmentation, what they are to predict, and what is learned from it."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from all_tasks import TASKS  # noqa: E402

from geoseg.codes import UNLABELLED  # noqa: E402
from geoseg.errors import ConfigError, ModelError  # noqa: E402
from geoseg.models.networks.build import build_network  # noqa: E402
from geoseg.models.networks.config import NetworkConfig  # noqa: E402
from geoseg.models.networks.deploy import inference_form  # noqa: E402
from geoseg.models.networks.heads import Head, MultiTaskNetwork, main_network, main_weights  # noqa: E402
from geoseg.models.networks.stride import stride_of  # noqa: E402
from geoseg.training.data.chips import Batch  # noqa: E402
from geoseg.training.losses.balancing import (  # noqa: E402
    MAIN,
    DynamicWeights,
    ManualWeights,
    make_weighting,
)
from geoseg.training.losses.masked import balanced_cross_entropy  # noqa: E402
from geoseg.training.losses.targets import border_distance, boundary_map, distance_map  # noqa: E402
from geoseg.training.losses.tasks import (  # noqa: E402
    Boundary,
    Distance,
    MultiTask,
    Regression,
    SceneClass,
    SceneClasses,
    Task,
    kinds_of,
    spread_of,
    task_losses,
)

ENCODER = "tu-tf_mobilenetv3_small_minimal_100"
SMALL = NetworkConfig("unet", ENCODER, 3, 3, {"decoder_channels": [16, 16, 8, 8, 8]})
HEADS = [task.head for task in TASKS]
CODES = st.sampled_from([0, 0, 1, 1, 2, UNLABELLED])


def multi_task(seed: int = 0, config: NetworkConfig = SMALL) -> tuple[Any, Any]:
    torch.manual_seed(seed)
    base = build_network(config)
    return base, MultiTaskNetwork(base, HEADS)


def batch_of(labels: np.ndarray, rasters: np.ndarray | None = None, bands: int = 3) -> Batch:
    image = torch.randn((len(labels), bands, *labels.shape[1:]), generator=torch.Generator().manual_seed(1))
    found = torch.from_numpy(rasters.astype(np.float32)) if rasters is not None else None
    return Batch(image, torch.from_numpy(labels.astype(np.int64)), None, found)


def patches(seed: int, count: int = 2, side: int = 64, classes: int = 3) -> np.ndarray:
    """(count, side, side) uint8: blocks of 16 pixels of random classes."""
    codes = np.random.default_rng(seed).integers(0, classes, (count, side // 16, side // 16))
    return codes.repeat(16, 1).repeat(16, 2).astype(np.uint8)


# Networks


@pytest.mark.parametrize(
    ("architecture", "encoder", "sides"),
    [
        ("unet", ENCODER, 5),
        ("fpn", ENCODER, 5),
        ("deeplabv3plus", ENCODER, 5),
        ("segformer", "mit_b0", 4),
        ("unet", "vgg11", 6),
        ("pspnet", "resnet18", 4),
        ("dpt", "tu-vit_tiny_patch16_224", 5),
    ],
)
def test_the_main_output_is_that_of_the_network_alone(architecture: str, encoder: str, sides: int) -> None:
    base, network = multi_task(config=NetworkConfig(architecture, encoder, 3, 3))
    before = {name: value.clone() for name, value in base.state_dict().items()}
    network.eval()
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        found = network(image)
        assert main_network(network) is base
        assert not base.training
        assert inference_form(network) is base
        assert torch.equal(found["scores"], base(image))
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "scores": (2, 3, 64, 64),
        "boundary": (2, 1 + sides, 64, 64),
        "distance": (2, 1, 64, 64),
        "scene_class": (2, 3),
        "scene_classes": (2, 3),
        "regression": (2, 2, 8, 8),
    }
    after = main_network(network).state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert main_weights(network.state_dict()).keys() == before.keys()
    assert stride_of(network) == stride_of(base)


def test_a_copy_is_whole_and_shares_nothing() -> None:
    base, network = multi_task()
    other = copy.deepcopy(network)
    with torch.no_grad():
        for value in network.parameters():
            value.zero_()
    network.eval()
    other.eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert not base(image).any()
        assert main_network(other)(image).abs().max() > 0
        assert torch.equal(other(image)["scores"], main_network(other)(image))


def test_every_task_trains_what_is_shared_and_the_weights_fit_a_new_network() -> None:
    base, network = multi_task()
    rng = np.random.default_rng(0)
    batch = batch_of(patches(0), rng.normal(size=(2, 2, 64, 64)))
    shared_part = dict(base.encoder.named_parameters())
    before = {name: value.detach().clone() for name, value in network.state_dict().items()}
    losses = task_losses(TASKS, network(batch.image), batch)
    assert list(losses) == [task.name for task in TASKS]
    for loss in losses.values():
        found = torch.autograd.grad(loss, list(shared_part.values()), retain_graph=True, allow_unused=True)
        assert sum(float(grad.abs().sum()) for grad in found if grad is not None) > 0
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    sum(losses.values()).backward()
    optimizer.step()
    new = build_network(SMALL)
    new.load_state_dict(main_weights(network.state_dict()))
    assert any(not torch.equal(new.state_dict()[name], before[name]) for name in new.state_dict())
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in new.state_dict().items())


def test_the_model_folder_holds_the_segmentation_network_alone(tmp_path: Path) -> None:
    import onnxruntime

    from geoseg.models.saving import save_model

    base, network = multi_task()
    facts = {
        "name": "multi-task",
        "description": "For a test",
        "license": "Apache-2.0",
        "bands": ["red", "green", "blue"],
        "scaling": [{"mean": 0.0, "stddev": 1.0}] * 3,
        "data_type": "float32",
        "classes": [{"value": k, "name": f"class {k}", "color": "#808080"} for k in range(3)],
    }
    model = save_model(main_network(network), SMALL, tmp_path / "model", facts, tile=64)
    assert model.card.total_parameters == sum(value.numel() for value in base.parameters())
    assert model.onnx is not None
    session = onnxruntime.InferenceSession(str(model.onnx))
    image = torch.randn(1, 3, 64, 64)
    found = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    assert len(found) == 1
    with torch.no_grad():
        wanted = network.eval()(image)["scores"]
    np.testing.assert_allclose(found[0], wanted.numpy(), atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize(
    ("config", "heads", "message"),
    [
        (NetworkConfig("unet-2015", "", 3, 2, {}), HEADS, "segmentation-models-pytorch"),
        (NetworkConfig("unet", ENCODER, 3, 2, {"aux_params": {"classes": 2}}), HEADS, "aux_params"),
        (SMALL, [Head("a", "raster"), Head("a", "raster")], "names have to differ"),
        (SMALL, [Head("scores", "raster")], "none can be scores"),
        (SMALL, [Head("a", "raster", stride=7)], "divides"),
        (SMALL, [Head("a", "raster", outputs=0)], "at least one"),
        (SMALL, [Head("a", "boundary", outputs=2)], "one raster"),
        (SMALL, [Head("a", "points")], "boundary, raster, scene"),  # type: ignore[arg-type]
    ],
)
def test_heads_that_do_not_fit_are_refused(config: NetworkConfig, heads: list[Head], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        MultiTaskNetwork(build_network(config), heads)


# Targets


def slow_distance(segments: np.ndarray, known: np.ndarray, reach: float) -> np.ndarray:
    """Pixel by pixel, for every choice of the nearest pixel that is not known."""
    height, width = segments.shape
    out = np.full((height, width), np.nan)
    wide = [(r, c) for r in range(-1, height + 1) for c in range(-1, width + 1)]
    for row, col in np.argwhere(known):
        nearest, hidden = reach, math.inf
        for r, c in wide:
            away = math.hypot(r - row, c - col)
            if not (0 <= r < height and 0 <= c < width) or not known[r, c]:
                hidden = min(hidden, away)
            elif segments[r, c] != segments[row, col]:
                nearest = min(nearest, away)
        if hidden >= nearest:
            out[row, col] = nearest
    return out


@given(npst.arrays(np.uint8, (9, 11), elements=CODES), st.floats(1, 6))
def test_distances_equal_those_found_pixel_by_pixel(labels: np.ndarray, reach: float) -> None:
    known = labels != UNLABELLED
    np.testing.assert_allclose(border_distance(labels, known, reach), slow_distance(labels, known, reach))


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 6), st.booleans(), st.booleans())
def test_what_is_told_of_a_part_is_what_is_told_of_the_whole(seed: int, size: int, signed: bool, with_objects: bool) -> None:
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, 3, (10, 10)), np.ones((size, size))).astype(np.uint8)[:30, :30]
    objects = ndimage.label(labels == 1)[0] if with_objects else None
    part = labels.copy()
    part[rng.random(part.shape) < rng.choice([0, 0.01, 0.1])] = UNLABELLED
    row, col = rng.integers(0, 5, 2)
    here = (slice(row, row + 20), slice(col, col + 18))
    part_objects = objects[here] if objects is not None else None
    whole = boundary_map(labels, 3, objects)[here]
    told = boundary_map(part[here], 3, part_objects)
    sure = told != UNLABELLED
    assert (told[sure] == whole[sure]).all()
    assert (told[part[here] == UNLABELLED] == UNLABELLED).all()
    far = distance_map(labels, 4, signed=signed, objects=objects)[here]
    near = distance_map(part[here], 4, signed=signed, objects=part_objects)
    known = ~np.isnan(near)
    np.testing.assert_array_equal(near[known], far[known])
    assert np.abs(near[known]).max(initial=0) <= 1


@given(st.integers(0, 1000))
def test_a_boundary_of_two_pixels_is_that_of_scikit_image(seed: int) -> None:
    from skimage.segmentation import find_boundaries

    labels = np.random.default_rng(seed).integers(0, 3, (6, 6)).repeat(5, 0).repeat(5, 1).astype(np.uint8)
    told = boundary_map(labels, 2)
    wanted = find_boundaries(labels, connectivity=2, mode="thick")
    inner = (slice(1, -1), slice(1, -1))
    np.testing.assert_array_equal(told[inner] == 1, wanted[inner])
    assert (told[inner] != UNLABELLED).all()


def test_distances_are_told_from_both_sides_of_a_border() -> None:
    labels = np.zeros((41, 40), np.uint8)
    labels[:, 20:] = 1
    middle = distance_map(labels, 4)[20]
    np.testing.assert_allclose(middle[14:26] * 4, [-4, -4, -3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 4, 4])
    np.testing.assert_array_equal(distance_map(labels, 4, signed=False)[20], np.abs(middle))
    np.testing.assert_array_equal(distance_map(1 - labels, 4)[20], -middle)
    np.testing.assert_array_equal(distance_map(labels, 4, foreground=[0])[20], -middle)
    # Two objects side by side have a border between them that their class does not have.
    objects = np.where(labels == 1, 1, 0)
    objects[20:, 20:] = 2
    assert distance_map(labels, 4, objects=objects)[20, 30] == pytest.approx(0.125)
    assert distance_map(labels, 4)[20, 30] == 1


@given(npst.arrays(np.uint8, (3, 6, 6), elements=CODES), st.floats(0, 0.6), st.floats(0, 1))
def test_scene_classes_are_counted(labels: np.ndarray, share: float, least: float) -> None:
    batch = batch_of(labels)
    single = SceneClass(3, least_known=least).target(batch).numpy()
    several = SceneClasses(3, share=share, least_known=least).target(batch).numpy()
    for chip, one, held in zip(labels, single, several, strict=True):
        known = chip[chip != UNLABELLED]
        if len(known) == 0 or np.float32(len(known) / chip.size) < least:
            assert one == UNLABELLED
            assert np.isnan(held).all()
            continue
        counts = np.bincount(known, minlength=3)
        assert one == counts.argmax()
        np.testing.assert_array_equal(held, counts > np.float32(share) * len(known))


def test_rasters_are_averaged_over_what_is_known() -> None:
    rng = np.random.default_rng(0)
    rasters = rng.normal(3, 2, (2, 2, 16, 16))
    rasters[rng.random(rasters.shape) < 0.5] = np.nan
    rasters[0, 0, :4, :4] = np.nan
    task = Regression((3.0, 1.0), (2.0, 0.5), stride=4, least_known=0.0)
    batch = batch_of(patches(0, side=16), rasters)
    found = task.target(batch)
    cells = rasters.reshape(2, 2, 4, 4, 4, 4).transpose(0, 1, 2, 4, 3, 5).reshape(2, 2, 4, 4, 16)
    known = ~np.isnan(cells).all(-1)
    assert not known[0, 0, 0, 0]
    np.testing.assert_array_equal(~torch.isnan(found).numpy(), known)
    np.testing.assert_allclose(task.values(found).numpy()[known], np.nanmean(cells[known], axis=-1), rtol=1e-5)
    half = Regression((3.0, 1.0), (2.0, 0.5), stride=4).target(batch)
    np.testing.assert_array_equal(~torch.isnan(half).numpy(), (~np.isnan(cells)).mean(-1) >= 0.5)


def test_the_spread_of_rasters_is_that_of_what_is_known() -> None:
    rng = np.random.default_rng(0)
    rasters = rng.normal(100, 3, (6, 3, 8, 8)).astype(np.float32)
    rasters[rng.random(rasters.shape) < 0.3] = np.nan
    rasters[:, 2] = 7
    offsets, scales = spread_of([torch.from_numpy(rasters[:4]), None, torch.from_numpy(rasters[4:])])
    np.testing.assert_allclose(offsets, np.nanmean(rasters.astype(float), axis=(0, 2, 3)))
    np.testing.assert_allclose(scales, [*np.nanstd(rasters[:, :2].astype(float), axis=(0, 2, 3)), 1])
    with pytest.raises(ConfigError, match="no rasters to regress"):
        spread_of([None])
    rasters[:, 1] = np.nan
    with pytest.raises(ConfigError, match="raster 2 of 3 has no value"):
        spread_of([torch.from_numpy(rasters)])


def test_rasters_that_are_missing_are_named() -> None:
    with pytest.raises(ConfigError, match="have 0 rasters to regress, not 1"):
        Regression().target(batch_of(patches(0)))
    with pytest.raises(ConfigError, match="scales above 0"):
        Regression((0.0,), (0.0,))


# Losses


def test_the_boundary_loss_is_that_of_the_paper_but_for_its_size() -> None:
    torch.manual_seed(0)
    scores = torch.randn(1, 1, 8, 8)
    target = (torch.rand(1, 8, 8) < 0.2).long()
    y, p = target[0].double(), torch.sigmoid(scores[0, 0].double())
    beta = 1 - y.mean()
    paper = -beta * (y * p.log()).sum() - (1 - beta) * ((1 - y) * (1 - p).log()).sum()
    ours = balanced_cross_entropy(scores, target)
    assert ours is not None
    assert float(ours) * float(2 * beta * (1 - beta)) * 64 == pytest.approx(float(paper), rel=1e-5)


def outputs_of(batch: Batch, seed: int = 0) -> dict[str, Any]:
    """Random outputs that can be differentiated."""
    torch.manual_seed(seed)
    n, height, width = batch.labels.shape
    shapes = {
        "boundary": (n, 4, height, width),
        "distance": (n, 1, height, width),
        "scene_class": (n, 3),
        "scene_classes": (n, 3),
        "regression": (n, 2, height // 8, width // 8),
    }
    return {name: torch.randn(shape, requires_grad=True) for name, shape in shapes.items()}


@settings(max_examples=20)
@given(st.integers(0, 1000), st.floats(0, 1))
def test_nothing_is_learned_where_nothing_is_known(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    labels = patches(seed)
    labels[rng.random(labels.shape) < share] = UNLABELLED
    labels[0, :24] = UNLABELLED
    rasters = np.where(labels == UNLABELLED, np.nan, rng.normal(size=labels.shape))[:, None].repeat(2, 1)
    batch = batch_of(labels, rasters)
    outputs = outputs_of(batch, seed)
    losses = task_losses(TASKS, outputs, batch)
    assert all(torch.isfinite(loss) and loss >= 0 for loss in losses.values())
    if losses:
        sum(losses.values()).backward()
    hidden = torch.from_numpy(labels == UNLABELLED)
    for name in ("boundary", "distance"):
        grad = outputs[name].grad
        assert grad is None or not grad.permute(0, 2, 3, 1)[hidden].any()
    grad = outputs["regression"].grad
    assert grad is None or not grad[0, :, :3].any()
    for task in (TASKS[2], TASKS[3]):
        grad = outputs[task.name].grad
        few = hidden.flatten(1).float().mean(1) > 0.5
        assert grad is None or not grad[few].any()


def test_a_batch_without_labels_has_no_loss() -> None:
    batch = batch_of(np.full((2, 32, 32), UNLABELLED), np.full((2, 2, 32, 32), np.nan))
    assert task_losses(TASKS, outputs_of(batch), batch) == {}


def test_chips_without_a_boundary_count() -> None:
    scores = torch.zeros(1, 2, 8, 8, requires_grad=True)
    loss = balanced_cross_entropy(scores, torch.zeros(1, 8, 8, dtype=torch.int64))
    assert loss is not None
    loss.backward()
    assert (scores.grad > 0).all()


# Training


def cross_entropy(scores: Any, labels: Any, weights: Any) -> Any:
    del weights
    return F.cross_entropy(scores, labels, ignore_index=UNLABELLED)


def test_the_term_makes_the_loss_the_weighted_one_of_all_tasks() -> None:
    from geoseg.training.module import Step

    _, network = multi_task()
    batch = batch_of(patches(0), np.random.default_rng(0).normal(size=(2, 2, 64, 64)))
    output = network(batch.image)
    weights = {name: 0.1 * (k + 1) for k, name in enumerate(kinds_of(TASKS))}
    term = MultiTask(TASKS, ManualWeights(weights), cross_entropy)
    found = term(Step(network, output, batch, None, 0))
    main = cross_entropy(output["scores"], batch.labels, None)
    each = {MAIN: main, **task_losses(TASKS, output, batch)}
    total = sum(weights[name] * float(loss.detach()) for name, loss in each.items())
    assert float((main + sum(found.values())).detach()) == pytest.approx(total, rel=1e-5)


def trained(folder: Path, weighting: str, steps: int) -> dict[str, Any]:
    """All that is learned and noted after some of 8 steps; goes on where the folder's last checkpoint was."""
    import lightning
    from training_toy import Patches

    from geoseg.training.data.check_windows import Loaders, check_loader
    from geoseg.training.data.loaders import Preparation, training_loader
    from geoseg.training.data.samplers import AreaSampler
    from geoseg.training.loop import Watching, fit
    from geoseg.training.module import Descent, TrainingModule
    from geoseg.training.training_plan import LearningRates, LoopSettings
    from geoseg.windows import Window

    torch.manual_seed(0)
    torch.set_num_threads(1)
    base = build_network(NetworkConfig("unet", ENCODER, 1, 2, {"encoder_depth": 3, "decoder_channels": [8, 8, 8]}))
    tasks: tuple[Task, ...] = (Boundary(), Distance(truncate=4), SceneClasses(2))
    network = MultiTaskNetwork(base, [task.head for task in tasks])
    sources = [Patches(f"scene {k}", k) for k in range(2)]
    preparation = Preparation(mean=(100.0,), stddev=(50.0,), size=32)
    kinds = kinds_of(tasks)
    balance = DynamicWeights(tuple(kinds), period=3) if weighting == "dynamic" else make_weighting(weighting, kinds)
    module = TrainingModule(
        network,
        inference_form(network),
        classes=2,
        sigmoid=False,
        loss=cross_entropy,
        descent=Descent([{"params": list(network.parameters()), "factor": 1.0}], LearningRates(1e-3, 8), 0.01),
        terms=[MultiTask(tasks, balance, cross_entropy)],
    )
    loader = training_loader(sources, AreaSampler(sources, 32, 7, 2), preparation, batches=4, size=4)
    checks = check_loader(sources, [(1, Window.of((96, 64)))], preparation, context=8, stride=8)
    kept: dict[str, Any] = {}

    class Keep(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            kept.update({name: value.clone() for name, value in pl_module.state_dict().items()})
            kept["steps"] = torch.tensor(trainer.global_step)

    fit(
        module,
        Loaders({"labelled": loader}, checks),
        folder,
        LoopSettings(steps=steps, epoch=4, seed=7, average=0.9, clip=1.0, device="cpu"),
        Watching([Keep()], progress=False),
    )
    return kept


@pytest.mark.parametrize("weighting", ["dynamic", "uncertainty"])
def test_a_resumed_training_goes_on_exactly(tmp_path: Path, weighting: str) -> None:
    whole = trained(tmp_path / "whole", weighting, 8)
    trained(tmp_path / "parts", weighting, 4)
    parts = trained(tmp_path / "parts", weighting, 8)
    assert whole.keys() == parts.keys()
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    assert whole["steps"] == 8
    assert any(value.any() for name, value in whole.items() if "weighting" in name)
