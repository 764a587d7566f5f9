"""Calibration: a model and labelled scenes in, the model with probabilities that are frequencies out."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg.calibration.measures import Brief, Tally, bootstrap
from geoseg.calibration.pixel_sample import PixelSample
from geoseg.calibration.selection import BEFORE, candidates, choose, tally_of
from geoseg.codes import UNLABELLED
from geoseg.errors import ConfigError
from geoseg.inference.choice import open_engine
from geoseg.inference.chunks import score_chunk
from geoseg.inference.decision import Decision
from geoseg.inference.engine import Engine
from geoseg.inference.reading import open_reader
from geoseg.labels.labels import Labels
from geoseg.models.card import Card
from geoseg.models.model_folder import Model
from geoseg.training.data.splits import held_out_blocks, held_out_scenes
from geoseg.windows import Window
from pipeline.calibrate.calibrate_settings import CalibrationSettings
from pipeline.calibrate.labelled_scenes import given_scenes, labels_of
from pipeline.calibrate.model_folder import CalibrationReport, target_of, write_calibrated
from pipeline.config.sections import Config
from pipeline.plan.make import make_plan
from pipeline.plan.plan import Plan
from pipeline.plan.value_settings import refuse_values
from pipeline.train.label_files import pair_labels

__all__ = ["Calibrated", "calibrate"]

log = logging.getLogger(__name__)

BLOCKS = 8
"""Blocks along the longer side of a single scene."""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A calibrated model, with its figures."""

    model: Model
    method: str
    """The method; ``before`` where what the model had is best."""
    figures: CalibrationReport
    """Content of ``calibration.json``."""


@dataclass(frozen=True, slots=True, eq=False)
class _Labelled:
    """A scene with its labels, and its held-out blocks."""

    plan: Plan
    labels: Labels
    held: tuple[Window, ...]
    """Held-out windows: nothing, the whole scene, or blocks of it."""
    margin: int
    """Pixels around them that are not fitted on."""

    def parts(self, *, held: bool, core: Window) -> Iterator[tuple[int, Window]]:
        """The held-out windows within a core by their number; or the core where it is fitted on."""
        if not held:
            yield 0, core
            return
        for number, window in enumerate(self.held):
            common = window & core
            if common is not None:
                yield number, common

    def without_held(self, codes: NDArray[np.uint8], core: Window) -> NDArray[np.uint8]:
        """The labels of a core, UNLABELLED where held out or next to it."""
        for window in self.held:
            near = window.grown(self.margin)
            common = near & core
            if common is not None:
                codes[common.slices_in(core)] = UNLABELLED
        return codes


def calibrate(
    model: Model,
    images: Sequence[str],
    labels: Sequence[str],
    out: Path | None,
    config: Config,
    settings: CalibrationSettings,
    *,
    overwrite: bool = False,
) -> Calibrated:
    """Fit a calibration on one part of labelled scenes, measure it on the other, and write the model with it.

    Several scenes are divided by scene; a single one by blocks, with a margin between the parts. ``auto`` takes the method
    that does best in a cross-validation within the first part, or leaves the model as it is where none helps.

    Args:
        model: The model.
        images: Files, folders and globs of scenes.
        labels: A file for each scene, by the same stem, or a folder of them; or one file for all. Class rasters, or vectors.
        out: The model folder to make; by default the name of the model with ``-calibrated``, here.
        config: Sections scene, grid and infer: opening of scenes, and runs of the network.
        settings: The method, and the division of the scenes.
        overwrite: Replace a folder that is there.

    Raises:
        ConfigError: Scenes or labels are missing, or too few pixels are labelled.
        SceneError: A scene or its labels can't be read.
        OutputError: The folder is there.
    """
    refuse_values(model.card, "calibrate", "values have no probabilities to make frequencies of")
    out = target_of(model, out, "-calibrated", overwrite=overwrite)
    scenes = _open_scenes(model, images, labels, config, settings)
    engines = _Engines(model, config, scenes[0].plan)
    card = model.card
    sample = _sample(scenes, engines, card, settings.seed)
    cards = candidates(settings.method, sample, card)
    tallies, units = _measure(scenes, engines, cards)
    if not tallies[BEFORE].pixels:
        raise ConfigError("labels: no labelled pixel is in the held-out part; label more, or change --holdout or --seed")
    chosen = choose(cards, sample, card) if settings.method == "auto" else settings.method
    figures = _figures(model, chosen, settings.seed, len(sample), scenes, tallies, units)
    return Calibrated(write_calibrated(model, cards[chosen], tallies, chosen, figures, out, overwrite=overwrite), chosen, figures)


def _figures(
    model: Model,
    chosen: str,
    seed: int,
    fitted_on: int,
    scenes: Sequence[_Labelled],
    tallies: dict[str, Tally],
    units: dict[str, list[Brief]],
) -> CalibrationReport:
    """The report of a calibration."""
    shown = tuple(dict.fromkeys((BEFORE, chosen)))
    return {
        "model": model.card.name,
        "model_sha256": model.sha256,
        "method": chosen,
        "seed": seed,
        "fitted_on": {"pixels": fitted_on, "scenes": [s.plan.scene.name for s in scenes if not _is_whole(s)]},
        "held_out": {"pixels": tallies[BEFORE].pixels, "scenes": [s.plan.scene.name for s in scenes if s.held]},
        "measures": {name: tally.summary() for name, tally in tallies.items()},
        "intervals_95": {name: bootstrap(units[name], np.random.default_rng(seed)) for name in shown},
        "reliability": {name: tallies[name].diagram().to_json() for name in shown},
    }


def _sample(scenes: Sequence[_Labelled], engines: _Engines, card: Card, seed: int) -> PixelSample:
    """Scores and labels to fit on."""
    sample = PixelSample(card.scores, len(card.classes), np.random.default_rng(seed))
    for number, scene in enumerate(scenes):
        for _, scores, codes in _labelled_scores(scene, engines, held=False):
            sample.add(scores, codes, number)
    log.info("fitted on %s labelled pixels of %d scenes", f"{len(sample):,}", sum(not _is_whole(s) for s in scenes))
    return sample


def _is_whole(scene: _Labelled) -> bool:
    """Whether all of a scene is held out."""
    return scene.held == (scene.plan.grid.scene,)


def _open_scenes(
    model: Model, images: Sequence[str], labels: Sequence[str], config: Config, settings: CalibrationSettings
) -> list[_Labelled]:
    pairs = pair_labels(given_scenes(images, config), labels)
    names = [ref.name for ref, _ in pairs]
    whole = held_out_scenes(names, settings.holdout, settings.seed) if len(names) > 1 else frozenset()
    scenes = []
    for number, (ref, path) in enumerate(pairs):
        plan = make_plan(ref, model, config)
        plan = replace(plan, grid=replace(plan.grid, blend=False))
        scene, margin = plan.scene, 0
        held: tuple[Window, ...] = (plan.grid.scene,) if number in whole else ()
        if len(names) == 1:
            side = max(8, -(-max(scene.height, scene.width) // BLOCKS))
            held, margin = tuple(held_out_blocks(scene.height, scene.width, settings.holdout, side, settings.seed)), side // 8
        scenes.append(_Labelled(plan, labels_of(path, plan, model.card, settings.column), held, margin))
    return scenes


class _Engines:
    """The engine of the last scene, kept as long as scenes have the same values."""

    def __init__(self, model: Model, config: Config, plan: Plan) -> None:
        self._model, self._config = model, config
        self._engine, self._normalization = self._opened(plan), plan.normalization

    def of(self, plan: Plan) -> Engine:
        """The engine for a scene."""
        if plan.normalization != self._normalization:
            self._engine = self._opened(plan)
            self._normalization = plan.normalization
        return self._engine

    def _opened(self, plan: Plan) -> Engine:
        infer = self._config.infer
        return open_engine(
            plan.engine, self._model, plan.normalization, threads=infer.threads, batch=infer.batch, device=plan.device
        )


def _labelled_scores(
    scene: _Labelled, engines: _Engines, *, held: bool
) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.uint8]]]:
    """Number of the held-out window, scores (K, h, w) before calibration, labels (h, w), piece by piece."""
    if (held and not scene.held) or (not held and _is_whole(scene)):
        return
    plan, engine = scene.plan, engines.of(scene.plan)
    with open_reader(plan.scene, plan.bands, threads=2, cache_bytes=plan.cache_bytes) as reader:
        for index in plan.active:
            chunk = plan.grid.chunk_at(index)
            codes: dict[Window, NDArray[np.uint8]] = {}

            def wanted(core: Window, codes: dict[Window, NDArray[np.uint8]] = codes) -> bool:
                if held and not any(window & core for window in scene.held):
                    return False
                labels = scene.labels.read(core)[0]
                codes[core] = labels if held else scene.without_held(labels, core)
                return bool((codes[core] != UNLABELLED).any())

            pixels = reader.read(chunk.window)
            for core, scores in score_chunk(plan.grid, chunk, pixels, engine, wanted):
                labels = codes.pop(core)
                labels[~pixels.shown[core.slices_in(chunk.window)]] = UNLABELLED
                for number, part in scene.parts(held=held, core=core):
                    rows, cols = part.slices_in(core)
                    yield number, scores[:, rows, cols], labels[rows, cols]


def _measure(
    scenes: Iterable[_Labelled], engines: _Engines, cards: dict[str, Card]
) -> tuple[dict[str, Tally], dict[str, list[Brief]]]:
    """Measures over all that is held out, and in brief by scene, or by block of a single scene."""
    decisions = {name: Decision.of(card) for name, card in cards.items()}
    total = {name: tally_of(card) for name, card in cards.items()}
    units: dict[str, list[Brief]] = {name: [] for name in cards}
    for scene in scenes:
        parts: dict[tuple[str, int], Tally] = {}
        for number, scores, codes in _labelled_scores(scene, engines, held=True):
            for name, decision in decisions.items():
                p = decision.probabilities(np.ascontiguousarray(scores))
                tally = parts.setdefault((name, number), tally_of(cards[name]))
                tally.add(decision.by_class(p), codes)
        for (name, _), tally in parts.items():
            if tally.pixels:
                total[name] += tally
                units[name].append(tally.brief())
    return total, units
