"""Delete what Prefect's database remembers of runs that ended long ago: runs, their tasks, logs and artifacts.

    PREFECT_API_URL=http://127.0.0.1:4200/api python -m flows.retention --days 30

The server of ``flows.server`` does it by itself, each hour (``GEOSEG_RETENTION``); this is for servers that don't, and for
now. Maps, reports and the ledger are not touched: what was mapped stays known.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime, timedelta

import click
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES
from prefect.exceptions import ObjectNotFound

__all__ = ["forget"]

PAGE = 100


def forget(older: timedelta) -> tuple[int, int]:
    """Delete what is known of runs that ended longer ago.

    Args:
        older: How long ago.

    Returns:
        Numbers of runs and of artifacts that were deleted; the server deletes their logs.
    """
    ended = FlowRunFilter(
        end_time=FlowRunFilterEndTime(before_=datetime.now(UTC) - older),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=sorted(TERMINAL_STATES))),
    )
    runs = artifacts = 0
    with get_client(sync_client=True) as client:
        while found := client.read_flow_runs(flow_run_filter=ended, limit=PAGE):
            for run in found:
                artifacts += _forget_artifacts(client, ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id])))
                try:
                    client.delete_flow_run(run.id)
                except ObjectNotFound:
                    continue
                runs += 1
    return runs, artifacts


def _forget_artifacts(client: SyncPrefectClient, of_run: ArtifactFilter) -> int:
    number = 0
    while found := client.read_artifacts(artifact_filter=of_run, limit=PAGE):
        for artifact in found:
            client.delete_artifact(artifact.id)
        number += len(found)
    return number


def main() -> None:
    """Delete from the command line."""
    parser = argparse.ArgumentParser(prog="python -m flows.retention", description="Forget runs that ended long ago.")
    parser.add_argument("--days", type=float, required=True, help="keep runs that ended since")
    options = parser.parse_args()
    if not 0 <= options.days < 36500:
        click.echo(f"geoseg: --days: {options.days:g} is no number of days from 0 to 36500", err=True)
        sys.exit(2)
    runs, artifacts = forget(timedelta(days=options.days))
    click.echo(f"{runs} runs and {artifacts} artifacts deleted")


if __name__ == "__main__":
    main()
