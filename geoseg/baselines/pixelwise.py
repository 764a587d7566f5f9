"""Classifiers of single pixels by their bands and the 7 x 7 pixels around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from geoseg.arrays import F32, U8, Bools
from geoseg.baselines.draws import draw_pixels
from geoseg.baselines.texture import MARGIN, pixel_features
from geoseg.codes import NODATA
from geoseg.errors import ConfigError
from geoseg.training.data.chips import ChipSource

__all__ = ["Logistic", "RandomForest", "fit_logistic", "fit_random_forest"]

PIXELS = 100_000
TREES, LEAF = 60, 5
ROWS_AT_ONCE = 1 << 17


@dataclass(frozen=True, slots=True)
class Logistic:
    """Multinomial logistic regression."""

    codes: tuple[int, ...]
    """Class codes, K of them."""
    weights: tuple[tuple[float, ...], ...]
    """K rows of a weight for each feature."""
    bias: tuple[float, ...]
    """Of each class."""

    @property
    def margin(self) -> int | None:
        """Three pixels."""
        return MARGIN

    def predict(self, image: F32, valid: Bools) -> U8:
        """Class codes (h, w) of an image (C, h, w); 255 where not valid."""
        features = pixel_features(image, valid)
        if len(features) != len(self.weights[0]):
            raise ConfigError(f"baseline: an image of {len(image)} bands; the regression takes {len(self.weights[0]) // 3}")
        best = np.full(valid.shape, -np.inf)
        codes = np.full(valid.shape, NODATA, np.uint8)
        for code, row, bias in zip(self.codes, self.weights, self.bias, strict=True):
            # Feature after feature, so that a pixel's sum does not depend on where it lies in the array.
            score = np.full(valid.shape, bias)
            for weight, plane in zip(row, features, strict=True):
                score += weight * plane.astype(np.float64)
            larger = score > best
            codes[larger], best[larger] = code, score[larger]
        return np.where(valid, codes, np.uint8(NODATA))


def fit_logistic(sources: Sequence[ChipSource], rng: np.random.Generator, pixels: int = PIXELS) -> Logistic:
    """Logistic regression on drawn pixels, features standardized, without weights for rare classes.

    Raises:
        ConfigError: The labels hold one class only.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    drawn = draw_pixels(sources, pixel_features, MARGIN, pixels, rng)
    _check_classes(drawn.labels)
    scaler = StandardScaler().fit(drawn.values.astype(np.float64))
    model = LogisticRegression(max_iter=1000).fit(scaler.transform(drawn.values.astype(np.float64)), drawn.labels)
    weights = model.coef_ / scaler.scale_
    bias = model.intercept_ - weights @ scaler.mean_
    if len(weights) == 1:
        weights, bias = np.concatenate([0 * weights, weights]), np.concatenate([0 * bias, bias])
    return Logistic(tuple(model.classes_.tolist()), tuple(map(tuple, weights.tolist())), tuple(bias.tolist()))


@dataclass(frozen=True, slots=True, eq=False)
class RandomForest:
    """A random forest (Breiman 2001). It lives in memory alone: its trees have no form in JSON, and pickles are not read."""

    model: Any
    """scikit-learn's estimator."""

    @property
    def margin(self) -> int | None:
        """Three pixels."""
        return MARGIN

    def predict(self, image: F32, valid: Bools) -> U8:
        """Class codes (h, w) of an image (C, h, w); 255 where not valid."""
        features = pixel_features(image, valid)
        codes = np.full(valid.shape, NODATA, np.uint8)
        rows, cols = np.nonzero(valid)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            codes[rows[part], cols[part]] = self.model.predict(features[:, rows[part], cols[part]].T)
        return codes


def fit_random_forest(sources: Sequence[ChipSource], rng: np.random.Generator, pixels: int = PIXELS) -> RandomForest:
    """A random forest on drawn pixels: 60 trees, at least 5 pixels a leaf.

    Raises:
        ConfigError: The labels hold one class only.
    """
    from sklearn.ensemble import RandomForestClassifier

    drawn = draw_pixels(sources, pixel_features, MARGIN, pixels, rng)
    _check_classes(drawn.labels)
    # One thread: several would add up the votes of trees in any order.
    model = RandomForestClassifier(TREES, min_samples_leaf=LEAF, n_jobs=1, random_state=int(rng.integers(1 << 31)))
    return RandomForest(model.fit(drawn.values, drawn.labels))


def _check_classes(labels: U8) -> None:
    if len(np.unique(labels)) < 2:
        raise ConfigError(f"baseline: all labelled pixels are of class {labels[0]}; at least two classes are needed")
