"""Weights of torchvision's detectors: Faster and Mask R-CNN on a ResNet with a feature pyramid, by the names that they have.

They run without torchvision's transform: pixels keep their size, and are normalized by the card.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geoseg.adoption.hub_config import IMAGENET_MEAN, IMAGENET_STD
from geoseg.adoption.network_facts import EIGHT_BITS, Told
from geoseg.arrays import F32
from geoseg.dialect import setting
from geoseg.errors import ConfigError, ModelError
from geoseg.models.networks.build import build_network
from geoseg.models.networks.config import NetworkConfig

if TYPE_CHECKING:
    import torch

__all__ = ["detector_facts", "detector_network", "is_detector", "torchvision_difference"]

BODY, FIRST_CONVOLUTION = "backbone.body.", "backbone.body.conv1.weight"
CLASSES, MASKS = "roi_heads.box_predictor.cls_score.weight", "roi_heads.mask_predictor."
SECOND = "roi_heads.box_head.0.0.weight"
"""Second versions have convolutions in their heads."""
ENCODERS = {
    (2, False): "resnet18",
    (6, False): "resnet34",
    (6, True): "resnet50",
    (23, True): "resnet101",
    (36, True): "resnet152",
}
"""By the blocks of the third stage, and whether blocks have three convolutions."""
OF_TORCHVISION = {"candidates": 1000, "proposals": 1000, "detections": 100, "score": 0.05, "nms": 0.5}
"""What torchvision takes when it looks for objects; numbers are of 256 x 256 px here."""
OWN_EPS = 1e-5
"""What normalization adds to variances here."""
SIDE = 256
NEAR_PX = 1.0
"""Boxes that lie further off are others."""


def is_detector(state: Mapping[str, torch.Tensor]) -> bool:
    """Whether these are weights of one."""
    return CLASSES in state and FIRST_CONVOLUTION in state


def detector_facts(bands: int) -> Told:
    """What torchvision's detectors do unless they are told otherwise."""
    usual = bands == len(IMAGENET_MEAN)
    return Told(
        bands=("red", "green", "blue") if usual else None,
        scale=EIGHT_BITS if usual else None,
        mean=IMAGENET_MEAN if usual else None,
        std=IMAGENET_STD if usual else None,
        activation="softmax",
    )


def detector_network(path: Path, state: Mapping[str, torch.Tensor], eps: float | None) -> tuple[NetworkConfig, torch.nn.Module]:
    """The detector that weights are those of, with them.

    Args:
        path: Of the weights, for messages.
        state: Them.
        eps: What frozen normalization adds to variances, which weights do not tell.

    Raises:
        ModelError: It is no detector that is known.
        ConfigError: ``eps`` is needed and not given.
    """
    import torch

    config = _config(path, state)
    own = {("encoder." + key.removeprefix(BODY) if key.startswith(BODY) else "network." + key): v for key, v in state.items()}
    if _is_frozen(state):
        if eps is None:
            raise ConfigError(
                f"{path}: its backbone has frozen normalization, and weights do not tell what it adds to variances; give "
                f"{setting('norm_eps', '0')} where it was trained from torchvision's weights of COCO, "
                f"{setting('norm_eps', '1e-5')} otherwise"
            )
        for key in [key for key in own if key.startswith("encoder.") and key.endswith(".running_var")]:
            own[key] = own[key] + (eps - OWN_EPS)
            own[key.replace("running_var", "num_batches_tracked")] = torch.zeros((), dtype=torch.int64)
    network = build_network(config)
    try:
        network.load_state_dict(own, strict=True)
    except RuntimeError as error:
        raise ModelError(f"{path}: are not the weights of {config.title}: {' '.join(str(error).split())[:200]}") from error
    return config, network.eval()


def _is_frozen(state: Mapping[str, torch.Tensor]) -> bool:
    return not any(key.startswith(BODY) and key.endswith(".num_batches_tracked") for key in state)


def _config(path: Path, state: Mapping[str, torch.Tensor]) -> NetworkConfig:
    blocks = len({key.split(".")[3] for key in state if key.startswith(f"{BODY}layer3.")})
    encoder = ENCODERS.get((blocks, f"{BODY}layer1.0.conv3.weight" in state))
    masks, second = any(key.startswith(MASKS) for key in state), SECOND in state
    if encoder is None or (second and not masks):
        what = "a backbone that is no ResNet" if encoder is None else "the second version of Faster R-CNN"
        raise ModelError(
            f"{path}: {what}; Faster R-CNN is run, and Mask R-CNN of both versions, on ResNets with feature pyramids"
        )
    name = "faster-rcnn" if not masks else "mask-rcnn-v2" if second else "mask-rcnn"
    return NetworkConfig(name, encoder, int(state[FIRST_CONVOLUTION].shape[1]), int(state[CLASSES].shape[0]), OF_TORCHVISION)


def torchvision_difference(
    config: NetworkConfig, state: Mapping[str, torch.Tensor], network: torch.nn.Module, eps: float | None, images: Iterable[F32]
) -> float:
    """How far scores of objects are off those of torchvision's own detector; 1 where it finds others.

    Args:
        config: The detector.
        state: Its weights.
        network: The one that was adopted.
        eps: What frozen normalization adds to variances.
        images: Normalized (1, C, h, w); of each the upper left part of ``SIDE`` pixels is taken, repeated where it is too small.
    """
    import torch

    original, worst = _original(config, state, eps), 0.0
    for image in images:
        rows, cols = (np.arange(SIDE) % image.shape[axis] for axis in (2, 3))
        part = torch.from_numpy(np.ascontiguousarray(image[:, :, rows][:, :, :, cols]))
        with torch.inference_mode():
            ours, theirs = network.eval()(part)[0], original(list(part))[0]
        if len(ours["scores"]) != len(theirs["scores"]):
            return 1.0
        if len(ours["scores"]):
            off = float((ours["boxes"] - theirs["boxes"]).abs().max())
            worst = max(worst, 1.0 if off > NEAR_PX else float((ours["scores"] - theirs["scores"]).abs().max()))
    return worst


def _original(config: NetworkConfig, state: Mapping[str, torch.Tensor], eps: float | None) -> torch.nn.Module:
    """Torchvision's detector with these weights, on images that are normalized and keep their size."""
    from torch import nn
    from torchvision.models import detection
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops import FrozenBatchNorm2d

    as_it_is: dict[str, Any] = {
        "min_size": SIDE,
        "max_size": SIDE,
        "image_mean": [0.0] * config.in_channels,
        "image_std": [1.0] * config.in_channels,
    }
    if config.architecture == "mask-rcnn-v2":
        made = detection.maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=config.classes, **as_it_is)
    else:
        layer = partial(FrozenBatchNorm2d, eps=eps) if _is_frozen(state) else nn.BatchNorm2d
        backbone = resnet_fpn_backbone(backbone_name=config.encoder, weights=None, norm_layer=layer)
        if config.in_channels != len(IMAGENET_MEAN):
            backbone.body.conv1 = nn.Conv2d(config.in_channels, 64, 7, 2, 3, bias=False)
        kind = detection.FasterRCNN if config.architecture == "faster-rcnn" else detection.MaskRCNN
        made = kind(backbone, config.classes, **as_it_is)
    made.load_state_dict(dict(state), strict=True)
    network: nn.Module = made.eval()
    return network
