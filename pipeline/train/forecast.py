"""What a training will take: device, network, steps, and time and memory as they are measured on its first steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from geoseg.digits import count_text
from geoseg.windows import Window
from pipeline.files.atomic import write_json
from pipeline.train.data import VALIDATION_SIDE, TrainingData

if TYPE_CHECKING:
    from geoseg.training.pace import Paced
    from geoseg.training.run import Begun
    from geoseg.training.training_plan import LoopSettings, TrainingPlan

__all__ = ["Forecast", "duration", "plan_lines", "rehearsed"]

MINUTE, HOUR = 60, 3600


@dataclass(frozen=True, slots=True)
class Forecast:
    """Length of a training, to which what is measured is applied."""

    steps: int
    """Of the optimizer."""
    checks: int
    """On validation data."""
    patience: int
    """Checks without an improvement that end it; 0 for none."""

    @classmethod
    def of(cls, loop: LoopSettings) -> Forecast:
        """That of a loop."""
        return cls(loop.steps, -(-loop.steps * loop.accumulate // loop.epoch), loop.patience)

    def seconds(self, paced: Paced) -> float:
        """All steps, and all checks as far as their time is known."""
        return self.steps * paced.step_s + self.checks * (paced.check_s or 0.0)

    def lines(self, paced: Paced) -> dict[str, str]:
        """Time and memory in words."""
        check = "checks not measured yet" if paced.check_s is None else f"{duration(paced.check_s)} a check"
        early = f", less where it ends early (loop.patience = {self.patience})" if self.patience else ""
        where = "of the GPU" if paced.on_gpu else "of this process"
        return {
            "time": f"{duration(paced.step_s)} a step, measured; {check}; about {duration(self.seconds(paced))} in all{early}",
            "memory": f"{paced.memory_bytes / 1e9:.1f} GB {where} at the most so far",
        }

    def teller(self, path: Path, tell: Callable[[str], None]) -> Callable[[Paced], None]:
        """What a ``Pace`` calls: says it, and keeps it in a file."""

        def told(paced: Paced) -> None:
            for key, value in self.lines(paced).items():
                tell(f"{key:12} {value}")
            write_json(path, asdict(paced) | asdict(self) | {"seconds": self.seconds(paced)})

        return told


def duration(seconds: float) -> str:
    """Seconds, minutes or hours in words, to two or three digits."""
    if seconds < MINUTE:
        return f"{seconds:.2g} s"
    return f"{seconds / MINUTE:.3g} min" if seconds < HOUR else f"{seconds / HOUR:.3g} h"


def plan_lines(plan: TrainingPlan, data: TrainingData, begun: Begun) -> dict[str, str]:
    """Device, network and steps in words."""
    from geoseg.training.pace import device_line, precision_line

    loop, network = plan.loop, begun.network
    parameters = sum(p.numel() for p in network.parameters())
    checks = f"{Forecast.of(loop).checks:,} checks"
    batch = plan.sampling.batch * loop.accumulate * loop.devices
    pixels = sum(window.pixels for _, window in data.areas)
    encoder = f" on {plan.network.encoder}" if hasattr(network, "encoder") else ""
    return {
        "device": device_line(loop),
        "network": f"{plan.network.architecture}{encoder}, {count_text(parameters)} parameters, {precision_line(loop)}",
        "steps": f"{loop.steps:,} of {batch} chips of {plan.sampling.chip} px; {checks} on {pixels:,} px each",
    }


def rehearsed(plan: TrainingPlan, data: TrainingData, begun: Begun) -> Paced:
    """Time and memory of a few steps, and of one window of validation for all of them, on a network that is thrown away."""
    from geoseg.training.pace import TIMED, WARM_UP
    from geoseg.training.run import rehearse

    k, area = data.areas[0]
    part = area & Window.at((area.row_off, area.col_off), (VALIDATION_SIDE, VALIDATION_SIDE))
    assert part is not None
    steps = WARM_UP + TIMED
    loop = replace(plan.loop, steps=steps, epoch=steps * plan.loop.accumulate, devices=1, patience=0)
    paced = rehearse(replace(plan, loop=loop), replace(data, areas=((k, part),)), begun)
    whole = sum(window.pixels for _, window in data.areas)
    return replace(paced, check_s=None if paced.check_s is None else paced.check_s * whole / part.pixels)
