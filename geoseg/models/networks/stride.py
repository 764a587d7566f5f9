"""The total downsampling of a network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["stride_of"]


def stride_of(network: torch.nn.Module) -> int:
    """The network's total downsampling: inputs are to be multiples of it."""
    own = getattr(network, "stride", None)
    if isinstance(own, int):
        return own
    stride = getattr(getattr(network, "encoder", None), "output_stride", None)
    stride = int(stride) if isinstance(stride, int) else 32
    # Decoders that go further down than their encoder.
    kind = type(network).__name__
    if kind == "PAN":
        return 8 * stride
    return math.lcm(stride, 32) if kind == "DPT" else stride
