"""The first stage of a composite: its scenes, and how much of them is in memory at once."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from geoseg.dialect import setting
from geoseg.documents import Json
from geoseg.errors import ConfigError, SceneError
from geoseg.parallel import cores
from geoseg.scenes.sources import list_scenes
from pipeline.composite.imaging import CHUNK, OPEN, Reading, cells_of, chunks_of
from pipeline.composite.observing import Observations, observe
from pipeline.composite.periods import name_of
from pipeline.config.memory import BASE_BYTES
from pipeline.config.sections import Config
from pipeline.files.version import code_version
from pipeline.plan.memory import process_budget
from pipeline.plan.options import stac_search

__all__ = ["Document", "PlannedComposite", "plan_composite"]

log = logging.getLogger(__name__)

SIDES = (512, 256, 128, 64)
MOST_THREADS = 4
WRITING_BYTES = 256 << 20
"""A square of 4096 pixels that is written: its pixels, and what its overviews are made of."""
Document: TypeAlias = dict[str, Json]


@dataclass(frozen=True, slots=True, eq=False)
class PlannedComposite:
    """A run before its first pixel is read."""

    found: Observations
    reading: Reading
    threads: int
    memory_bytes: int
    """At most."""
    identity: str
    """sha256 of all that the result depends on."""

    def describe(self) -> Document:
        """For people."""
        found = self.found
        return {
            "images": {name_of(key): len(some) for key, some in found.periods.items()},
            "size": f"{found.window.height:,} x {found.window.width:,} px",
            "dtype": found.values.dtype,
            "bands": list(found.values.labels),
            "chunks": sum(len(chunks_of(some, found.window, found.area)) for some in found.periods.values()),
            "memory": f"{self.memory_bytes / 2**20:,.0f} MiB at most",
            "warnings": list(found.notes),
        }


def plan_composite(inputs: Sequence[str], config: Config, out: Path | None = None) -> PlannedComposite:
    """Open all scenes and lay out the work.

    Args:
        inputs: Files, folders, globs, list files, addresses, STAC items and searches.
        config: The settings.
        out: Where results go: what earlier runs have written there is no scene.

    Raises:
        SceneError: A scene can't be read or placed.
        ConfigError: The settings don't fit, or memory is too little.
    """
    refs, refused = list_scenes(inputs, allow_vrt=config.scene.allow_vrt, search=stac_search(config), out=out)
    failed = [one.reason for one in refused if one.status == "failed"]
    if failed:
        more = f"; {len(failed) - 1} more can't be used" if len(failed) > 1 else ""
        raise SceneError(f"{failed[0]}{more}; leave it out of the inputs")
    for one in refused:
        log.warning("%s", one.reason)
    if not refs:
        raise ConfigError("inputs: no scene is left; give files, folders or addresses of at least one")
    found = observe(refs, config)
    reading, threads, memory = _share(found, config)
    facts: Document = {
        "code": code_version(),
        "settings": config.result_hash(),
        "composite": config.composite.model_dump(mode="json"),
        "lattice": found.lattice.document(),
        "window": [found.window.row_off, found.window.col_off, *found.window.shape],
        "area": None if found.area is None else found.area.digest,
        "periods": {key: [dict(one.facts) for one in some] for key, some in found.periods.items()},
    }
    identity = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return PlannedComposite(found, reading, threads, memory, identity)


def _share(found: Observations, config: Config) -> tuple[Reading, int, int]:
    """How much is read at once, by how many threads, and what that takes.

    Raises:
        ConfigError: Memory is too little.
    """
    budget = process_budget(config)
    most = max(_overlap(found), 1)
    bands = len(found.values.names)
    item = max(np.dtype(one.scene.bands[i].dtype).itemsize for some in found.periods.values() for one in some for i in one.bands)
    item = 8 if found.values.physical else item
    # The stack, its validity, one band that is sorted or distances of all, and the values of one scene and of the result.
    pixel = most * (bands * item + 1 + max(2 * item, 16)) + bands * (2 * item + 24)
    opened = max(min(OPEN, len(some)) for some in found.periods.values())
    blocks = max(file.reading_bytes for some in found.periods.values() for one in some for file in one.scene.files)
    chunk = CHUNK**2 * (bands * item + 6)
    for threads in range(min(config.infer.threads or cores(), MOST_THREADS), 0, -1):
        spare = budget - BASE_BYTES - threads * (blocks + chunk)
        side = next((side for side in SIDES if threads * pixel * side**2 <= spare * 0.6), None)
        if side is not None:
            cache = int(np.clip(spare * 0.3 // opened, 1 << 20, 64 << 20))
            used = threads * (pixel * side**2 + blocks + chunk) + opened * cache
            reading = Reading(side, cache, config.scene.on_bad_block == "mask")
            return reading, threads, BASE_BYTES + max(used, WRITING_BYTES)
    raise ConfigError(
        f"infer.memory: {budget / 2**20:,.0f} MiB are too little for {most} scenes over each other, of {bands} bands; give more "
        f"with {setting('memory')}, or make images of shorter periods"
    )


def _overlap(found: Observations) -> int:
    """The most scenes of one image that lie over one chunk."""
    counts = [Counter(place for one in some for place in cells_of(one, found.window)) for some in found.periods.values()]
    return max((max(count.values(), default=0) for count in counts), default=0)
