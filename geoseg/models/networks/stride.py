"""The total downsampling of a network."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from geoseg.errors import ModelError
from geoseg.models.networks.config import TORCHVISION, NetworkConfig
from geoseg.models.shifted_windows import window_phase

if TYPE_CHECKING:
    import torch

__all__ = ["refuse_one_size", "stride_of"]

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


def refuse_one_size(network: torch.nn.Module, config: NetworkConfig) -> None:
    """Refuse a network on an encoder of timm that takes images of one size, before anything is learned.

    Raises:
        ModelError: It fails on one of two small images.
    """
    import torch

    if not config.encoder.startswith("tu-") or config.library == TORCHVISION:
        return
    modes = {module: module.training for module in network.modules()}
    stride, device = stride_of(network), next(network.parameters()).device
    network.eval()
    try:
        for side in (2 * stride, 3 * stride):
            with torch.inference_mode():
                network(torch.zeros(1, config.in_channels, side, side, device=device))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ModelError(
            f"{config.title}: does not take images of {side} x {side} px ({str(error).splitlines()[0]}); tiles and chips have "
            "many sizes: take another encoder, or leave its size open with a parameter such as dynamic_img_size"
        ) from error
    finally:
        for module, mode in modes.items():
            module.training = mode
