"""Convolutions whose padding differs from side to side.

ONNX has them; torch takes two steps, of which the first one would be exported as a copy of the image. So it is with those of
networks that come from TensorFlow ("SAME": Tan and Le 2019, arXiv:1905.11946, as timm builds them), whose padding depends on the
size of the image. Of sizes that are multiples of the stride it is always the same.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch uses
from torch import Tensor, nn

__all__ = ["FixedSame", "is_same_convolution", "padded_convolution"]

Pads = tuple[int, int, int, int]
"""Zeros above, left of, below and right of an image, as in ONNX."""


def padded_convolution(
    image: Tensor, kernel: Tensor, bias: Tensor | None, pads: Pads, stride: int = 1, groups: int = 1
) -> Tensor:
    """Convolve an image (N, C, H, W) that is padded with zeros; exported as one operation."""
    output: Tensor = _PaddedConvolution.apply(image, kernel, bias, pads, stride, groups)
    return output


class _PaddedConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        del ctx
        image, kernel, bias, (top, left, bottom, right), stride, groups = given
        return F.conv2d(F.pad(image, (left, right, top, bottom)), kernel, bias, stride, groups=groups)

    @staticmethod
    def symbolic(graph: Any, *given: Any) -> Any:
        image, kernel, bias, pads, stride, groups = given
        inputs = [image, kernel] if bias is None else [image, kernel, bias]
        return graph.op("Conv", *inputs, pads_i=list(pads), strides_i=[stride, stride], group_i=groups)


class FixedSame(nn.Module):
    """A convolution with padding "SAME" for images whose sides are multiples of its stride; shares the parameters."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        # Under their names in the convolution, which stay those in the exported file.
        self.weight, self.bias = conv.weight, conv.bias
        self.stride, self.groups = conv.stride[0], conv.groups
        missing = [
            max((size - 1) * step + 1 - conv.stride[0], 0) for size, step in zip(conv.kernel_size, conv.dilation, strict=True)
        ]
        (top, bottom), (left, right) = ((count // 2, count - count // 2) for count in missing)
        self.pads: Pads = (top, left, bottom, right)

    def forward(self, image: Tensor) -> Tensor:
        """As the convolution."""
        return padded_convolution(image, self.weight, self.bias, self.pads, self.stride, self.groups)


def is_same_convolution(module: nn.Module) -> bool:
    """Whether a module is a convolution of timm with padding "SAME" that ``FixedSame`` can be put in the place of."""
    if (
        not isinstance(module, nn.Conv2d)
        or f"{type(module).__module__}.{type(module).__name__}" != "timm.layers.conv2d_same.Conv2dSame"
    ):
        return False
    return module.stride[0] == module.stride[1] and module.dilation == (1, 1)
