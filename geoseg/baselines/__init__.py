"""Classical methods to compare networks with: thresholds, edges, contours, and classifiers of single pixels. No torch.

They are reached by ``geoseg evaluate --baseline``, which judges them on the pixels of the maps; in Python,
``judgement.judge_baseline``, or ``catalogue.fit_baseline`` and ``catalogue.predict_scene``.
"""
