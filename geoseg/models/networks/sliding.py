"""Scores of every window of an image in other ways than densely, and what each way costs."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from geoseg.models.networks.ciresan import PatchClassifier

__all__ = ["Redundancy", "measure_redundancy", "shift_and_stitch", "slide"]


@torch.inference_mode()
def slide(network: PatchClassifier, image: Tensor, *, batch: int = 256) -> Tensor:
    """Scores (N, K, H, W) of an image (N, C, H, W), window by window: as the network was trained, and as slow as can be.

    Args:
        network: The patch classifier, in evaluation mode.
        image: The image; windows that reach past it see its edge repeated.
        batch: Windows at a time.
    """
    count, _, height, width = image.shape
    windows = _padded(network, image).unfold(2, network.patch, 1).unfold(3, network.patch, 1).permute(0, 2, 3, 1, 4, 5)
    places = torch.cartesian_prod(torch.arange(count), torch.arange(height), torch.arange(width))
    scores = torch.cat([network(windows[part[:, 0], part[:, 1], part[:, 2]]) for part in torch.split(places, batch)])
    return scores.view(count, height, width, -1).permute(0, 3, 1, 2)


@torch.inference_mode()
def shift_and_stitch(network: PatchClassifier, image: Tensor) -> Tensor:
    """Scores (N, K, H, W) of an image (N, C, H, W): coarse scores of the image shifted by every phase, interleaved.

    The reading of Sermanet et al. 2014 (arXiv:1312.6229) and Long et al. 2015 (arXiv:1411.4038): ``step ** 2`` passes.

    Args:
        network: The patch classifier, in evaluation mode.
        image: The image; windows that reach past it see its edge repeated.
    """
    padded = _padded(network, image)
    step, (height, width) = network.step, image.shape[-2:]
    scores: Tensor | None = None
    for row in range(min(step, height)):
        for col in range(min(step, width)):
            part = network.coarse(padded[..., row:, col:])
            if scores is None:
                scores = part.new_empty(*part.shape[:2], height, width)
            scores[..., row::step, col::step] = part
    assert scores is not None
    return scores


@dataclass(frozen=True, slots=True)
class Redundancy:
    """Multiplications with an addition (MACs) for the scores of one pixel, by the way in which they are computed."""

    window: float
    """A pass for every window."""
    stitched: float
    """Shift-and-stitch over a whole image."""
    dense: float
    """One dense pass over a whole image."""

    @property
    def factor(self) -> float:
        """Number of times that the same is computed by window after window."""
        return self.window / self.dense


def measure_redundancy(network: PatchClassifier, side: int = 512) -> Redundancy:
    """Count the MACs a pixel of convolutions and fully connected layers, on an image of ``side`` x ``side`` pixels.

    Nothing is computed: the layers run on shapes alone.
    """
    shapes = deepcopy(network).to("meta").eval()
    bands = network.encoder[0].in_channels
    assert isinstance(bands, int)
    image = torch.empty(1, bands, side, side, device="meta")
    window = torch.empty(1, bands, network.patch, network.patch, device="meta")
    counts = []
    for run, given in ((shapes, window), (shapes.inference_form(), image)):
        with FlopCounterMode(display=False) as counter:
            run(given)
        counts.append(counter.get_total_flops() / 2)
    with FlopCounterMode(display=False) as counter:
        shift_and_stitch(shapes, image)
    return Redundancy(counts[0], counter.get_total_flops() / 2 / side**2, counts[1] / side**2)


def _padded(network: PatchClassifier, image: Tensor) -> Tensor:
    margin = network.margin
    return F.pad(image, (margin, margin, margin, margin), mode="replicate")
