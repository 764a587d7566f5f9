"""Decoders of U-Nets in the form that is exported: no convolution reads pixels that were only copied.

A block of such a decoder doubles its image by nearest neighbour, joins features of the encoder to it, and takes a 3 x 3
convolution of both. Of the doubled image each row stands there twice, so that an output row of phase 0 (of even index) is
computed from rows i - 1 and i of the image before, by the kernel's first row and the sum of the others, and one of phase 1 from
rows i and i + 1, by the sum of the first two rows and the last one; columns likewise. Four 2 x 2 convolutions, one a phase, so
take 4 multiplications where there were 9, and give the same but for rounding, at the border of the image, too (sub-pixel
convolution: Shi et al. 2016, arXiv:1609.05158; nearest neighbour as one of these: Odena et al. 2016, doi:10.23915/distill.00003).

The convolution of a concatenation is the sum of two: of the encoder's features each phase takes every second row and column, so
that the sum, batch normalization and activation are one operation of ONNX Runtime. Parameters stay as they are; the sums are made
of constants of the graph, once when it is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from geoseg.models.padding import padded_convolution

__all__ = ["doubling_block", "is_doubling", "phase_kernel"]

DECODERS = "segmentation_models_pytorch.decoders."
PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Of rows and columns, in the order in which they are interleaved."""


def phase_kernel(kernel: Tensor, rows: int, cols: int) -> Tensor:
    """The kernel (K, C, 2, 2) that takes of an image what one (K, C, 3, 3) takes of a phase of the doubled image."""
    for axis, phase in ((2, rows), (3, cols)):
        first, middle, last = (kernel.narrow(axis, k, 1) for k in range(3))
        pair = (first + middle, last) if phase else (first, middle + last)
        kernel = torch.cat(pair, axis)
    return kernel


class _DoublingBlock(nn.Module):
    """A decoder block that computes its first convolution phase by phase; shares the parameters.

    Args:
        block: With ``conv1`` (a convolution, its normalization and activation), ``conv2`` and ``attention2``.
        channels: Of the image that is doubled; the other input channels of ``conv1`` are those of the encoder.
    """

    def __init__(self, block: nn.Module, channels: int) -> None:
        super().__init__()
        self.conv1: Any = block.conv1
        self.conv2: Any = block.conv2
        self.attention2: Any = block.attention2
        self.channels = channels

    def _kernel(self) -> tuple[Tensor, Tensor]:
        """Kernel (K, C, 3, 3) and bias (K) of the first convolution with its normalization."""
        conv, norm = self.conv1[0], self.conv1[1]
        bias = conv.bias if conv.bias is not None else torch.zeros_like(conv.weight[:, 0, 0, 0])
        if isinstance(norm, nn.Identity):
            return conv.weight, bias
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        return conv.weight * scale.reshape(-1, 1, 1, 1), (bias - norm.running_mean) * scale + norm.bias

    def doubled(self, image: Tensor, skip: Tensor | None) -> Tensor:
        """(N, C, h, w) and the encoder's (N, S, 2h, 2w) to (N, K, 2h, 2w)."""
        kernel, bias = self._kernel()
        count = kernel.shape[0]
        ours, theirs = kernel[:, : self.channels], kernel[:, self.channels :]
        phases = []
        for rows, cols in PHASES:
            pads = (1 - rows, 1 - cols, rows, cols)
            sums = padded_convolution(image, phase_kernel(ours, rows, cols), bias, pads)
            if skip is not None and theirs.shape[1]:
                sums = sums + padded_convolution(skip, theirs, None, pads, stride=2)
            phases.append(self.conv1[2](sums).permute(0, 2, 3, 1))
        return _interleaved(phases, int(count))

    def forward(self, feature_map: Tensor, height: Any, width: Any, skip_connection: Tensor | None = None) -> Tensor:
        """As the block of a U-Net; the target is twice the size of the features."""
        del height, width
        output: Tensor = self.attention2(self.conv2(self.doubled(feature_map, skip_connection)))
        return output


class _DenseDoublingBlock(_DoublingBlock):
    """The same for a U-Net++, whose blocks are told no size."""

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """As the block of a U-Net++."""
        return super().forward(x, None, None, skip)


def _interleaved(phases: list[Tensor], channels: int) -> Tensor:
    """Four images (N, h, w, K) as one (N, K, 2h, 2w).

    Channels are last, so that rows of pixels are copied whole. It is faster than the operation of ONNX that does the same,
    DepthToSpace.
    """
    batch, height = phases[0].shape[:2]
    rows = [torch.cat(phases[k : k + 2], 3).reshape(batch, height, -1) for k in (0, 2)]
    return torch.cat(rows, 2).reshape(batch, 2 * height, -1, channels).permute(0, 3, 1, 2)


KINDS: dict[str, type[_DoublingBlock]] = {
    "unet.decoder.UnetDecoderBlock": _DoublingBlock,
    "unetplusplus.decoder.DecoderBlock": _DenseDoublingBlock,
}
"""Blocks of decoders that are rewritten."""


def _kind(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}".removeprefix(DECODERS)


def is_doubling(module: nn.Module) -> bool:
    """Whether a module is a decoder block that may be one to rewrite."""
    return _kind(module) in KINDS


def doubling_block(block: Any, given: tuple[Any, ...], named: Mapping[str, Any]) -> nn.Module | None:
    """The block to put in the place of one; None where it has to stay.

    It has to unless it doubles by nearest neighbour, with batch normalization or none, and without attention to what it joins.

    Args:
        block: One of ``is_doubling``.
        given: What it was called with.
        named: The same by name.
    """
    image, *skips = [value for value in (*given, *named.values()) if isinstance(value, Tensor)]
    target = tuple(value for value in given if isinstance(value, int))
    doubled = target in ((), (2 * image.shape[2], 2 * image.shape[3]))
    if not doubled or not _fits(block, joined=any(skip.shape[1] for skip in skips)):
        return None
    return KINDS[_kind(block)](block, int(image.shape[1])).train(block.training)


def _fits(block: Any, *, joined: bool) -> bool:
    """Whether all that the rewriting takes for granted holds for a block that joins features, or does not."""
    if block.interpolation_mode != "nearest" or getattr(block, "is_empty", False):
        return False
    conv, norm = block.conv1[0], block.conv1[1]
    plain = (conv.kernel_size, conv.stride, conv.padding, conv.dilation) == ((3, 3), (1, 1), (1, 1), (1, 1))
    normal = isinstance(norm, nn.Identity) or (isinstance(norm, nn.BatchNorm2d) and norm.affine and norm.track_running_stats)
    attentive = joined and not isinstance(block.attention1.attention, nn.Identity)
    return bool(plain and conv.groups == 1 and conv.padding_mode == "zeros" and normal and not attentive)
