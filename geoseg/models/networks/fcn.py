"""Fully convolutional networks with skip fusion.

Long, Shelhamer and Darrell 2015, "Fully convolutional networks for semantic segmentation", arXiv:1411.4038.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Fcn", "bilinear_kernel"]


class Fcn(nn.Module):
    """Scores of coarse features, enlarged step by step and added to the scores of finer ones.

    Maps (N, C, H, W) to scores (N, classes, H, W), H and W multiples of 32. Score layers start from zero, upsampling
    layers from bilinear interpolation, and all are learned, as in the paper. Borders are padded so that no offset arises.

    Args:
        encoder: Gives features of strides 1, 2, 4, 8, 16 and 32; has ``out_channels`` of the same order.
        classes: Number of scores.
        finest: Stride of the finest features that are scored: 32, 16 or 8.
        hidden: Channels of two convolutions (7 x 7 and 1 x 1) before the coarsest scores, which the paper made of the fully
            connected layers of VGG with 4096; 0 for none, as for encoders that end in wide features.
        dropout: Share of the hidden channels dropped in training.
    """

    stride = 32

    def __init__(
        self, encoder: nn.Module, out_channels: list[int], classes: int, *, finest: int, hidden: int = 0, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.encoder = encoder
        last = out_channels[5]
        self.decoder = nn.ModuleDict()
        if hidden:
            self.decoder["hidden"] = nn.Sequential(
                nn.Conv2d(last, hidden, 7, padding=3),
                nn.ReLU(),
                nn.Dropout2d(dropout),
                nn.Conv2d(hidden, hidden, 1),
                nn.ReLU(),
                nn.Dropout2d(dropout),
            )
        self.decoder["score_32"] = _score(hidden or last, classes)
        self._fused = [stride for stride in (16, 8) if stride >= finest]
        for stride in self._fused:
            self.decoder[f"up_{stride}"] = _upsampling(classes, 2)
            self.decoder[f"score_{stride}"] = _score(out_channels[{16: 4, 8: 3}[stride]], classes)
        self.segmentation_head = _upsampling(classes, finest)

    def forward(self, image: Tensor) -> Tensor:
        """Scores of an image."""
        features = self.encoder(image)
        coarse = self.decoder["hidden"](features[5]) if "hidden" in self.decoder else features[5]
        scores: Tensor = self.decoder["score_32"](coarse)
        for stride in self._fused:
            feature = features[{16: 4, 8: 3}[stride]]
            scores = self.decoder[f"up_{stride}"](scores) + self.decoder[f"score_{stride}"](feature)
        result: Tensor = self.segmentation_head(scores)
        return result


def bilinear_kernel(factor: int) -> Tensor:
    """The kernel (2 factor, 2 factor) of a transposed convolution that interpolates bilinearly; ``factor`` is even."""
    position = torch.arange(2 * factor, dtype=torch.float64)
    weights = 1 - (position - (factor - 0.5)).abs() / factor
    return torch.outer(weights, weights).float()


def _score(channels: int, classes: int) -> nn.Conv2d:
    layer = nn.Conv2d(channels, classes, 1)
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def _upsampling(classes: int, factor: int) -> nn.ConvTranspose2d:
    layer = nn.ConvTranspose2d(classes, classes, 2 * factor, stride=factor, padding=factor // 2, bias=False)
    with torch.no_grad():
        layer.weight.zero_()
        for k in range(classes):
            layer.weight[k, k] = bilinear_kernel(factor)
    return layer
