"""Statistics of windows, what a card keeps of them, how far an image lies from them, and the map that brings it nearest."""

from __future__ import annotations

from collections import Counter
from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from geoseg.domain.facts import ImageFacts, facts_of, image_facts, repeated_value
from geoseg.domain.matching import match_values
from geoseg.domain.moments import LAGS, WINDOW_PX, measure_windows
from geoseg.domain.reference import Reference, deviations, reference_of, score_of
from geoseg.models.card import Card
from geoseg.models.domain_facts import SHARES

COLORS = np.array([[30.0, 48, 52], [95, 84, 78]])
"""Forest and clearing, by band."""


@cache
def _field(seed: int, side: int) -> np.ndarray:
    return ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((side, side)), 12)


def landscape(seed: int, side: int = 256) -> np.ndarray:
    """(3, side, side): patches of two kinds, of which each scene has another share, in the light of its day."""
    rng = np.random.default_rng(seed)
    field = _field(seed, side)
    share = np.clip((field - np.quantile(field, rng.uniform(0.3, 0.99))) / field.std() * 3, 0, 1)
    image = COLORS[0][:, None, None] + (COLORS[1] - COLORS[0])[:, None, None] * share
    return image * rng.uniform(0.95, 1.05) + rng.normal(0, 2, image.shape) * np.array([1.2, 1, 0.6])[:, None, None]


def facts(image: np.ndarray) -> ImageFacts:
    return image_facts([(image, np.ones(image.shape[1:], np.bool_))], len(image))


def card_of(domain: object, **more: object) -> Card:
    given = {
        "name": "made",
        "description": "made",
        "license": "x",
        "architecture": "x",
        "bands": ("red", "green", "blue"),
        "stride": 1,
        "scaling": [{"mean": 50.0, "stddev": 25.0}] * 3,
        "global_context": True,
        "domain": domain,
        "classes": [{"value": k, "name": str(k), "color": "#000000"} for k in range(2)],
        "value_range": (0, 255),
    } | more
    return Card.model_validate(given)


@pytest.fixture(scope="module")
def reference() -> Reference:
    domain = facts_of([facts(landscape(seed)) for seed in range(12)], (0, 255))
    found = reference_of(card_of(domain))
    assert found is not None
    return found


def score(reference: Reference, image: np.ndarray) -> float:
    return score_of(reference.distances(facts(image).stats))


def test_moments_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    image, valid = rng.normal(50, 20, (3, WINDOW_PX, WINDOW_PX + 10)), rng.random((WINDOW_PX, WINDOW_PX + 10)) > 0.2
    stats = measure_windows(image, valid)
    # The rest of ten columns is no window of its own.
    assert len(stats) == 1
    part, mask = image[:, :, :WINDOW_PX], valid[:, :WINDOW_PX]
    np.testing.assert_allclose(stats.mean[0], [np.mean(band[mask]) for band in part])
    np.testing.assert_allclose(stats.moments[0, 0], np.cov(part[:, mask], bias=True))
    for place, lag in enumerate(LAGS, 1):
        pairs = [
            (part[:, r, c], part[:, r2, c2])
            for r in range(WINDOW_PX)
            for c in range(WINDOW_PX)
            for r2, c2 in ((r + lag, c), (r, c + lag))
            if r2 < WINDOW_PX and c2 < WINDOW_PX and mask[r, c] and mask[r2, c2]
        ]
        differences = np.array([b - a for a, b in pairs])
        np.testing.assert_allclose(stats.moments[0, place], differences.T @ differences / len(differences))


def test_statistics_of_mapped_values_follow_from_those_of_values() -> None:
    image, valid = landscape(3), np.ones((256, 256), np.bool_)
    scale, offset = np.array([2.0, 0.5, -3.0]), np.array([7.0, -1.0, 0.0])
    mapped = measure_windows(image, valid).mapped(scale, offset)
    measured = measure_windows(image * scale[:, None, None] + offset[:, None, None], valid)
    np.testing.assert_allclose(mapped.mean, measured.mean)
    np.testing.assert_allclose(mapped.moments, measured.moments)


def test_windows_without_data_are_left_out() -> None:
    image, valid = landscape(0), np.ones((256, 256), np.bool_)
    valid[:140] = False
    assert len(measure_windows(image, valid)) == 2
    assert len(measure_windows(image, np.zeros_like(valid))) == 0
    assert len(measure_windows(image[:, :20, :20], valid[:20, :20])) == 0


def test_scenes_of_the_same_kind_are_near_and_others_far(reference: Reference) -> None:
    for seed in range(100, 106):
        assert score(reference, landscape(seed)) <= reference.limit
    for seed in range(100, 102):
        image = landscape(seed)
        others = {
            "reversed bands": image[::-1],
            "stretched": (image - 30) * 3,
            "darkened": image * 0.3,
            "gray": image[[1, 1, 1]],
            "sharper": image + np.random.default_rng(seed).normal(0, 12, image.shape),
        }
        for name, other in others.items():
            assert score(reference, other) > reference.limit, name


def test_what_is_far_is_said(reference: Reference) -> None:
    image = landscape(100)
    image[0] += 150
    stats = facts(image).stats
    words = deviations(reference, stats, ("red", "green", "blue"))
    assert words[0].startswith("red is brighter (")
    assert f"({np.median(stats.mean[:, 0]):.4g}, there" in words[0]


def test_quantiles_of_a_card_are_those_of_the_pixels() -> None:
    images = [landscape(seed) for seed in range(8)]
    domain = facts_of([facts(image) for image in images], (0, 255))
    assert domain is not None
    pixels = np.concatenate([image.reshape(3, -1) for image in images], axis=1)
    np.testing.assert_allclose(np.array(domain.quantiles), np.quantile(pixels, SHARES, axis=1).T, atol=1.0)
    np.testing.assert_allclose(domain.mean, pixels.mean(axis=1), rtol=0.01)
    np.testing.assert_allclose(domain.stddev, pixels.std(axis=1), rtol=0.01)
    assert facts_of([facts(images[0])]) is None


def test_saturated_constant_and_repeated_pixels() -> None:
    image = np.random.default_rng(0).integers(1, 200, (3, 256, 256)).astype(np.float64)
    image[:, :64] = 255
    every = [facts(landscape(seed)) for seed in range(8)]
    domain = facts_of([*every, facts(image)], (0, 255))
    assert domain is not None
    assert (domain.saturated, domain.repeated) == pytest.approx((0.25, 0.25), abs=0.005)
    assert domain.constant == pytest.approx(0.25, abs=0.005)


def test_the_most_common_pixel() -> None:
    values = np.array([[1, 1, 2, 1, 2, 2, 1], [5, 5, 5, 5, 6, 6, 5]], np.float64)
    assert repeated_value(values) == ((1.0, 5.0), 4 / 7)
    assert repeated_value(np.empty((2, 0))) == ((), 0.0)


@pytest.mark.parametrize(("bands", "most"), [(1, 40), (4, 3), (3, 2), (12, 30_000)])
def test_the_most_common_pixel_is_the_one_that_is_counted(bands: int, most: int) -> None:
    """Of many bands, too, whose values have more combinations than an integer; among equals the least in its last band."""
    rng = np.random.default_rng(bands)
    values = rng.integers(-most, most, (bands, 5000)) * 0.5
    values[:, 100:102], values[:, 200:202] = values[:, :1], values[:, 1:2]
    counts = Counter(map(tuple, values.T.tolist()))
    expected = min(counts, key=lambda pixel: (-counts[pixel], pixel[::-1]))
    assert repeated_value(values) == (expected, counts[expected] / 5000)


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (13.95, 0.0), (7.8, 1000.0), (1 / 255, 0.0), (257.0, 0.0)])
@pytest.mark.parametrize("seed", [100, 101, 102])
def test_the_map_that_brings_an_image_nearest_undoes_what_was_done(
    reference: Reference, gain: float, offset: float, seed: int
) -> None:
    image = landscape(seed)
    match = match_values(facts(image * gain + offset).stats, reference)
    assert not match.by_band
    assert len({*match.scale}) == len({*match.offset}) == 1
    # What matters is the value that a pixel has in the end.
    dark, bright = (float(v) * gain + offset for v in np.quantile(image, (0.05, 0.95)))
    for value in (dark, bright):
        assert value * match.scale[0] + match.offset[0] == pytest.approx((value - offset) / gain, abs=6)
    assert match.score <= reference.limit


def test_bands_that_were_stretched_apart_are_mapped_apart(reference: Reference) -> None:
    image = landscape(100)
    gains, offsets = np.array([2.5, 0.4, 6.0])[:, None, None], np.array([0.0, 90, -100])[:, None, None]
    match = match_values(facts(image * gains + offsets).stats, reference)
    assert match.by_band
    assert match.score <= reference.limit


def test_cards_that_know_mean_and_deviation_only() -> None:
    old = reference_of(card_of(None, scaling=[{"mean": m, "stddev": s} for m, s in ((47, 25), (58, 14), (59, 10))]))
    assert old is not None
    assert not old.measured
    assert all(score(old, landscape(seed)) <= old.limit for seed in range(8))
    assert score(old, landscape(0) + 200) > old.limit
    match = match_values(facts(landscape(0) * 14).stats, old)
    assert np.mean(landscape(0) * 14 * match.scale[0] + match.offset[0]) == pytest.approx(np.mean(landscape(0)), abs=25)


@pytest.mark.parametrize(
    "scaling", [((0, 1),) * 3, ((0.5, 0.5),) * 3, ((123.675, 58.395), (116.28, 57.12), (103.53, 57.375)), ((127.5, 127.5),) * 3]
)
def test_numbers_that_nobody_measured_tell_nothing(scaling: tuple[tuple[float, float], ...]) -> None:
    assert reference_of(card_of(None, scaling=[{"mean": m, "stddev": s} for m, s in scaling])) is None
