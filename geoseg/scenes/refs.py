"""References to scenes before they are opened, and inputs that are refused as such."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from geoseg.addresses import shown
from geoseg.errors import ConfigError
from geoseg.redaction import sanitized
from geoseg.scenes.names import is_scene_name, name_key, scene_name
from geoseg.scenes.stac.told import Told

__all__ = ["Refused", "SceneRef", "without_equal_names"]


@dataclass(frozen=True, slots=True)
class SceneRef:
    """A scene to work on, before it is opened."""

    name: str
    """Path of its output folder under the run's output; unique in the run."""
    paths: tuple[str, ...]
    """Its files."""
    band_names: tuple[str, ...] = ()
    """For band files, the name of each file's band."""
    later: tuple[SceneRef, ...] = ()
    """Later dates of the same place, in their order."""
    area: str | None = None
    """Of several areas of interest, the name of the one that is mapped."""
    told: Told | None = None
    """What its catalogue says of it, where it has one."""

    def __post_init__(self) -> None:
        """Check that the name is one of a folder below the output, whoever made it."""
        if not is_scene_name(self.name):
            raise ConfigError(
                f"name: {self.name!r} can't name a folder of the output; a name that can is {scene_name(self.name)}"
            )


@dataclass(frozen=True, slots=True)
class Refused:
    """An input that will not be worked on."""

    name: str
    """How it is named in the report."""
    paths: tuple[str, ...]
    """Its files."""
    status: str
    """``failed``, or ``skipped`` for a file in a folder that is of no accepted kind."""
    reason: str
    """One sentence on why."""

    def __post_init__(self) -> None:
        """Keep what may be told: names and reasons quote paths of strangers."""
        object.__setattr__(self, "name", sanitized(self.name))
        object.__setattr__(self, "reason", sanitized(self.reason))


def without_equal_names(refs: Sequence[SceneRef]) -> tuple[list[SceneRef], list[Refused]]:
    """The scenes that have a name of their own, by name; all that share one are refused, also where only the case differs."""
    by_key: dict[str, list[SceneRef]] = defaultdict(list)
    for ref in refs:
        by_key[name_key(ref.name)].append(ref)
    refused = []
    for same in by_key.values():
        for ref in same if len(same) > 1 else ():
            path = shown(ref.paths[0])
            others = ", ".join(f"{shown(other.paths[0])} ({other.name})" for other in same if other is not ref)
            reason = f"{path}: its outputs ({ref.name}) would have the same name as those of {others}; rename one of them"
            refused.append(Refused(path, ref.paths, "failed", reason))
    return sorted((same[0] for same in by_key.values() if len(same) == 1), key=lambda ref: ref.name), refused
