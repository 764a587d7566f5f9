"""A segmentation network with further heads that share its encoder and decoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch uses
from torch import Tensor, nn

from geoseg.errors import ModelError
from geoseg.models.networks.stride import stride_of

__all__ = [
    "OBJECT_HEADS",
    "BoundaryHead",
    "Head",
    "MultiTaskNetwork",
    "RasterHead",
    "SceneHead",
    "StackedOutputs",
    "main_network",
    "main_weights",
]

HEADS_PREFIX = "heads."
COARSEST_SIDE = 16
"""Stride of the coarsest features that give a side output; HED's last stage has it."""
HIDDEN = 16


@dataclass(frozen=True, slots=True)
class Head:
    """A head to build."""

    name: str
    """Key of its output."""
    kind: Literal["boundary", "raster", "scene"]
    """What it is made of; see ``HEADS``."""
    outputs: int = 1
    """Rasters or classes that it gives; a boundary is one."""
    stride: int = 1
    """Pixels of the image along a side of a pixel of its output, for rasters."""


OBJECT_HEADS = (Head("boundary", "boundary"), Head("distance", "raster"))
"""Heads that distinguish objects: the borders between them, and the distance to these; they stay in models of instances."""


@dataclass(frozen=True, slots=True)
class Trunk:
    """A network that heads are attached to."""

    levels: tuple[int, ...]
    """Channels of the encoder's features that give side outputs, in its order; 0 for those that give none."""
    last: int
    """Channels of the encoder's last features."""
    decoded: int
    """Channels of what the decoder gives."""


class BoundaryHead(nn.Module):
    """Boundaries at several scales and fused: holistically-nested edge detection (Xie and Tu 2015, arXiv:1504.06375).

    Each of the encoder's features down to stride 16, and the decoder's output, gives a side output by a 1 x 1 convolution,
    enlarged bilinearly; a 1 x 1 convolution over all of them, which begins as their mean, fuses them.
    """

    def __init__(self, trunk: Trunk, head: Head) -> None:
        super().__init__()
        if head.outputs != 1 or head.stride != 1:
            raise ModelError(f"{head.name}: a boundary is one raster of stride 1, not {head.outputs} of stride {head.stride}")
        self._levels = [(k, channels) for k, channels in enumerate(trunk.levels) if channels]
        channels = [*(channels for _, channels in self._levels), trunk.decoded]
        self.sides = nn.ModuleList(nn.Conv2d(count, 1, 1) for count in channels)
        self.fusion = nn.Conv2d(len(channels), 1, 1, bias=False)
        nn.init.constant_(self.fusion.weight, 1 / len(channels))

    def forward(self, features: Sequence[Tensor], decoded: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, 1 + S, H, W) scores: the fused output, then the side outputs from fine to coarse, the decoder's last."""
        found = [*(features[k] for k, _ in self._levels), decoded]
        sides = torch.cat([_resized(side(x), size) for side, x in zip(self.sides, found, strict=True)], 1)
        return torch.cat([self.fusion(sides), sides], 1)


class RasterHead(nn.Module):
    """Values without bounds at every pixel, or at every cell of ``stride`` x ``stride`` pixels, from the decoder's output."""

    def __init__(self, trunk: Trunk, head: Head) -> None:
        super().__init__()
        self.stride = head.stride
        self.layers = nn.Sequential(nn.Conv2d(trunk.decoded, HIDDEN, 3, padding=1), nn.ReLU(), nn.Conv2d(HIDDEN, head.outputs, 1))

    def forward(self, features: Sequence[Tensor], decoded: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, R, H / stride, W / stride)."""
        del features
        rows, cols = size[0] // self.stride, size[1] // self.stride
        factor = decoded.shape[-2] // rows
        if factor > 1:
            decoded = F.avg_pool2d(decoded, factor)
        values: Tensor = self.layers(decoded)
        return _resized(values, (rows, cols))


class SceneHead(nn.Module):
    """Scores of the whole chip from the mean of the encoder's last features.

    The auxiliary classification head of segmentation-models-pytorch, with its dropout.
    """

    def __init__(self, trunk: Trunk, head: Head) -> None:
        super().__init__()
        from segmentation_models_pytorch.base import ClassificationHead

        self.layers = ClassificationHead(trunk.last, head.outputs)

    def forward(self, features: Sequence[Tensor], decoded: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, K)."""
        del decoded, size
        return cast("Tensor", self.layers(features[-1]))


HEADS: dict[str, Callable[[Trunk, Head], nn.Module]] = {"boundary": BoundaryHead, "raster": RasterHead, "scene": SceneHead}


class MultiTaskNetwork(nn.Module):
    """A network of segmentation-models-pytorch with heads for further tasks.

    Maps (N, C, H, W) to a mapping: "scores" (N, K, H, W), which are those of the network itself, and what each head gives
    under its name. Its parts keep their names, so that its parameters are the network's and those below ``heads.``; they
    are shared with the network.

    Args:
        network: With an encoder, a decoder and a segmentation head.
        heads: What to add.
        kept: Names of heads that stay when training has ended: their outputs follow the scores as further channels.

    Raises:
        ModelError: The network has no such parts or a classification head of its own, a head is not known, two have the
            same name, or a stride does not fit.
    """

    def __init__(self, network: nn.Module, heads: Sequence[Head], kept: Sequence[str] = ()) -> None:
        super().__init__()
        trunk = _trunk(network)
        names = ["scores", *(head.name for head in heads)]
        if len({*names}) < len(names):
            raise ModelError(f"heads: names have to differ, and none can be scores: {', '.join(names[1:])}")
        # Its children are registered here under their own names; itself, it would prefix them and save them twice.
        self._network = (network,)
        for name, part in network.named_children():
            self.add_module(name, part)
        self.stride = stride_of(network)
        self.kept = tuple(kept)
        self.heads = nn.ModuleDict({head.name: self._built(trunk, head) for head in heads})

    def _built(self, trunk: Trunk, head: Head) -> nn.Module:
        if head.kind not in HEADS:
            raise ModelError(f"{head.name}: {head.kind!r} is no kind of head; choose one of {', '.join(HEADS)}")
        if head.outputs < 1 or head.stride < 1 or self.stride % head.stride:
            raise ModelError(
                f"{head.name}: {head.outputs} outputs of stride {head.stride} can't be; at least one output is needed, and a "
                f"stride that divides that of the network, {self.stride}"
            )
        return HEADS[head.kind](trunk, head)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """The outputs of all heads."""
        network: Any = self._network[0]
        network.check_input_shape(image)
        found = network.encoder(image)
        # Encoders for DPT give their features together with further tokens for the decoder.
        together = not isinstance(found[0], Tensor)
        features = found[0] if together else found
        decoded = network.decoder(*found) if together else network.decoder(found)
        size = image.shape[-2], image.shape[-1]
        outputs: dict[str, Tensor] = {"scores": network.segmentation_head(decoded)}
        return outputs | {name: head(features, decoded, size) for name, head in self.heads.items()}

    @property
    def main(self) -> nn.Module:
        """The segmentation network alone, in the same mode; it shares the parameters."""
        self._network[0].training = self.training
        return self._network[0]

    def inference_form(self) -> nn.Module:
        """The segmentation network alone, or with the heads that are kept, in the same mode; it shares the parameters."""
        return StackedOutputs(self, self.kept) if self.kept else self.main


class StackedOutputs(nn.Module):
    """The scores of a network with further heads, then a channel for each raster of some of these heads.

    Maps (N, C, H, W) to (N, K + R, H, W). Of boundaries the fused output counts; it shares the parameters.
    """

    def __init__(self, network: MultiTaskNetwork, names: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        self.stride = network.stride
        self._names = tuple(names)

    def forward(self, image: Tensor) -> Tensor:
        """All channels."""
        outputs: dict[str, Tensor] = self.network(image)
        further = [outputs[name][:, :1] if name == "boundary" else outputs[name] for name in self._names]
        return torch.cat([outputs["scores"], *further], 1)


def main_network(network: nn.Module) -> nn.Module:
    """The segmentation network alone, without further heads, sharing the parameters.

    Its state dict is that of a network newly built from the same config; other networks are returned as they are.
    """
    return network.main if isinstance(network, MultiTaskNetwork) else network


def main_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """State dict of the segmentation network of a ``MultiTaskNetwork``; of another network, all of it."""
    return {name: value for name, value in state.items() if not name.startswith(HEADS_PREFIX)}


def _trunk(network: nn.Module) -> Trunk:
    kind = type(network).__name__
    parts: list[Any] = [getattr(network, name, None) for name in ("encoder", "decoder", "segmentation_head")]
    if not all(isinstance(part, nn.Module) for part in parts) or not hasattr(network, "check_input_shape"):
        raise ModelError(
            f"{kind}: further heads need the encoder, the decoder and the head of a network of segmentation-models-pytorch; "
            "take one of these, or train without further tasks"
        )
    if getattr(network, "classification_head", None) is not None:
        raise ModelError(f"{kind}: has a classification head of its own; build it without aux_params and add a scene head")
    encoder, _, head = parts
    channels = [int(count) for count in encoder.out_channels]
    levels = channels
    # Pyramids halve the size from level to level, most begin with the image itself; vision transformers have one size.
    if not hasattr(encoder, "output_strides"):
        levels = channels[: COARSEST_SIDE.bit_length()]
        if levels[0] == _first_convolution(encoder).in_channels:
            levels[0] = 0
    return Trunk(tuple(levels), channels[-1], _first_convolution(head).in_channels)


def _first_convolution(part: nn.Module) -> nn.Conv2d:
    return next(module for module in part.modules() if isinstance(module, nn.Conv2d))


def _resized(values: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(values.shape[-2:]) == size:
        return values
    return F.interpolate(values, size, mode="bilinear", align_corners=False)
