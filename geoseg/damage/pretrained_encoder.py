"""The encoder of a file of weights, such as those of ImageNet, as one that embeds buildings; needs torch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from geoseg.arrays import F32
from geoseg.damage.damage_settings import DamageSettings
from geoseg.damage.embedder import Embedded
from geoseg.damage.training import built
from geoseg.errors import ConfigError
from geoseg.models.weights.checkpoints import scaling_of

__all__ = ["PretrainedEncoder"]


class PretrainedEncoder:
    """Pools the features of an encoder as a network does that grades buildings; see ``DamageNetwork.pooled``.

    Args:
        weights: A file of weights for the encoder that ``train-damage`` takes by default, with its mean and std in its metadata.
        bands: Bands of a date.

    Raises:
        ConfigError: The file does not say how its inputs are scaled.
    """

    def __init__(self, weights: str, bands: int) -> None:
        scaling = scaling_of(weights, bands)
        if scaling is None:
            raise ConfigError(
                f"{weights}: its metadata give no mean and std of {bands} bands, without which its inputs can't be scaled; give "
                "a safetensors file that has them, such as that of benchmarks/imagenet_weights.py"
            )
        settings = replace(DamageSettings(), weights=weights)
        self._network, self._bands = built(settings, bands, 1, scaling), bands

    def __call__(self, image: F32, mask: F32) -> Embedded:
        """Embed crops (N, dates * C, S, S) with masks (N, S, S), of the last date and of the first."""
        return Embedded(self._of_date(image[:, -self._bands :], mask), self._of_date(image[:, : self._bands], mask))

    def _of_date(self, image: F32, mask: F32) -> F32:
        pixels, place = torch.from_numpy(np.ascontiguousarray(image)), torch.from_numpy(mask[:, None])
        with torch.inference_mode():
            views = [self._network.pooled(pixels, place, view, (0,))[:, 0] for view in range(self._network.views)]
            return np.asarray(torch.stack(views).mean(0).numpy(), np.float32)
