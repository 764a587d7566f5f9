"""Adaptation of a network to a region without labels by the statistics of its activations."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from geoseg.errors import ConfigError, ModelError

__all__ = ["adapt_statistics"]


def adapt_statistics(network: nn.Module, images: Iterable[Tensor], *, mix: float = 1.0) -> int:
    """Adaptive batch normalization (Li et al. 2016, arXiv:1603.04779): its statistics become those of other images.

    Mean and variance of what each layer gets are pooled over all images, as if they were one batch; while they are
    measured, each batch is normalized by its own statistics. The weights stay. Pixels without data count like others, so
    chips should be full.

    Args:
        network: Changed in place; its modes stay.
        images: Batches (N, C, H, W) float32, normalized as in training, of several chips each.
        mix: Share of the new statistics in the result, above 0 and up to 1; the rest are the old ones.

    Returns:
        How many images there were.

    Raises:
        ModelError: The network has no batch normalization with statistics.
        ConfigError: There are no images, a batch holds a single value per channel, or ``mix`` is out of range.
    """
    if not 0 < mix <= 1:
        raise ConfigError(f"mix: {mix} is not above 0 and up to 1")
    layers = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    if not layers:
        raise ModelError(f"{type(network).__name__} has no batch normalization, so it has no statistics to adapt")
    modes = {module: module.training for module in network.modules()}
    before = [(layer.momentum, layer.num_batches_tracked) for layer in layers]
    moments = [_Moments() for _ in layers]
    hooks = [layer.register_forward_pre_hook(moment.hook) for layer, moment in zip(layers, moments, strict=True)]
    network.eval()
    for layer in layers:
        layer.train()
        layer.momentum, layer.num_batches_tracked = 0.0, None
    count = 0
    try:
        with torch.no_grad():
            for batch in images:
                network(batch)
                count += len(batch)
    except ValueError as error:
        raise ConfigError(f"statistics can't be adapted on batches this small: {error}; take more chips a batch") from error
    finally:
        for hook in hooks:
            hook.remove()
        for layer, (momentum, batches) in zip(layers, before, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, batches
        for module, mode in modes.items():
            module.training = mode
    if not count:
        raise ConfigError("statistics can't be adapted: there are no images of the target")
    for layer, moment in zip(layers, moments, strict=True):
        if moment.count > 1:
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.lerp_(moment.mean.to(layer.running_mean), mix)
            layer.running_var.lerp_(moment.variance.to(layer.running_var), mix)
    return count


class _Moments:
    """Count, mean and summed squared deviation by channel, pooled exactly over batches (Chan et al. 1979)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.squares = torch.zeros(())

    @property
    def variance(self) -> Tensor:
        """Unbiased, as batch normalization keeps it."""
        return self.squares / (self.count - 1)

    def hook(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].detach().transpose(0, 1).flatten(1)
        values = values.to(torch.float32 if values.device.type == "mps" else torch.float64)
        count, mean = values.shape[1], values.mean(1)
        total, shift = self.count + count, mean - self.mean
        self.squares = self.squares + ((values - mean[:, None]) ** 2).sum(1) + shift**2 * (self.count * count / total)
        self.mean = self.mean + shift * (count / total)
        self.count = total
