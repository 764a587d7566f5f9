"""The deployments of the flows: by module path, one scan at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.types.entrypoint import EntrypointType

from flows.scan import scan
from flows.segment import segment_scene

__all__ = ["deployments"]


def deployments(
    sources: list[str],
    model: str,
    out: str,
    config: dict[str, Any] | None = None,
    *,
    work_pool: str | None = None,
    **schedule: Any,
) -> list[RunnerDeployment]:
    """A scan on a schedule, and the flow of one scene to be started by hand.

    Args:
        sources: What the scan looks at.
        model: The model.
        out: Output folder.
        config: Settings, as in the TOML file.
        work_pool: The pool whose workers run them; None for a process that serves them itself.
        schedule: ``cron="*/10 * * * *"`` or ``interval=600``.
    """
    given = {"sources": sources, "model": model, "out": str(Path(out).resolve()), "config": config or {}}
    # An overlapping tick would find the output locked; it is cancelled before it starts.
    alone = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    common: dict[str, Any] = {"work_pool_name": work_pool, "entrypoint_type": EntrypointType.MODULE_PATH}
    made = [
        scan.to_deployment("scan", parameters=given, concurrency_limit=alone, **common, **schedule),
        segment_scene.to_deployment("segment-scene", parameters={"model": model, "out": given["out"]}, **common),
    ]
    # Outside of async code they come at once.
    return [deployment for deployment in made if isinstance(deployment, RunnerDeployment)]
