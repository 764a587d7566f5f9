"""The deployments of the flows, by module path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
    # No concurrency limit of Prefect's: a killed run would hold it for minutes. A tick that overlaps finds the output
    # locked and ends as cancelled, and the system gives the lock of a killed run up at once.
    common: dict[str, Any] = {"work_pool_name": work_pool, "entrypoint_type": EntrypointType.MODULE_PATH}
    made = [
        scan.to_deployment("scan", parameters=given, **common, **schedule),
        segment_scene.to_deployment("segment-scene", parameters={"model": model, "out": given["out"]}, **common),
    ]
    # Outside of async code they come at once.
    return [deployment for deployment in made if isinstance(deployment, RunnerDeployment)]
