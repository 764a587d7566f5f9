"""Training a network that grades buildings: first a linear head on the encoder as it is, then all of it if that is asked for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor

from geoseg.arrays import I64
from geoseg.calibration.measures import Tally
from geoseg.damage.damage_settings import DamageSettings
from geoseg.damage.network import DamageNetwork, ordinal_loss, probabilities
from geoseg.damage.samples import DamageSet, Draws, groups_of
from geoseg.damage.scale import CLASSES, building_figures, chances, decided
from geoseg.dialect import number_of
from geoseg.errors import ConfigError
from geoseg.grid import ceil_div

__all__ = ["DamageReport", "built", "train_damage"]

LEAST_OF_CLASS = 2
"""Buildings of each class that there are at least to train on."""
LEAST_GROUPS = 10
"""Groups of which one is held out, where training is judged once."""
MOST_KEPT = 0.98
"""Share that the average of the weights keeps of itself at each step."""
ITERATIONS = 200
"""Of L-BFGS at most."""
BATCH = 64


class DamageReport(TypedDict):
    """Figures of a training."""

    buildings: int
    classes: list[int]
    """Buildings of each."""
    temperature: float
    held_out_figures: dict[str, Any]
    """Of buildings that were graded by a network that had not seen them."""
    left_out: NotRequired[int]
    """Buildings without a class, or not seen."""


def train_damage(
    data: DamageSet, bands: int, settings: DamageSettings, log: Callable[[str], None] = lambda _: None
) -> tuple[DamageNetwork, DamageReport]:
    """Train a network on all buildings; it is judged and calibrated by networks that were trained in the same way without some.

    Args:
        data: The buildings.
        bands: Bands of a date.
        settings: Settings.
        log: Called with lines on its progress.

    Returns:
        The network, and figures: of the buildings held out, each graded by a network that has not seen it.

    Raises:
        ConfigError: A class has too few buildings.
    """
    counts = np.bincount(data.label, minlength=len(CLASSES))
    few = int(counts.argmin())
    if counts[few] < LEAST_OF_CLASS:
        raise ConfigError(
            f"labels: {counts[few]} buildings of {CLASSES[few]!r}; at least {LEAST_OF_CLASS} of each class are needed"
        )
    rng = np.random.default_rng(settings.seed)
    torch.manual_seed(settings.seed)
    network = built(settings, bands, data.image.shape[1] // bands, _scaling(data, bands, settings))
    features = _features(network, data)
    log(f"features of {number_of(len(data), 'building')}: {features.shape[-1]} by date, {number_of(settings.views, 'view')}")
    group = groups_of(data.place, settings.folds if settings.folds > 1 else LEAST_GROUPS, rng)
    scores, label = [], []
    for number in range(settings.folds):
        held = np.flatnonzero(group == number)
        trained = _trained(network, features, data, np.flatnonzero(group != number), bands, settings, rng, log)
        scores.append(_scores(trained, features, data, held, tuned=settings.steps > 0))
        label.append(data.label[held])
        log(f"part {number + 1} of {settings.folds}: {number_of(len(held), 'building')} held out")
    judged, truth = torch.cat(scores), np.concatenate(label)
    temperature = _best_temperature(judged, torch.from_numpy(truth))
    found = probabilities(judged / temperature).numpy()
    tally = Tally(len(CLASSES))
    tally.add(found.T, truth.astype(np.uint8))
    figures: DamageReport = {
        "buildings": len(data),
        "classes": counts.tolist(),
        "temperature": temperature,
        "held_out_figures": {
            **building_figures(decided(found), truth),
            "ece": tally.ece(),
            "brier": tally.brier,
            "nll": tally.nll,
        },
    }
    last = _trained(network, features, data, np.arange(len(data)), bands, settings, rng, log)
    last.temperature.data.fill_(temperature)
    return last.eval(), figures


def _scaling(data: DamageSet, bands: int, settings: DamageSettings) -> tuple[list[float], list[float]]:
    """Mean and deviation of each band: those that the weights were trained with where they say so, of the data otherwise."""
    from geoseg.models.weights.checkpoints import scaling_of

    given = None if settings.weights is None else scaling_of(settings.weights, bands)
    if given is not None and data.image.max() <= np.iinfo(np.uint8).max:
        return given
    by_band = data.image.reshape(len(data), -1, bands, *data.image.shape[2:])
    known = (by_band != 0).any(axis=2)
    values = [by_band[:, :, band][known] for band in range(bands)]
    return [float(v.mean()) for v in values], [float(v.std()) + 1e-3 for v in values]


def built(settings: DamageSettings, bands: int, dates: int, scaling: tuple[list[float], list[float]]) -> DamageNetwork:
    """A network with the weights that the settings name."""
    from geoseg.models.networks.build import build_network
    from geoseg.models.networks.config import NetworkConfig
    from geoseg.models.networks.pretrained import load_weights

    config = NetworkConfig("unet", settings.encoder, bands, 2, {"encoder_depth": 4, "decoder_channels": [64, 32, 16, 16]})
    network = build_network(config)
    if settings.weights is not None:
        load_weights(network, settings.weights, config=config, bands=("red", "green", "blue")[:bands], whole=False)
    return DamageNetwork(network.encoder, dates, len(CLASSES), settings.used, scaling, settings.views).eval()


def _features(network: DamageNetwork, data: DamageSet) -> Tensor:
    """Features (views, N, dates, F) of all buildings. The image before is looked at in any case: it shows them undamaged."""
    every, dates = [], range(network.dates)
    with torch.no_grad():
        for start in range(0, len(data), BATCH):
            image, mask = (torch.from_numpy(values[start : start + BATCH]) for values in (data.image, data.mask[:, None]))
            every.append(torch.stack([network.pooled(image, mask, view, dates) for view in range(network.views)]))
    return torch.cat(every, dim=1)


def _trained(
    network: DamageNetwork,
    features: Tensor,
    data: DamageSet,
    learn: I64,
    bands: int,
    settings: DamageSettings,
    rng: np.random.Generator,
    log: Callable[[str], None],
) -> DamageNetwork:
    """A copy of the network that has learned from some buildings."""
    own = copy.deepcopy(network)
    _fit_head(own, features[:, learn], torch.from_numpy(data.label[learn]), settings)
    return own if settings.steps == 0 else _tuned(own, Draws(data, learn, bands, settings.undamaged, rng), settings, log)


def _fit_head(network: DamageNetwork, features: Tensor, label: Tensor, settings: DamageSettings) -> None:
    """Set the head to the least ordinal loss with a ridge on its weights; every view of a building is an example.

    Args:
        network: Changed in place.
        features: (views, N, dates, F).
        label: (N,) classes.
        settings: Settings.
    """
    views, used = len(features), list(network.used)
    rows = features[:, :, used].flatten(2).flatten(0, 1)
    labels = label.repeat(views)
    weight = torch.from_numpy(chances(label.numpy())).float().repeat(views)
    weight /= weight.sum()
    if settings.undamaged > 0 and network.dates > 1:
        # The image before in the place of all dates; its views take turns, so that no two of them are the same.
        before = torch.stack([features[:, :, 0].roll(number, 0) for number in range(len(used))], dim=2)
        rows = torch.cat([rows, before.flatten(2).flatten(0, 1)])
        weight = torch.cat([weight, torch.full_like(weight, settings.undamaged / len(weight))])
        labels = torch.cat([labels, torch.zeros_like(labels)])
    network.feature_mean, network.feature_deviation = rows.mean(0), rows.std(0) + 1e-6
    parameters = [network.head.weight, network.head.bias]
    for parameter in parameters:
        torch.nn.init.zeros_(parameter)
    optimizer = torch.optim.LBFGS(parameters, max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = ordinal_loss(network.graded(rows), labels, weight) + settings.ridge * network.head.weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]  # torch's
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call, unused-ignore]  # torch's


def _tuned(network: DamageNetwork, draws: Draws, settings: DamageSettings, log: Callable[[str], None]) -> DamageNetwork:
    """A network that has learned further with all its weights; the average of them over the last steps."""
    network.views = 1
    average = copy.deepcopy(network)
    encoder = list(network.encoder.parameters())
    rates = [settings.rate * settings.encoder_rate, settings.rate]
    parts = encoder, list(network.head.parameters())
    groups = [{"params": part, "lr": rate} for part, rate in zip(parts, rates, strict=True)]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        rates,  # type: ignore[arg-type, unused-ignore]  # one a group of parameters, too
        total_steps=settings.steps,
        pct_start=0.1,
    )
    # Batch statistics of a few buildings say little: those of the encoder's weights stay.
    network.eval()
    for step in range(settings.steps):
        image, mask, label = draws.batch(settings.batch)
        loss = ordinal_loss(network(image, mask), label)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]  # torch's
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            keep = min(MOST_KEPT, (1 + step) / (10 + step))
            for mean, value in zip(average.parameters(), network.parameters(), strict=True):
                mean.lerp_(value, 1 - keep)
        if step % 50 == 49:
            log(f"step {step + 1}: loss {loss.item():.3f}")
    average.views = settings.views
    return average.eval()


def _scores(network: DamageNetwork, features: Tensor, data: DamageSet, which: I64, *, tuned: bool) -> Tensor:
    """Scores of some buildings, from their features unless the encoder has changed since."""
    with torch.no_grad():
        if not tuned:
            return network.graded(features[:, which].mean(0)[:, list(network.used)].flatten(1))
        parts = [
            network(torch.from_numpy(data.image[some]), torch.from_numpy(data.mask[some, None]))
            for some in np.array_split(which, ceil_div(len(which), BATCH) or 1)
        ]
    return torch.cat(parts)


def _best_temperature(scores: Tensor, label: Tensor) -> float:
    """The temperature of least negative log likelihood (Guo et al. 2017, arXiv:1706.04599)."""
    grid = np.exp(np.linspace(np.log(0.5), np.log(4), 60))
    likelihood = [
        float(torch.log(probabilities(scores / t).clamp_min(1e-6)).gather(1, label[:, None]).mean()) for t in grid.tolist()
    ]
    return float(grid[int(np.argmax(likelihood))])
