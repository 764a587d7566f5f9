"""Detectors of torchvision by their weights: the same objects as torchvision's own finds."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import detection
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from geoseg.adoption.detector_states import detector_network
from geoseg.adoption.from_weights import adopt_detector
from geoseg.adoption.network_facts import Told
from geoseg.adoption.originals import noise
from geoseg.errors import ConfigError, ModelError

CLASSES = 3
TOLD = Told(classes=("background", "tree", "car"), gsd=0.1)
PLAIN = {"min_size": 256, "max_size": 256, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}


def original(eps: float, kind: type) -> torch.nn.Module:
    """A detector with frozen normalization of small variances, on which it matters what is added to them."""
    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=partial(FrozenBatchNorm2d, eps=eps))
    made = kind(backbone, CLASSES, **PLAIN).eval()
    for key, value in made.state_dict().items():
        if key.endswith("running_var"):
            value.fill_(1e-2)
            made.state_dict()[key.replace("running_var", "weight")].fill_(0.1)
    return made


@pytest.mark.parametrize(("kind", "eps"), [(detection.FasterRCNN, 1e-3), (detection.MaskRCNN, 0.0)])
def test_objects_are_those_of_torchvision(tmp_path: Path, kind: type, eps: float) -> None:
    network = original(eps, kind)
    path = tmp_path / "w.safetensors"
    save_file(network.state_dict(), path)
    config, ours = detector_network(path, network.state_dict(), eps)
    assert config.title == ("faster-rcnn/resnet18" if kind is detection.FasterRCNN else "mask-rcnn/resnet18")
    image = torch.from_numpy(noise(3, (256, 256)))
    with torch.inference_mode():
        found, wanted = ours(image)[0], network(list(image))[0]
    assert len(wanted["scores"]) > 10
    np.testing.assert_allclose(found["scores"], wanted["scores"], atol=1e-5)
    np.testing.assert_allclose(found["boxes"], wanted["boxes"], atol=1e-2)
    np.testing.assert_array_equal(found["labels"], wanted["labels"])
    # What is added to variances is seen in the scores.
    _, others = detector_network(path, network.state_dict(), 5e-3)
    with torch.inference_mode():
        other = others(image)[0]["scores"]
    assert len(other) != len(wanted["scores"]) or float((other - wanted["scores"]).abs().max()) > 1e-3


def test_what_weights_do_not_tell_is_asked_for(tmp_path: Path) -> None:
    network = original(0.0, detection.MaskRCNN)
    path = tmp_path / "w.safetensors"
    save_file(network.state_dict(), path)
    with pytest.raises(ConfigError, match="norm_eps=0 where it was trained from torchvision's weights of COCO"):
        adopt_detector(path, TOLD, tmp_path, "trees", largest_px=100, eps=None)
    with pytest.raises(ConfigError, match="largest_object=200"):
        adopt_detector(path, TOLD, tmp_path, "trees", largest_px=None, eps=0)
    made = adopt_detector(path, TOLD, tmp_path, "trees", largest_px=100, eps=0)
    card = made.model.card
    assert card.instances is not None
    assert (card.instances.kind, card.instances.largest_px, card.object_classes) == ("regions", 100, (1, 2))
    assert card.scaling[0].mean == pytest.approx(123.675)
    assert made.difference is not None
    assert made.difference([noise(3, (300, 200))]) < 1e-4
    # Another network finds others.
    state = {key: value for key, value in network.state_dict().items() if not key.startswith("backbone.body.layer3")}
    with pytest.raises(ModelError, match="no ResNet"):
        detector_network(path, state, 0)
