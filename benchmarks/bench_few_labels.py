"""Joplin's buildings by a few labels of the same half, as a table in Markdown: macro F1 of the buildings that have no label.

    python benchmarks/imagenet_weights.py
    python benchmarks/bench_few_labels.py right
    python benchmarks/bench_few_labels.py left

``right`` labels buildings of the right half and judges on the rest of it; beside it stands the network that has learned from all
labels of the other half, on the same rest. Compared are, with as many labels: ``geoseg damage --labels`` with the shipped encoder
of buildings and with ImageNet's (``--weights``), neither of which has seen Joplin, labels drawn at random and asked for by
``label_next.gpkg`` (ten at a time); the colours of each building by a random forest; and the recipe of HASTE: logistic regression
on random convolutional features (MOSAIKS; Rolf et al. 2021, doi:10.1038/s41467-021-24638-z). Random draws are repeated; what is
asked for is one course each, so that it has no spread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from bench_damage import CONFIG, LABELS, WEIGHTS, features, prepare
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from geoseg.damage.damage_settings import DamageSettings
from geoseg.damage.embedder import Embedded, Embedder, open_embedder
from geoseg.damage.event_model import EventData, learn_event, to_label
from geoseg.damage.network import probabilities
from geoseg.damage.pretrained_encoder import PretrainedEncoder
from geoseg.damage.samples import DamageSet
from geoseg.damage.scale import building_figures, decided
from geoseg.damage.training import train_damage
from geoseg.errors import ConfigError
from geoseg.models.card_values import DamageFacts
from geoseg.models.model_folder import load_model
from geoseg.vectors.polygon_file import PolygonFile
from pipeline.changes.run import pair_of
from pipeline.damage.buildings import collect_buildings, crops_of, labels_of, open_pair

COUNTS = (10, 30, 100)
DRAWS = 5
ASKED = 10
"""Labels that are asked for at a time."""
FILTERS, PATCH = 256, 3
"""Random convolutional features, of patches of so many pixels."""
BAR = 0.9
Ints = NDArray[np.int64]
Grader = Callable[[Ints], Ints]
"""From labelled buildings to the classes of all."""


def buildings(paths: list[str]) -> DamageSet:
    """The buildings of a half that have a class and are seen at both dates."""
    opened = open_pair(pair_of(paths), load_model("buildings").card, CONFIG)
    file = PolygonFile.open(LABELS)
    every = collect_buildings(file, opened, file.fields)
    kinds = dict(zip([b.number for b in every], labels_of(every, "damage").tolist(), strict=True))
    shown = [(b, c) for b, c in crops_of(every, opened, DamageFacts()) if c.reason is None and kinds[b.number] >= 0]
    return DamageSet(
        np.stack([c.image for _, c in shown]),
        np.stack([c.mask for _, c in shown]),
        np.array([kinds[b.number] for b, _ in shown]),
        np.array([[b.shape.centroid.y, b.shape.centroid.x] for b, _ in shown]),
    )


def embedded(data: DamageSet, embed: Embedder) -> EventData:
    parts = [embed(data.image[k : k + 64], data.mask[k : k + 64]) for k in range(0, len(data), 64)]
    whole = Embedded(np.concatenate([p.event for p in parts]), np.concatenate([p.before for p in parts]))
    return EventData.of(whole, data.place)


def random_features(data: DamageSet) -> NDArray[np.float64]:
    """Means over the footprint of both dates under random filters: patches of the images, and their opposites (MOSAIKS)."""
    rng = np.random.default_rng(0)
    image = torch.from_numpy(data.image.reshape(-1, 3, *data.image.shape[2:]) / 255).float()
    size = image.shape[-1] - PATCH
    patches = []
    for _ in range(FILTERS):
        n, row, col = rng.integers(len(image)), rng.integers(size), rng.integers(size)
        patches.append(image[n, :, row : row + PATCH, col : col + PATCH])
    filters = torch.stack(patches)
    filters = (filters - filters.mean((2, 3), keepdim=True)) / (filters.std((1, 2, 3), keepdim=True) + 1e-2)
    mask, found = torch.from_numpy(data.mask)[:, None], []
    for date in range(2):
        for start in range(0, len(data), 32):
            place = mask[start : start + 32]
            answer = torch.nn.functional.conv2d(image[date::2][start : start + 32], filters, padding=PATCH // 2)
            both = torch.cat([torch.relu(answer - 0.5), torch.relu(-answer - 0.5)], dim=1)
            found.append((date, (both * place).sum((2, 3)) / (place.sum((2, 3)) + 1e-3)))
    return np.concatenate([torch.cat([f for d, f in found if d == date]).numpy() for date in range(2)], axis=1).astype(float)


@dataclass(frozen=True)
class Half:
    """A half of Joplin, and what of it the methods see."""

    data: DamageSet
    colours: NDArray[np.float64]
    random: NDArray[np.float64]
    encoders: dict[str, EventData]

    @property
    def label(self) -> Ints:
        """Their classes."""
        return self.data.label

    def by_event(self, name: str) -> Grader:
        """``geoseg damage --labels``."""
        return lambda which: decided(learn_event(self.encoders[name], which, self.label[which]).probability)

    def by_forest(self, which: Ints) -> Ints:
        """A random forest on colours."""
        forest = RandomForestClassifier(300, class_weight="balanced", random_state=0, n_jobs=2)
        return np.asarray(forest.fit(self.colours[which], self.label[which]).predict(self.colours))

    def by_haste(self, which: Ints) -> Ints:
        """Logistic regression on random convolutional features."""
        x = StandardScaler().fit_transform(self.random)
        model = LogisticRegression(C=1.0, max_iter=500, class_weight="balanced")
        return np.asarray(model.fit(x[which], self.label[which]).predict(x))

    def asked(self, name: str, count: int) -> Ints:
        """Buildings that label_next.gpkg asks for, ten at a time."""
        data = self.encoders[name]
        which, p = np.empty(0, np.int64), None
        while len(which) < count:
            which = np.sort(np.concatenate([which, to_label(data, which, p, min(ASKED, count - len(which)))]))
            try:
                p = learn_event(data, which, self.label[which]).probability
            except ConfigError:
                # All of one class so far.
                p = None
        return which


def half(data: DamageSet) -> Half:
    pairs = [(image[:3, mask > 0], image[3:, mask > 0]) for image, mask in zip(data.image, data.mask, strict=True)]
    encoders = {"buildings": open_embedder(load_model("buildings"))[0], "ImageNet": PretrainedEncoder(str(WEIGHTS), 3)}
    return Half(
        data,
        np.array([features(*pair) for pair in pairs]),
        random_features(data),
        {name: embedded(data, embed) for name, embed in encoders.items()},
    )


def from_other_half(data: DamageSet, other: DamageSet, used: tuple[int, ...]) -> Ints:
    """Classes by the network that has learned from all labels of the other half, as ``train-damage`` does."""
    network, _ = train_damage(other, 3, DamageSettings(weights=str(WEIGHTS), used=used, folds=1))
    with torch.inference_mode():
        parts = [
            network(torch.from_numpy(data.image[k : k + 64]), torch.from_numpy(data.mask[k : k + 64, None]))
            for k in range(0, len(data), 64)
        ]
        return decided(probabilities(torch.cat(parts)).numpy())


def macro(found: Ints, truth: Ints, which: Ints) -> float:
    rest = np.setdiff1d(np.arange(len(truth)), which)
    return float(building_figures(found[rest], truth[rest])["macro_f1"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=["right", "left"], nargs="?", default="right")
    side = parser.parse_args().side
    started = time.monotonic()
    chips = prepare()
    here, there = (buildings(chips[name]) for name in ((side, "left" if side == "right" else "right")))
    place, truth = half(here), here.label
    others = {"both images": from_other_half(here, there, (0, 1)), "image after alone": from_other_half(here, there, (1,))}
    rows: list[tuple[str, Grader, str | None]] = []
    for name in ("ImageNet", "buildings"):
        rows.append((f"`--labels`, encoder {name}, asked for", place.by_event(name), name))
        rows.append((f"`--labels`, encoder {name}, at random", place.by_event(name), None))
    rows += [("random convolutional features (HASTE), at random", place.by_haste, None)]
    rows += [("colours, random forest, at random", place.by_forest, None)]
    print(f"| {side} half, {len(truth)} buildings | {' | '.join(f'{n} labels' for n in COUNTS)} |\n|---|{'---|' * len(COUNTS)}")
    for title, grader, asks in rows:
        cells = []
        for count in COUNTS:
            draws = (np.sort(np.random.default_rng(k).choice(len(truth), count, replace=False)) for k in range(DRAWS))
            chosen = [place.asked(asks, count)] if asks else list(draws)
            scores, shares = [], []
            for which in chosen:
                try:
                    score = macro(grader(which), truth, which)
                except (ConfigError, ValueError):
                    # All labels are of one class.
                    continue
                scores.append(score)
                shares.append(score / macro(others["both images"], truth, which))
            spread = f" ± {np.std(scores):.3f}" if len(scores) > 1 else ""
            cells.append(f"{np.mean(scores):.3f}{spread} ({100 * np.mean(shares):.0f} %)")
        print(f"| {title} | {' | '.join(cells)} |", flush=True)
    nothing = np.empty(0, np.int64)
    told = ", ".join(f"{name} {macro(found, truth, nothing):.3f}" for name, found in others.items())
    print(f"\nAll labels of the other half, on all of this one: {told}; the bar is {100 * BAR:.0f} % of the first at 30 labels.")
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
