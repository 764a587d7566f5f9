"""Detectors of torchvision by name: Faster R-CNN and Mask R-CNN. The only home of torchvision's detection models.

Ren et al. 2015, "Faster R-CNN", arXiv:1506.01497; He et al. 2017, "Mask R-CNN", arXiv:1703.06870; Lin et al. 2017, "Feature
Pyramid Networks", arXiv:1612.03144; Li et al. 2021, "Benchmarking Detection Transfer Learning with Vision Transformers",
arXiv:2111.11429, for the second version of the heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch uses
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from geoseg.errors import ModelError
from geoseg.models.networks.config import DETECTOR_NAMES
from geoseg.models.networks.detector_parameters import LEVELS, DetectorParameters
from geoseg.models.networks.pasting import pasted

__all__ = ["ObjectDetector", "build_detector"]

STRIDE = 32
IGNORED = 0.5
"""Share of a box from which on it is masked."""
LIMITS_PX = 256 * 256
"""Area that the numbers of proposals and of objects hold for; larger images may have as many more."""
SURE, LEAST_LOGIT = 10.0, 1e-3
"""Score against classes that are not there, and the least one for a class that is."""


class _AsItIs(nn.Module):
    """In the place of torchvision's transform: images are normalized already, keep their size, and masks are not pasted."""

    def forward(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[ImageList, list[dict[str, Tensor]] | None]:
        """Batch images of one size."""
        sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
        return ImageList(torch.stack(list(images)), sizes), targets

    def postprocess(self, result: list[dict[str, Tensor]], *sizes: Any) -> list[dict[str, Tensor]]:
        """Leave all as it is."""
        del sizes
        return result


class ObjectDetector(nn.Module):
    """Faster or Mask R-CNN on normalized images of a multiple of ``stride`` pixels.

    Where targets have a mask ``ignore`` (H, W), what mostly lies in it is no example of background.

    In training it gives a mapping of losses; else, for each image, a mapping of ``boxes`` (M, 4) as left, top, right, bottom
    in pixels, ``labels`` (M,) from 1, ``scores`` (M,), and ``masks`` (M, 1, m, m): probabilities over the boxes.
    """

    stride = STRIDE

    def __init__(self, encoder: nn.Module, network: FasterRCNN, classes: int) -> None:
        super().__init__()
        network.transform = _AsItIs()
        network.rpn.__class__ = _Proposals
        network.roi_heads.__class__ = _Heads
        # The pyramid uses it, but it is registered here: its parameters are known by this name.
        self.encoder = encoder
        self.network = network
        self.classes = classes
        self._detections: int = network.roi_heads.detections_per_img

    @property
    def has_masks(self) -> bool:
        """Whether objects have masks, or boxes alone."""
        return bool(self.network.roi_heads.has_mask())

    def forward(self, image: Tensor, targets: list[dict[str, Tensor]] | None = None) -> Any:
        """Losses in training, objects else."""
        if not self.training:
            # A tile of four times the area holds four times the objects: what is found must not depend on how a scene is cut.
            share = max(1.0, image.shape[-2] * image.shape[-1] / LIMITS_PX)
            self.network.rpn.propose(share)
            self.network.roi_heads.detections_per_img = round(share * self._detections)
        return self.network(list(image), targets)

    def inference_form(self) -> nn.Module:
        """The form that gives rasters, in the same mode; it shares the parameters."""
        return PaintedObjects(self)


class PaintedObjects(nn.Module):
    """A detector whose objects are painted into rasters.

    Maps (N, C, H, W) to (N, K + 3, H, W): scores of the background and of the K - 1 classes of objects, the number of the
    object from 1 (0 for none), the probability of its mask, and how sure the detector is of it.
    """

    stride = STRIDE

    def __init__(self, detector: ObjectDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image: Tensor) -> Tensor:
        """All channels, in 32 bits."""
        size = int(image.shape[-2]), int(image.shape[-1])
        return torch.stack([self._painted(found, size) for found in self.detector(image)])

    def _painted(self, found: Mapping[str, Tensor], size: tuple[int, int]) -> Tensor:
        masks = found["masks"][:, 0] if "masks" in found else None
        numbers, probability = pasted(found["boxes"].float(), masks, found["scores"].float(), size)
        scores = probability.new_full((self.detector.classes + 1, *size), -SURE)
        scores[0] = 0
        labels = torch.cat([found["labels"].new_zeros(1), found["labels"]])[numbers.long()]
        logit = torch.logit(probability.clamp(0.5, 1), eps=1e-6) + LEAST_LOGIT
        scores.scatter_(0, labels[None], torch.where(labels > 0, logit, 0.0)[None])
        sure = torch.cat([found["scores"].new_zeros(1), found["scores"]])[numbers.long()]
        return torch.cat([scores, numbers[None].float(), probability[None], sure[None].float()])


def _mostly_ignored(boxes: Tensor, ignore: Tensor | None) -> Tensor:
    """Which boxes (M, 4) are mostly masked."""
    if ignore is None or not bool(ignore.any()):
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    height, width = ignore.shape
    sums = F.pad(ignore.to(boxes.device, torch.float64).cumsum(0).cumsum(1), (1, 0, 1, 0))
    left, right = (boxes[:, k].round().long().clamp(0, width) for k in (0, 2))
    top, bottom = (boxes[:, k].round().long().clamp(0, height) for k in (1, 3))
    hidden = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return hidden >= IGNORED * ((bottom - top) * (right - left)).clamp(min=1)


class _Proposals(RegionProposalNetwork):  # type: ignore[misc]  # torchvision is not typed
    """A region proposal network that takes no example of background from masked areas."""

    def propose(self, share: float) -> None:
        """Outside of training, keep so many times the proposals of training."""
        for limits in (self._pre_nms_top_n, self._post_nms_top_n):
            limits["testing"] = round(share * limits["training"])

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Assign as torchvision does, but leave out background that is mostly masked."""
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        for label, anchor, target in zip(labels, anchors, targets, strict=True):
            label[(label == 0) & _mostly_ignored(anchor, target.get("ignore"))] = -1
        return labels, boxes


class _Heads(RoIHeads):  # type: ignore[misc]  # torchvision is not typed
    """Heads that take no example of background from masked areas."""

    def select_training_samples(self, proposals: Any, targets: Any) -> Any:
        """Select as torchvision does, but leave out proposals that are mostly masked unless they are objects."""
        if targets is not None:
            proposals = [
                boxes[~_mostly_ignored(boxes, target.get("ignore"))] for boxes, target in zip(proposals, targets, strict=True)
            ]
        # The objects themselves are added after this.
        return super().select_training_samples(proposals, targets)


class PyramidBackbone(nn.Module):
    """An encoder with a feature pyramid; maps (N, C, H, W) to five levels of equally many channels."""

    def __init__(self, encoder: nn.Module, channels: Sequence[int], width: int, *, norm: bool) -> None:
        super().__init__()
        self._encoder = (encoder,)
        self.fpn = FeaturePyramidNetwork(list(channels), width, LastLevelMaxPool(), nn.BatchNorm2d if norm else None)
        self.out_channels = width
        self._taken = len(channels)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Features by level, from fine to coarse."""
        features = self._encoder[0](image)[-self._taken :]
        levels: dict[str, Tensor] = self.fpn({str(k): x for k, x in enumerate(features)})
        return levels


def build_detector(
    architecture: str, encoder: nn.Module, channels: Sequence[int], classes: int, parameters: Mapping[str, Any]
) -> ObjectDetector:
    """Build a detector with random weights but for those of its encoder.

    Args:
        architecture: One of ``DETECTOR_NAMES``.
        encoder: Gives features of strides up to 32, the last four of which are taken.
        channels: Channels of these four.
        classes: Number of classes of objects.
        parameters: See ``DetectorParameters``.

    Raises:
        ModelError: The architecture or a parameter is not known, or does not fit.
    """
    if architecture not in DETECTOR_NAMES:
        raise ModelError(f"architecture: {architecture!r} is no detector; choose one of {', '.join(DETECTOR_NAMES)}")
    given = DetectorParameters.of(parameters)
    if len(given.anchors) != LEVELS:
        raise ModelError(f"network.parameters.anchors: {len(given.anchors)} sides; there are {LEVELS} levels")
    if given.mask % 2:
        raise ModelError(f"network.parameters.mask: {given.mask} is not even; the mask head doubles what RoIAlign takes")
    second = architecture.endswith("-v2")
    norm = nn.BatchNorm2d if second else None
    body = PyramidBackbone(encoder, channels, given.width, norm=second)
    anchors = AnchorGenerator(tuple((side,) for side in given.anchors), (given.ratios,) * LEVELS)
    names = [str(k) for k in range(LEVELS - 1)]
    known: dict[str, Any] = {
        "rpn_anchor_generator": anchors,
        "rpn_head": RPNHead(given.width, anchors.num_anchors_per_location()[0], conv_depth=2 if second else 1),
        "rpn_pre_nms_top_n_train": given.candidates,
        "rpn_pre_nms_top_n_test": given.candidates,
        "rpn_post_nms_top_n_train": given.proposals,
        "rpn_post_nms_top_n_test": given.proposals,
        "rpn_nms_thresh": given.proposal_nms,
        "box_batch_size_per_image": given.regions,
        "box_detections_per_img": given.detections,
        "box_score_thresh": given.score,
        "box_nms_thresh": given.nms,
        "box_roi_pool": MultiScaleRoIAlign(names, 7, 2),
        "box_head": (
            FastRCNNConvFCHead((given.width, 7, 7), [given.width] * 4, [given.hidden], norm)
            if second
            else TwoMLPHead(given.width * 49, given.hidden)
        ),
        "box_predictor": FastRCNNPredictor(given.hidden, classes + 1),
    }
    if architecture == "faster-rcnn":
        return ObjectDetector(encoder, FasterRCNN(body, None, **known), classes)
    known |= {
        "mask_roi_pool": MultiScaleRoIAlign(names, given.mask // 2, 2),
        "mask_head": MaskRCNNHeads(given.width, [given.width] * 4, 1, norm),
        "mask_predictor": MaskRCNNPredictor(given.width, given.width, classes + 1),
    }
    return ObjectDetector(encoder, MaskRCNN(body, None, **known), classes)
