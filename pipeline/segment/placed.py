"""The placement of an output folder: decided with its first scene, kept for later ones."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from pipeline.plan.engine_choice import Placement
from pipeline.segment.planned import SceneJob

__all__ = ["keep_placement", "kept_placement"]


def kept_placement(job: SceneJob) -> Placement | None:
    """What was decided in this folder for the same model and the same wishes."""
    try:
        return Placement(**json.loads(_path(job).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        # Not there, or not whole: it is decided anew, and a scene that is under way keeps its own.
        return None


def keep_placement(job: SceneJob, placement: Placement) -> Placement:
    """Keep what was decided, unless somebody else was first; returns what holds."""
    path = _path(job)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, part = tempfile.mkstemp(prefix=".geoseg-placement-", suffix=".part", dir=path.parent)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(placement), file)
    try:
        with suppress(FileExistsError):
            # Unlike a rename, a link replaces nothing.
            os.link(part, path)
    except OSError:  # a file system without links
        Path(part).replace(path)
    finally:
        Path(part).unlink(missing_ok=True)
    return kept_placement(job) or placement


def _path(job: SceneJob) -> Path:
    infer = job.config.infer
    wishes = [job.model.sha256, infer.engine, infer.device, infer.compile, infer.provider]
    return job.out / f".geoseg-placement-{hashlib.sha256(json.dumps(wishes).encode()).hexdigest()[:12]}.json"
