"""The U-Net of 2015, with unpadded or same convolutions.

Ronneberger, Fischer and Brox 2015, "U-Net: Convolutional networks for biomedical image segmentation", arXiv:1505.04597.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor, nn

from geoseg.errors import ModelError

__all__ = ["PaddedUnet", "Unet2015"]


class Unet2015(nn.Module):
    """Two 3 x 3 convolutions a level, 2 x 2 max-pooling on the way down, 2 x 2 up-convolutions and skips on the way up.

    Weights are drawn with a standard deviation of ``sqrt(2 / N)``, N the number of inputs of a neuron. With
    ``padding="valid"`` (N, in_channels, H, W) becomes scores (N, classes, h, w) of its middle: convolutions read real
    pixels only. H and W are first cropped to the next smaller size whose levels all halve without a rest (for depth 4,
    16 k + 12); the scores then are those of the middle of the input, ``margin`` pixels or slightly more from its border.
    With ``padding="same"`` h = H and w = W, multiples of ``stride``.

    Args:
        in_channels: Number of bands.
        classes: Number of scores.
        width: Channels of the first level, doubled at each further one; the paper's is 64.
        depth: Number of poolings; the paper's is 4.
        padding: ``valid`` as in the paper, or ``same`` with zeros.
        dropout: Share of the values dropped in training at the end of the contracting path, its two deepest levels.
        batch_norm: Normalize after each convolution, which the paper did not do.

    Raises:
        ModelError: A parameter can't work.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        *,
        width: int = 64,
        depth: int = 4,
        padding: Literal["valid", "same"] = "valid",
        dropout: float = 0.5,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        if padding not in ("valid", "same"):
            raise ModelError(f"unet-2015: padding: {padding!r} is not one of valid, same")
        if width < 1 or not 1 <= depth <= 7 or not 0 <= dropout < 1:
            raise ModelError(f"unet-2015: width {width}, depth {depth}, dropout {dropout}; use at least 1, 1 to 7, 0 to below 1")
        self.padded = padding == "same"
        self.stride = 2**depth
        self.margin = 0 if self.padded else 6 * self.stride - 4
        widths = [width * 2**level for level in range(depth + 1)]
        pad = 1 if self.padded else 0
        self.encoder = _Contracting([in_channels, *widths], pad, dropout, batch_norm=batch_norm)
        crops = [0 if self.padded else 6 * 2 ** (depth - level) - 8 for level in range(depth)]
        self.decoder = _Expanding(widths, pad, crops, batch_norm=batch_norm)
        self.segmentation_head = nn.Conv2d(width, classes, 1)
        for module in self.modules():
            _initialize(module)

    def forward(self, image: Tensor) -> Tensor:
        """Scores of an image, or of its middle.

        Raises:
            ModelError: The image is smaller than what one score needs, or not a multiple of the stride.
        """
        if self.padded:
            if image.shape[-2] % self.stride or image.shape[-1] % self.stride:
                raise ModelError(
                    f"unet-2015: chips of {image.shape[-2]} x {image.shape[-1]} px; sides are to be multiples of {self.stride}"
                )
            return self.scores(image)
        rows, cols = self._middle(image.shape[-2]), self._middle(image.shape[-1])
        return self.scores(image[..., rows, cols])

    def scores(self, image: Tensor) -> Tensor:
        """Scores of an image whose sides are right already."""
        scores: Tensor = self.segmentation_head(self.decoder(self.encoder(image)))
        return scores

    def _middle(self, length: int) -> slice:
        """The largest part around the middle whose levels all halve without a rest."""
        rest = (length + 4) % self.stride
        least = 2 * self.margin + min(4, self.stride)
        if length - rest < least:
            raise ModelError(
                f"unet-2015: a chip of {length} px is too small for unpadded convolutions; use at least {least} px, or padding "
                "= same"
            )
        return slice(rest // 2, rest // 2 + length - rest)

    def inference_form(self) -> nn.Module:
        """The network with scores as large as its input."""
        return self if self.padded else PaddedUnet(self)


class PaddedUnet(nn.Module):
    """An unpadded U-Net with the missing context around the image taken from its edge; shares the parameters.

    Maps (N, C, H, W) to (N, K, H, W) for H and W multiples of ``stride``. The poolings have one phase whatever the size:
    a pooling cell always starts at a multiple of the stride plus the same offset, so that tiles equal the whole.
    """

    def __init__(self, network: Unet2015) -> None:
        super().__init__()
        self.network = network
        self.stride = network.stride
        # After the image, so many rows and columns more make the levels halve without a rest.
        self._more = 4 % network.stride

    def forward(self, image: Tensor) -> Tensor:
        """Scores of every pixel."""
        before, after = self.network.margin, self.network.margin + self._more
        padded = F.pad(image, (before, after, before, after), mode="replicate")
        scores = self.network.scores(padded)
        return scores[..., : -self._more, : -self._more] if self._more else scores


class _Contracting(nn.Module):
    """The way down: the features of each level, from fine to coarse."""

    def __init__(self, widths: list[int], pad: int, dropout: float, *, batch_norm: bool) -> None:
        super().__init__()
        self.stages = nn.ModuleList(_double(inputs, outputs, pad, batch_norm=batch_norm) for inputs, outputs in pairwise(widths))
        self.dropout = nn.Dropout(dropout)

    def forward(self, image: Tensor) -> list[Tensor]:
        features: list[Tensor] = []
        for level, stage in enumerate(self.stages):
            below = F.max_pool2d(features[-1], 2) if features else image
            feature = stage(below)
            features.append(self.dropout(feature) if level >= len(self.stages) - 2 else feature)
        return features


class _Expanding(nn.Module):
    """The way up: features as fine as the first level's."""

    def __init__(self, widths: list[int], pad: int, crops: list[int], *, batch_norm: bool) -> None:
        super().__init__()
        levels = range(len(widths) - 2, -1, -1)
        self.ups = nn.ModuleList(nn.ConvTranspose2d(widths[i + 1], widths[i], 2, stride=2) for i in levels)
        self.stages = nn.ModuleList(_double(2 * widths[i], widths[i], pad, batch_norm=batch_norm) for i in levels)
        self._crops = crops[::-1]

    def forward(self, features: list[Tensor]) -> Tensor:
        result = features[-1]
        for up, stage, skip, crop in zip(self.ups, self.stages, features[-2::-1], self._crops, strict=True):
            kept = skip[..., crop:-crop, crop:-crop] if crop else skip
            result = stage(torch.cat([kept, F.relu(up(result))], dim=1))
        return result


def _double(inputs: int, outputs: int, pad: int, *, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers.append(nn.Conv2d(channels, outputs, 3, padding=pad, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm2d(outputs))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight)
    elif isinstance(module, nn.ConvTranspose2d):
        # Its cells do not overlap: each output reads every channel once.
        nn.init.normal_(module.weight, std=math.sqrt(2 / module.in_channels))
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)
