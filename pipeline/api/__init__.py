"""The verbs of geoseg as functions, one a command: ``import geoseg; geoseg.segment(...)``.

Keywords have the names, units and defaults of the command line, and errors are geoseg's own, with the same sentences. Nothing
heavy is imported before a verb is called.
"""

from __future__ import annotations

from pipeline.api.composing import composite
from pipeline.api.judging import area, deliver, evaluate, match, sample, screen
from pipeline.api.loading import load
from pipeline.api.making import adopt, calibrate, quantize, train
from pipeline.api.mapping import deforestation, grade_damage, segment, vectorize
from pipeline.api.reviewing import review

__all__ = [
    "adopt",
    "area",
    "calibrate",
    "composite",
    "deforestation",
    "deliver",
    "evaluate",
    "grade_damage",
    "load",
    "match",
    "quantize",
    "review",
    "sample",
    "screen",
    "segment",
    "train",
    "vectorize",
]
