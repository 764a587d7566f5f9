"""Where and how the network is run: the rules that weigh a GPU and compilation against the pixels to come.

All figures are here. Measured on an H100 with 16 cores beside it (docs/performance.md): U-Net/ResNet-18 with 14.3 million
parameters goes at 410 Mpx/s eager and 835 Mpx/s compiled; compilation took from 9 to 66 s, the latter for an EfficientNet;
torch takes 5 to 10 s until the first batch. On its cores ONNX Runtime mapped 4096 x 4096 pixels with amazon-forest (3.45 million
parameters) in 7.9 s. Time is taken to grow with pixels and parameters, which is rough: on a core a U-Net/ResNet-18 is ten
times as fast for its parameters. So the rules err towards the GPU, and towards not compiling.
"""

from __future__ import annotations

from dataclasses import dataclass

from geoseg.errors import ConfigError
from geoseg.inference.choice import choose_engine, gpu_count
from geoseg.inference.engine import CPU, EngineName
from geoseg.models.ensemble import AnyModel
from geoseg.parallel import cores
from pipeline.config.sections import Config
from pipeline.files.identity import RunIdentity

__all__ = ["Placement", "cores_seconds", "place", "saved_by_compiling"]

COMPILE_S = 66.0
"""The longest that compilation was seen to take: it is to save more than that."""
EAGER, COMPILED = 410e6 * 14.3e6, 835e6 * 14.3e6
"""Pixels times parameters a second on a GPU."""
GPU_START_S = 10.0
"""Until a GPU's first batch."""
CORE = 4096**2 * 3.45e6 / (16 * 7.9)
"""Pixels times parameters a second on a core."""


@dataclass(frozen=True, slots=True)
class Placement:
    """What is decided once for an output folder, since results round otherwise."""

    engine: EngineName
    one_shape: bool = False
    """Whether all tiles have one shape, see ``Grid``: on GPUs."""
    compiled: bool = False
    """Whether a GPU compiles the network."""
    provider: str = CPU
    """Execution provider of ONNX Runtime."""
    why: str = ""
    """The rule that decided, where something was weighed."""

    @classmethod
    def of(cls, identity: RunIdentity) -> Placement:
        """That of an earlier run."""
        return cls(identity.engine, identity.grid.one_shape, identity.compiled, identity.provider)


def cores_seconds(work: float, count: int) -> float:
    """Seconds that so many pixels times parameters take on so many cores."""
    return work / (CORE * count)


def saved_by_compiling(work: float) -> float:
    """Seconds that a compiled network saves on a GPU over so many pixels times parameters."""
    return work * (1 / EAGER - 1 / COMPILED)


def place(model: AnyModel, config: Config, pixels: float, gpus: int | None = None, count: int | None = None) -> Placement:
    """Choose where and how a model is run.

    Args:
        model: The model.
        config: The settings; what they say outright is not weighed.
        pixels: That are to come, of all scenes together.
        gpus: GPUs of this machine; asked from the driver.
        count: Cores of this machine.

    Raises:
        ConfigError: The engine asked for can't run the model, or compilation was asked for without a GPU.
    """
    infer = config.infer
    gpus = gpu_count() if gpus is None else gpus
    provider = infer.provider.casefold()
    engine = _engine(model, infer.engine, gpus, provider)
    if provider != CPU:
        # Devices prepare a network for each shape that they see.
        return Placement(engine, one_shape=True, provider=provider)
    on_gpu = engine == "torch" and (infer.device.startswith("cuda") or (infer.device == "auto" and gpus > 0))
    if not on_gpu:
        if infer.compile == "always" and engine == "torch" and config.run.scheduler is None:
            raise ConfigError("infer.compile: always, but only a GPU compiles networks, and none is used here; leave it out")
        return Placement(engine)
    count = infer.threads or count or cores()
    # Eight views of each tile, by all members.
    work = pixels * sum(member.card.total_parameters for member in model.members) * (8 if infer.tta == "d4" else 1)
    amount = f"{pixels / 1e6:,.0f} Mpx to come"
    asked = infer.engine != "auto" or infer.device != "auto" or infer.compile == "always" or config.run.scheduler is not None
    alone = cores_seconds(work, count)
    if not asked and 0 < alone < GPU_START_S and all(member.onnx is not None for member in model.members):
        return Placement(
            "onnx",
            why=f"{amount}: about {alone:.1f} s on {count} cores, and a GPU takes {GPU_START_S:g} s to start; "
            "--device cuda takes it nevertheless",
        )
    if infer.compile != "auto":
        return Placement("torch", one_shape=True, compiled=infer.compile == "always")
    saved = saved_by_compiling(work)
    compiled = saved > COMPILE_S
    verdict = "compiled" if compiled else "not compiled"
    return Placement(
        "torch",
        one_shape=True,
        compiled=compiled,
        why=f"{amount}: {verdict}, which would save about {saved:.1f} s and cost up to {COMPILE_S:g} s",
    )


def _engine(model: AnyModel, wanted: str, gpus: int, provider: str) -> EngineName:
    """One engine for all members: torch where one of them needs it."""
    found = {choose_engine(member, wanted, gpus, provider) for member in model.members}
    if len(found) == 1:
        return found.pop()
    return next(choose_engine(member, "torch") for member in model.members)
