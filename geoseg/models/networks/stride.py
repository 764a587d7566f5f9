"""The total downsampling of a network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from geoseg.models.shifted_windows import window_phase

if TYPE_CHECKING:
    import torch

__all__ = ["stride_of"]

LEAST = 32
"""Total downsampling of most encoders."""


def stride_of(network: torch.nn.Module) -> int:
    """The network's total downsampling: inputs are to be multiples of it.

    Of one with windows it is the distance at which these lie alike.
    """
    own = getattr(network, "stride", None)
    if isinstance(own, int):
        return own
    phase = window_phase(network)
    if phase is not None:
        return math.lcm(phase, LEAST)
    stride = getattr(getattr(network, "encoder", None), "output_stride", None)
    stride = int(stride) if isinstance(stride, int) else LEAST
    # Decoders that go further down than their encoder.
    kind = type(network).__name__
    if kind == "PAN":
        return 8 * stride
    return math.lcm(stride, LEAST) if kind == "DPT" else stride
