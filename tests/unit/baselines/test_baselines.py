"""Classical methods: by their definitions, by brute force, and whatever the windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import skimage.filters
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from geoseg.baselines.catalogue import BASELINES, fit_baseline, predict_scene
from geoseg.baselines.contours import Contour
from geoseg.baselines.draws import draw_pixels
from geoseg.baselines.edges import Edges
from geoseg.baselines.indices import available, band_index
from geoseg.baselines.pixelwise import fit_logistic, fit_random_forest
from geoseg.baselines.texture import MARGIN, pixel_features
from geoseg.baselines.thresholds import Threshold, fit_histogram, fit_otsu
from geoseg.codes import UNLABELLED
from geoseg.errors import ConfigError
from geoseg.training.data.chips import Chip
from geoseg.windows import Window

RGB = ("red", "green", "blue")


@dataclass
class Drawing:
    """A scene in memory."""

    image: np.ndarray
    labels: np.ndarray
    valid: np.ndarray
    name: str = "drawing"

    @property
    def height(self) -> int:
        return int(self.valid.shape[0])

    @property
    def width(self) -> int:
        return int(self.valid.shape[1])

    def read(self, window: Window) -> Chip:
        whole = Window.of((self.height, self.width))
        inside = window & whole
        shape = window.shape
        image, valid = np.zeros((len(self.image), *shape), np.float32), np.zeros(shape, bool)
        labels = np.full(shape, UNLABELLED, np.uint8)
        if inside is not None:
            there, here = inside.slices_in(window), inside.slices
            image[(slice(None), *there)] = self.image[(slice(None), *here)]
            valid[there], labels[there] = self.valid[here], self.labels[here]
        return Chip(image, valid, labels)


def drawing(seed: int = 0, side: int = 150, noise: float = 10.0) -> Drawing:
    """Two kinds of land, the second brighter in red and rougher; a corner without data, a strip without labels."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(side, side)), 8)
    labels = (smooth > 0).astype(np.uint8)
    image = np.stack([60 + 35.0 * labels, np.full_like(smooth, 90), 70 - 10.0 * labels])
    image = (image + noise * rng.normal(size=image.shape) * (1 + labels)).astype(np.float32)
    valid = np.ones_like(labels, bool)
    valid[:20, :30] = False
    image[:, ~valid] = 0
    labels = np.where(valid, labels, UNLABELLED).astype(np.uint8)
    labels[100:104] = UNLABELLED
    return Drawing(image, labels, valid)


def predicted(baseline: object, scene: Drawing) -> np.ndarray:
    out = np.full(scene.valid.shape, 99, np.uint8)
    for window, codes in predict_scene(baseline, scene):  # type: ignore[arg-type]
        out[window.slices] = codes
    return out


def bands_alone(image: np.ndarray, _valid: np.ndarray) -> np.ndarray:
    return image


def accuracy(found: np.ndarray, scene: Drawing) -> float:
    known = scene.labels < 2
    return float((found == scene.labels)[known].mean())


@pytest.mark.parametrize("name", BASELINES)
def test_each_learns_what_can_be_seen(name: str) -> None:
    scene, other = drawing(0), drawing(1)
    baseline = fit_baseline(name, [scene], RGB, np.random.default_rng(0))
    found = predicted(baseline, other)
    # Without data there is no class, with data there always is one; edges are a poor way to tell areas apart.
    assert np.array_equal(found == UNLABELLED, ~other.valid)
    assert set(np.unique(found[other.valid])) <= {0, 1}
    assert accuracy(found, other) > (0.5 if name == "canny" else 0.85)
    assert np.array_equal(predicted(fit_baseline(name, [scene], RGB, np.random.default_rng(0)), other), found)


def test_local_methods_do_not_depend_on_windows() -> None:
    scene = drawing(2)
    for fit in (fit_logistic, fit_random_forest):
        baseline = fit([scene], np.random.default_rng(0), 3000)
        whole = scene.read(Window.of((scene.height, scene.width)))
        wanted = baseline.predict(whole.image, whole.valid)
        for part in Window.of((scene.height, scene.width)).parts(47):
            wide = part.grown(MARGIN)
            chip = scene.read(wide)
            assert np.array_equal(baseline.predict(chip.image, chip.valid)[part.slices_in(wide)], wanted[part.slices])


def test_features_are_means_and_deviations_of_valid_pixels() -> None:
    scene = drawing(3, side=40)
    features = pixel_features(scene.image, scene.valid)
    for row, col in [(0, 0), (21, 29), (19, 31), (39, 39), (25, 10)]:
        around = np.s_[max(0, row - 3) : row + 4, max(0, col - 3) : col + 4]
        for band in range(3):
            values = scene.image[band][around][scene.valid[around]].astype(np.float64)
            expected = (values.mean(), values.std()) if values.size else (0, 0)
            assert features[[3 + band, 6 + band], row, col] == pytest.approx(expected, abs=1e-3)


def test_logistic_regression_is_that_of_scikit_learn() -> None:
    scene = drawing(4)
    drawn = draw_pixels([scene], pixel_features, MARGIN, 4000, np.random.default_rng(0))
    scaler = StandardScaler().fit(drawn.values)
    model = LogisticRegression(max_iter=1000).fit(scaler.transform(drawn.values), drawn.labels)
    mine = fit_logistic([scene], np.random.default_rng(0), 4000)
    features = pixel_features(scene.image, scene.valid)[:, scene.valid].T
    agree = mine.predict(scene.image, scene.valid)[scene.valid] == model.predict(scaler.transform(features))
    assert agree.mean() > 0.9999


def test_pixels_are_drawn_evenly_and_only_labelled_ones() -> None:
    scene = drawing(5)
    scene.image[0] = np.arange(scene.height * scene.width).reshape(scene.valid.shape)
    drawn = draw_pixels([scene, scene], bands_alone, 0, 2000, np.random.default_rng(1))
    at = drawn.values[:, 0].astype(int)
    known = (scene.labels < 2) & scene.valid
    assert known.ravel()[at].all()
    assert np.array_equal(drawn.labels, scene.labels.ravel()[at])
    assert np.mean(drawn.labels) == pytest.approx(scene.labels[known].mean(), abs=0.04)
    every = draw_pixels([scene], bands_alone, 0, 10**6, np.random.default_rng(1))
    assert len(every.labels) == known.sum()
    bare = Drawing(scene.image, np.full_like(scene.labels, UNLABELLED), scene.valid)
    with pytest.raises(ConfigError, match="labelled pixel"):
        draw_pixels([bare], bands_alone, 0, 10, np.random.default_rng(1))


def test_thresholds_by_brute_force() -> None:
    scene = drawing(6)
    red = scene.image[0][scene.labels < 2].astype(np.float64)
    mine = fit_otsu([scene], RGB, np.random.default_rng(0), "red")
    assert mine.threshold == pytest.approx(skimage.filters.threshold_otsu(red, nbins=256))
    assert mine.above == 1
    best = fit_histogram([scene], RGB, np.random.default_rng(0), "red")

    def score(threshold: float) -> float:
        truth, found = scene.labels[scene.labels < 2], red > threshold
        return float(np.mean([(found == k)[truth == k].sum() / ((found == k) | (truth == k)).sum() for k in (0, 1)]))

    assert best.threshold is not None
    edges = np.histogram_bin_edges(red, 256)
    assert score(best.threshold) == pytest.approx(max(score(edge) for edge in edges[1:-1]), abs=2e-3)
    assert predicted(best, scene)[50, 50] == (scene.image[0, 50, 50] > best.threshold)


def test_indices_by_their_formulae() -> None:
    bands = ("red", "green", "blue", "nir")
    image = np.array([40, 60, 30, 90], np.float32).reshape(4, 1, 1)
    expected = {
        "ndvi": 50 / 130,
        "ndwi": -30 / 150,
        "vari": 20 / 70,
        "excess-green": (2 * 60 - 40 - 30) / 130,
        "brightness": 55,
        "nir": 90,
    }
    for name, value in expected.items():
        assert band_index(name, image, bands)[0, 0] == pytest.approx(value)
    assert not np.isnan([band_index(name, 0 * image, bands) for name in available(bands)]).any()
    assert "ndvi" not in available(RGB)
    with pytest.raises(ConfigError, match="'ndvi' can't be computed"):
        band_index("ndvi", image[:3], RGB)


def test_edges_fill_shapes_and_contours_find_a_disc() -> None:
    rows, cols = np.mgrid[:120, :120]
    disc = np.hypot(rows - 60, cols - 55) < 30
    rng = np.random.default_rng(0)
    image = (50 + 60.0 * disc + rng.normal(0, 3, disc.shape))[None].astype(np.float32)
    valid = np.ones_like(disc)
    valid[:10] = False
    edges = Edges("gray", ("gray",), 2.0, 0.9, 2, filled=True, inside=1)
    found = edges.predict(image, valid)
    assert (found[valid] == disc[valid]).mean() > 0.97
    assert (found[~valid] == UNLABELLED).all()
    noisy = image + rng.normal(0, 30, image.shape).astype(np.float32)
    contour = Contour("gray", ("gray",), 2, 40, 1).predict(noisy, valid)
    plain = Threshold("gray", ("gray",), None, 1).predict(noisy, valid)
    assert (contour[valid] == disc[valid]).mean() > 0.97 > (plain[valid] == disc[valid]).mean()
    # What is not valid has no influence.
    other = noisy.copy()
    other[:, ~valid] = 1e4
    assert np.array_equal(Contour("gray", ("gray",), 2, 40, 1).predict(other, valid), contour)


def test_what_can_not_be_fitted_says_so() -> None:
    scene = drawing(7)
    rng = np.random.default_rng(0)
    with pytest.raises(ConfigError, match="not one of"):
        fit_baseline("snakes", [scene], RGB, rng)
    with pytest.raises(ConfigError, match="2 classes apart, not 3"):
        fit_baseline("otsu", [scene], RGB, rng, classes=3)
    alone = Drawing(scene.image, np.where(scene.labels < 2, np.uint8(1), scene.labels), scene.valid)
    for name in ("logistic", "random-forest"):
        with pytest.raises(ConfigError, match="all labelled pixels are of class 1"):
            fit_baseline(name, [alone], RGB, rng)
