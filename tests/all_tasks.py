"""One task of each kind beside segmentation, for tests of their losses; needs torch."""

from __future__ import annotations

from geoseg.training.losses.tasks import Boundary, Distance, Regression, SceneClass, SceneClasses, Task

TASKS: tuple[Task, ...] = (
    Boundary(),
    Distance(truncate=8),
    SceneClass(3),
    SceneClasses(3),
    Regression((1.0, 0.0), (2.0, 1.0), stride=8),
)
