"""From labelled scenes to a trained network.

``run.py`` is the way: a ``TrainingPlan`` and scenes in, a trained network out. It builds the network, the chips (``feed.py``,
``data/``, ``augment/``), the terms of the loss (``loss_terms.py``, ``losses/``, ``transfer/``), and hands them to ``loop.py``.
Knows no files but scenes, labels, and what a training leaves.
"""
