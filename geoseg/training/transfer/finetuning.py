"""Transfer from pretrained weights: which layers learn, how fast, and from when on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from geoseg.errors import ModelError
from geoseg.models.networks.depths import parameter_depths

if TYPE_CHECKING:
    from geoseg.training.module import Group

__all__ = ["Unfreezing", "encoder_stages", "hold_frozen", "rate_groups"]

ENCODER = "encoder."


def encoder_stages(network: nn.Module) -> dict[str, int]:
    """Stage of each parameter of the encoder by name, counted from the image: 0, 1, ...

    Raises:
        ModelError: The network has no encoder, so there is nothing to freeze or to slow down.
    """
    stages = {name: depth for name, depth in parameter_depths(network).items() if name.startswith(ENCODER)}
    if not stages:
        raise ModelError(
            f"{type(network).__name__} has no encoder to freeze or to train more slowly; take another architecture, "
            "or leave encoder_rate, layer_decay and unfreeze at their defaults"
        )
    return stages


def rate_groups(network: nn.Module, *, encoder_rate: float, layer_decay: float) -> list[Group]:
    """Parameters in groups of one learning rate: discriminative fine-tuning (Howard and Ruder 2018, arXiv:1801.06146).

    The decoder and the heads have factor 1, the last stage of the encoder ``encoder_rate``, each stage before it
    ``layer_decay`` times that of the next. Where ``encoder_rate`` is 0, the encoder is in no group.

    Args:
        network: The network.
        encoder_rate: Learning rate of the encoder's last stage relative to the rest, 0 to 1.
        layer_decay: Factor from each stage to the one before it, above 0 and up to 1.

    Returns:
        Dictionaries with ``name``, ``params`` and ``factor``, from the image to the head; every parameter that is to
        learn is in one of them.

    Raises:
        ModelError: There is no encoder, but its rates are to differ.
    """
    parameters = dict(network.named_parameters())
    if encoder_rate == layer_decay == 1:
        return [{"name": "all", "params": list(parameters.values()), "factor": 1.0}]
    stages = encoder_stages(network)
    last = max(stages.values())
    groups: list[Group] = []
    for stage in range(last + 1) if encoder_rate > 0 else ():
        params = [parameters[name] for name, place in stages.items() if place == stage]
        factor = encoder_rate * layer_decay ** (last - stage)
        groups.append({"name": f"encoder {stage}", "params": params, "factor": factor})
    rest = [value for name, value in parameters.items() if name not in stages]
    return [*groups, {"name": "rest", "params": rest, "factor": 1.0}]


def hold_frozen(network: nn.Module) -> None:
    """Put every module whose parameters are all frozen into evaluation, the modules inside it, too.

    Statistics of batch normalization then stay what they are, and dropout is off: frozen features are those of the
    shelf. To be called after every ``network.train()``.
    """
    for module in network.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


@dataclass(frozen=True, slots=True)
class Unfreezing:
    """From which step on each stage of the encoder learns; what is not of the encoder always does.

    Called with the network and the number of steps done, before each step, it freezes and unfreezes: frozen parameters
    get no gradient, and frozen layers keep their statistics.
    """

    stages: Mapping[str, int]
    """Stage of each parameter of the encoder by name."""
    starts: tuple[float, ...]
    """Step at which each stage begins to learn; infinite for never."""

    @classmethod
    def never(cls, network: nn.Module) -> Unfreezing:
        """Features off the shelf (Razavian et al. 2014, arXiv:1403.6382): the encoder stays as it is.

        Raises:
            ModelError: There is no encoder.
        """
        stages = encoder_stages(network)
        return cls(stages, (math.inf,) * (max(stages.values()) + 1))

    @classmethod
    def gradual(cls, network: nn.Module, steps: int) -> Unfreezing:
        """One stage after the other, from the last to the first (Howard and Ruder 2018, arXiv:1801.06146).

        Args:
            network: The network.
            steps: Step at which the first stage is unfrozen, and with it everything learns; the others at even distances.

        Raises:
            ModelError: There is no encoder.
        """
        stages = encoder_stages(network)
        count = max(stages.values()) + 1
        return cls(stages, tuple(math.ceil(steps * (count - stage) / count) for stage in range(count)))

    def trainable(self, step: int) -> frozenset[str]:
        """Names of the encoder's parameters that learn at a step."""
        return frozenset(name for name, stage in self.stages.items() if step >= self.starts[stage])

    def __call__(self, network: nn.Module, step: int) -> None:
        """Freeze and unfreeze a network for a step."""
        # Layers that were held until now are to learn their statistics, too.
        if network.training:
            network.train()
        learning = self.trainable(step)
        for name, parameter in network.named_parameters():
            if name in self.stages:
                parameter.requires_grad_(name in learning)
                if name not in learning:
                    parameter.grad = None
        hold_frozen(network)
