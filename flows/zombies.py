"""Create the automation that marks runs as crashed whose process has gone without a word.

    PREFECT_API_URL=http://127.0.0.1:4200/api python -m flows.zombies

Runs send heartbeats where ``PREFECT_FLOWS_HEARTBEAT_FREQUENCY`` is set for the worker. The maps do not depend on it: the
next scan takes up what is left from the manifest, whatever state the server shows.
"""

from __future__ import annotations

from datetime import timedelta

from prefect.automations import Automation
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

__all__ = ["NAME", "create"]

NAME = "geoseg: runs without heartbeat have crashed"
WITHIN_S = 120
ENDS = ("Completed", "Failed", "Cancelled", "Crashed")


def create(within_s: float = WITHIN_S) -> None:
    """Create the automation, unless it is there.

    Args:
        within_s: Seconds without a heartbeat; at least three times their distance.
    """
    try:
        Automation.read(name=NAME)  # type: ignore[unused-coroutine]  # async only within async code
    except ValueError:
        pass
    else:
        return
    heartbeat = "prefect.flow-run.heartbeat"
    automation = Automation(
        name=NAME,
        trigger=EventTrigger(
            after={heartbeat},
            expect={heartbeat, *(f"prefect.flow-run.{state}" for state in ENDS)},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=within_s),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message="No heartbeat: its process has gone.")],
    )
    automation.create()


if __name__ == "__main__":
    create()
