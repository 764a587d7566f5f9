"""What the steps of ``bench_gpu.py`` know, and leave to each other."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_inputs import Sizes, model_of, scene_of
from gpu_process import Child, FailedError, TimeUpError

NETWORK = "network "
"""Before the names of steps that measure networks."""


@dataclass(frozen=True, slots=True)
class Found:
    """A row of a step."""

    what: str
    figure: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Given:
    """What the steps know, and leave to each other."""

    device: str
    small: bool
    size: Sizes
    step: str = ""
    """The step under way."""
    began: bool = False
    makers: list[Child] = field(default_factory=list)
    """The processes that make the inputs."""
    early: dict[str, Child] = field(default_factory=dict)
    """The processes that warm up, by step."""
    runs: dict[str, Path] = field(default_factory=dict)
    """The folders of finished runs, by name."""
    compile_s: dict[str, float] = field(default_factory=dict)
    """Seconds that compiling a network took, by step."""
    inputs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def cuda(self) -> bool:
        """Whether there is a GPU."""
        return self.device == "cuda"

    def made(self) -> list[dict[str, Any]]:
        """What the makers have told."""
        self.inputs += [row for child in self.makers for row in child.told()]
        return self.inputs

    def wait_for(self, name: str, deadline: float) -> tuple[Path, str]:
        """Scene and model of a network, as soon as they are made.

        Raises:
            FailedError: The process that makes them has failed.
            TimeUpError: They were not made in time.
        """
        scene, model = scene_of(name, small=self.small), model_of(name, small=self.small)
        while not (scene.is_file() and (name == model or (Path(model) / "README.md").is_file())):
            for child in self.makers:
                if child.failed:
                    raise FailedError(f"no inputs: {child.error}")
            if time.monotonic() > deadline:
                raise TimeUpError("its inputs were not made in time")
            time.sleep(0.2)
        return scene, model

    def drop(self, step: str) -> None:
        """End what was warmed up for a step that is skipped."""
        child = self.early.pop(step.removeprefix(NETWORK), None)
        if child is not None:
            child.end()

    def close(self) -> None:
        """End what still runs, and remove the runs."""
        for child in (*self.makers, *self.early.values()):
            child.end()
        for folder in self.runs.values():
            shutil.rmtree(folder.parent, ignore_errors=True)
