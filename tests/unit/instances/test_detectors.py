"""Detectors: what they learn from, how their masks are pasted, and that they train and run."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from geoseg.codes import UNLABELLED  # noqa: E402
from geoseg.errors import ModelError  # noqa: E402
from geoseg.models.card import Card  # noqa: E402
from geoseg.models.card_values import InstanceFacts  # noqa: E402
from geoseg.models.networks.build import build_network  # noqa: E402
from geoseg.models.networks.config import DETECTOR_NAMES, NetworkConfig  # noqa: E402
from geoseg.models.networks.deploy import inference_form  # noqa: E402
from geoseg.models.networks.detector_parameters import anchor_sizes  # noqa: E402
from geoseg.models.networks.pasting import pasted  # noqa: E402
from geoseg.training.data.chips import Batch  # noqa: E402
from geoseg.training.detection import targets_of  # noqa: E402

SMALL = {"width": 32, "hidden": 64, "regions": 32, "proposals": 100, "detections": 20, "anchors": [8, 12, 16, 24, 32]}


def discs(count: int, side: int, seed: int) -> tuple[torch.Tensor, Batch]:
    """Bright discs on dark ground, and their labels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    objects = np.zeros((count, side, side), np.int32)
    for k in range(count):
        for number in range(1, 4):
            row, col, radius = [*rng.integers(10, side - 10, 2).tolist(), rng.integers(5, 9)]
            disc = (y - row) ** 2 + (x - col) ** 2 < radius**2
            if not objects[k][disc].any():
                objects[k][disc] = number
    labels = (objects > 0).astype(np.int64)
    noise = rng.normal(0, 0.1, (count, 2, side, side))
    image = torch.from_numpy((labels[:, None] * 2.0 - 1 + noise).astype(np.float32))
    return image, Batch(image, torch.from_numpy(labels), objects=torch.from_numpy(objects))


def test_masks_are_pasted_along_pixel_edges() -> None:
    # A mask whose cells are the pixels of its box comes back as it is.
    mask = (torch.rand(1, 8, 12, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    boxes = torch.tensor([[3.0, 5.0, 15.0, 13.0]])
    for interpolation in ("nearest", "bilinear"):
        labels, probability = pasted(boxes, mask, torch.ones(1), (20, 24), interpolation=interpolation)
        assert torch.equal(labels[5:13, 3:15] > 0, mask[0] > 0)
        assert int((labels > 0).sum()) == int(mask.sum())
        assert (probability[labels > 0] >= 0.5).all()
    # A box alone is filled; what leaves the raster is cut; the surer object lies over the other.
    boxes = torch.tensor([[-4.0, -4.0, 10.0, 10.0], [6.2, 6.4, 30.0, 30.0]])
    labels, _ = pasted(boxes, None, torch.tensor([0.6, 0.9]), (20, 20))
    assert (labels[:6, :6] == 1).all()
    assert (labels[6:, 6:] == 2).all()
    assert int((labels == 2).sum()) == 14 * 14


def test_targets_are_boxes_along_pixel_edges() -> None:
    from torchvision.ops import masks_to_boxes

    _, batch = discs(2, 64, 3)
    assert batch.objects is not None
    batch.labels[0, :8] = UNLABELLED
    batch.labels[batch.objects == 2] = 2
    batch.objects[1, 0, 0] = 9
    batch.labels[1, 0, 0] = 1
    for target, objects, labels in zip(targets_of(batch, [1, 2], least=2), batch.objects, batch.labels, strict=True):
        numbers = [n for n in objects.unique().tolist() if n not in (0, 9)]
        assert torch.equal(target["masks"].bool(), torch.stack([objects == n for n in numbers]))
        boxes = masks_to_boxes(target["masks"])
        assert torch.equal(target["boxes"], boxes + torch.tensor([0.0, 0.0, 1.0, 1.0]))
        assert target["labels"].tolist() == [2 if n == 2 else 1 for n in numbers]
        assert torch.equal(target["ignore"], (labels == UNLABELLED) | (objects == 9))


def test_anchors_follow_the_objects() -> None:
    sizes = anchor_sizes(range(10, 110), 5)
    assert sizes[0] == pytest.approx(15, abs=1)
    assert sizes[-1] == pytest.approx(104, abs=1)
    assert list(sizes) == sorted(sizes)
    with pytest.raises(ModelError, match="anchors"):
        build_network(NetworkConfig("mask-rcnn", "resnet18", 2, 2, {"anchors": [8, 16]}))
    with pytest.raises(ModelError, match=r"parameters\.nms_threshold"):
        build_network(NetworkConfig("mask-rcnn", "resnet18", 2, 2, {"nms_threshold": 0.5}))


ENCODERS = {"mask-rcnn": "resnet18", "mask-rcnn-v2": "tu-mobilenetv3_small_100", "faster-rcnn": "resnet18"}


@pytest.mark.parametrize("architecture", DETECTOR_NAMES)
def test_detectors_train_and_paint(architecture: str) -> None:
    torch.manual_seed(0)
    image, batch = discs(2, 64, 1)
    network = build_network(NetworkConfig(architecture, ENCODERS[architecture], 2, 2, SMALL))
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    losses = []
    for _ in range(8):
        found = network(image, targets_of(batch, [1]))
        total = sum(found.values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(float(total.detach()))
    assert {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"} <= found.keys()
    assert ("loss_mask" in found) == architecture.startswith("mask")
    assert np.mean(losses[-3:]) < 0.8 * losses[0]
    form = inference_form(network.eval())
    with torch.no_grad():
        channels = form(image)
    assert channels.shape == (2, 5, 64, 64)
    numbers = channels[:, 2]
    assert torch.equal(channels[:, :2].argmax(1) > 0, numbers > 0)
    assert (channels[:, 4][numbers > 0] > 0).all()


def test_larger_images_may_hold_more_objects() -> None:
    torch.manual_seed(0)
    parameters = SMALL | {"score": 0.0, "detections": 6, "nms": 0.9}
    network = build_network(NetworkConfig("faster-rcnn", "resnet18", 2, 2, parameters)).eval()
    with torch.no_grad():
        counts = [len(network(torch.rand(1, 2, side, side))[0]["boxes"]) for side in (128, 256, 512)]
    assert counts == [6, 6, 24]


def test_areas_to_ignore_give_no_background() -> None:
    torch.manual_seed(0)
    _, batch = discs(1, 96, 2)
    network = build_network(NetworkConfig("mask-rcnn", "resnet18", 2, 2, SMALL))
    target = targets_of(batch, [1])
    rpn = network.network.rpn
    anchors = [torch.tensor([[0.0, 0.0, 16.0, 16.0], [80.0, 80.0, 96.0, 96.0], [40.0, 40.0, 60.0, 58.0]])]
    target[0]["ignore"] = torch.zeros(96, 96, dtype=torch.bool)
    target[0]["ignore"][:12, :16] = True
    target[0]["boxes"] = torch.tensor([[40.0, 40.0, 60.0, 60.0]])
    labels, _ = rpn.assign_targets_to_anchors(anchors, target)
    assert labels[0].tolist() == [-1.0, 0.0, 1.0]


def test_cards_know_the_channels() -> None:
    facts = {
        "name": "a",
        "description": "a",
        "license": "MIT",
        "architecture": "a",
        "bands": ["gray"],
        "scaling": [{"mean": 0, "stddev": 1}],
        "classes": [
            {"value": 0, "name": "ground", "color": "#000000", "background": True},
            {"value": 1, "name": "roof", "color": "#ffffff"},
        ],
        "stride": 32,
        "global_context": True,
    }
    for kind, channels in (("watershed", 4), ("regions", 5)):
        card = Card.model_validate({**facts, "instances": InstanceFacts(kind=kind, largest_px=50)})
        assert card.channels == channels
        assert card.object_classes == (1,)
        assert "instance-segmentation" in card.to_json()["mlm:tasks"]
    assert Card.model_validate(facts).channels == 2
