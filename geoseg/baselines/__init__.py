"""Classical methods to compare networks with: thresholds, edges, contours, and classifiers of single pixels. No torch.

They are reached from ``benchmarks/bench_baselines.py``, which judges them as ``geoseg evaluate`` judges maps (docs/accuracy.md);
in Python, ``catalogue.fit_baseline`` and ``catalogue.predict_scene``.
"""
