"""Forms of a network: as it is trained, and as it runs over images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MainOutput", "inference_form", "output_margin"]


class MainOutput(nn.Module):
    """The scores of a network with further heads: first of a tuple, or under "scores"; shares the parameters.

    Maps (N, C, H, W) to (N, K, H, W).
    """

    def __init__(self, network: nn.Module, stride: int) -> None:
        super().__init__()
        self.network = network
        self.stride = stride

    def forward(self, image: Tensor) -> Tensor:
        """The scores alone."""
        output: Any = self.network(image)
        scores: Tensor = output["scores"] if isinstance(output, Mapping) else output[0]
        return scores


def output_margin(network: nn.Module) -> int:
    """Pixels along each side of a chip for which the network gives no scores while it is trained.

    0 for networks with scores as large as their input, 92 for an unpadded U-Net of depth 4 (one more or so where the chip's
    side is not 16 k + 12), half the window for a patch classifier. The scores are those of the middle of the chip.
    """
    return int(getattr(network, "margin", 0))


def inference_form(network: nn.Module) -> nn.Module:
    """The form that is exported and judged: (N, C, H, W) to scores (N, K, H, W), H and W multiples of ``stride_of`` it.

    It shares the parameters, and is in the mode (training or evaluation) of the network. Patch classifiers become
    dense, unpadded networks get their context from the edge repeated, networks with further heads keep their scores alone. A
    network with a method ``inference_form`` says itself what that is; others are returned as they are.
    """
    from geoseg.models.networks.stride import stride_of

    own: Callable[[], nn.Module] | None = getattr(network, "inference_form", None)
    if own is not None:
        form = own()
    elif isinstance(getattr(network, "classification_head", None), nn.Module):
        form = MainOutput(network, stride_of(network))
    else:
        return network
    # Of the new module alone: parts of the network may be frozen in another mode.
    form.training = network.training
    return form


def example_image(form: nn.Module) -> Tensor:
    """The smallest useful input of an inference form, zeros (1, C, side, side)."""
    from geoseg.models.networks.stride import stride_of

    first = next((module for module in form.modules() if isinstance(module, nn.Conv2d)), None)
    bands = first.in_channels * getattr(form, "dates", 1) if first is not None else 3
    side = max(64, 2 * stride_of(form))
    device = next((value.device for value in form.parameters()), None)
    return torch.zeros(1, bands, side, side, device=device)
