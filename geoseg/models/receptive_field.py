"""How far a network sees, measured by what a NaN reaches.

A NaN in the input spreads to every output that reads it, whatever the weights: zero times NaN is NaN, and so are sums,
maxima and activations of it. This gives the structural receptive field. (Theoretical fields add up kernels and strides,
Araujo et al. 2019, doi:10.23915/distill.00021, but need the network's graph; gradients miss what a maximum or a ReLU hides.)
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from geoseg.models.card import ReceptiveField

if TYPE_CHECKING:
    import torch

__all__ = ["measure_receptive_field"]

LARGEST = 8192


def measure_receptive_field(network: torch.nn.Module, in_channels: int, stride: int) -> ReceptiveField | None:
    """Measure the receptive field to each side, in pixels; None for a network with global context.

    ``network`` maps (N, in_channels, H, W) to (N, K, H, W) for H and W multiples of ``stride``. The field depends on a
    pixel's place in the stride; the largest of all places is returned.
    """
    import torch

    was_training = network.training
    network.eval()
    try:
        # oneDNN may choose Winograd convolutions, which carry a NaN across a whole tile of the transform.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with torch.inference_mode(), torch.backends.mkldnn.flags(enabled=False):
                top_bottom = _along_rows(network, in_channels, stride, transpose=False)
                left_right = _along_rows(network, in_channels, stride, transpose=True)
    except (RuntimeError, ValueError):
        # Networks that take one input size only see all of it.
        return None
    finally:
        network.train(was_training)
    if top_bottom is None or left_right is None:
        return None
    return ReceptiveField(left=left_right[0], right=left_right[1], top=top_bottom[0], bottom=top_bottom[1])


def _along_rows(network: torch.nn.Module, in_channels: int, stride: int, *, transpose: bool) -> tuple[int, int] | None:
    """How far an output pixel sees towards smaller and larger indices; None where it sees everything."""
    import torch

    narrow = max(stride, 32)
    length = 16 * stride
    while length <= LARGEST:
        before = after = 0
        complete = True
        for phase in range(stride):
            source = length // 2 // stride * stride + phase
            image = torch.zeros(1, in_channels, length, narrow)
            image[:, :, source, :] = float("nan")
            scores = network(image.transpose(2, 3).contiguous() if transpose else image)
            scores = scores.transpose(2, 3) if transpose else scores
            reached = torch.isnan(scores).any(dim=1).any(dim=2)[0].nonzero()[:, 0]
            if reached.numel() == 0:
                continue
            first, last = int(reached[0]), int(reached[-1])
            if first == 0 or last == length - 1:
                complete = False
                break
            # The output at `first` sees `source` after it; the output at `last` sees it before.
            after, before = max(after, source - first), max(before, last - source)
        if complete:
            return before, after
        length *= 2
    return None
