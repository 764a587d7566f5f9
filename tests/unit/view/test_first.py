"""What is listed first is what deserves it."""

from __future__ import annotations

import numpy as np

from pipeline.view.first import PER_CLASS, Figures, first_rows, order_of


def test_orders() -> None:
    figures = Figures(
        np.array([3, 0, 254, 3, 1]), np.array([10.0, 1000.0, 5.0, 20.0, 90.0]), np.array([60.0, 99.0, np.nan, 90.0, 50.0])
    )
    assert order_of(figures, "area").tolist() == [1, 4, 3, 0, 2]
    # 4, 10, 5, 2, 45 square metres are expected to be wrong; where nothing was graded, all of them.
    assert order_of(figures, "doubt").tolist() == [4, 1, 2, 0, 3]
    assert order_of(figures, "severity").tolist() == [3, 0, 4, 1, 2]
    sure = figures.confidence
    assert order_of(figures, "unsure").tolist() == sorted(range(5), key=lambda k: (sure[k] != sure[k], sure[k]))


def test_of_each_class_the_first_by_each_order_are_listed() -> None:
    rng = np.random.default_rng(0)
    codes, areas, confidence = rng.integers(0, 3, 5000), rng.lognormal(5, 2, 5000), rng.uniform(0, 100, 5000)
    codes[codes == 2] = np.where(rng.random((codes == 2).sum()) < 0.05, 2, 1)
    listed = set(first_rows(Figures(codes, areas, confidence)).tolist())
    for score in (areas, areas * (100 - confidence), confidence):
        for code in range(3):
            of_class = np.flatnonzero(codes == code)
            assert set(of_class[np.argsort(-score[of_class])][:PER_CLASS].tolist()) <= listed
    assert len(listed) <= 3 * 3 * PER_CLASS
