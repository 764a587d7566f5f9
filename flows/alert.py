"""Create the automation that tells somebody when no scan has ended well for some time.

    PREFECT_API_URL=http://127.0.0.1:4200/api python -m flows.alert --minutes 60 --block slack-webhook/ops

The block is one of Prefect's notifications, made in its pages (Blocks, Notification) or by code: Slack, mail, a webhook.
The time is longer than the longest scan: a scan that maps for hours ends when it has mapped.
"""

from __future__ import annotations

import argparse
import sys
from datetime import timedelta

import click
from prefect.automations import Automation
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

from flows.pages.scan_artifact import UNFINISHED
from geoseg.errors import ConfigError

__all__ = ["NAME", "create"]

NAME = "geoseg: nothing is scanned"
LEAST_S = 10.0


def create(within_s: float, block: str, flow: str = "scan") -> None:
    """Create the automation, or replace it.

    Args:
        within_s: Seconds without a scan that ended well.
        block: The notification, as type/name: ``slack-webhook/ops``.
        flow: The flow that is to run.

    Raises:
        ConfigError: There is no such block, or the time is too short.
    """
    if within_s < LEAST_S:
        raise ConfigError(f"--minutes: {within_s:g} s is too short; {LEAST_S:g} s is the least that a server can tell")
    try:
        # Outside of async code it comes at once.
        document = Block.load(block)._block_document_id  # type: ignore[union-attr]  # noqa: SLF001 - what the action takes
    except ValueError as error:
        raise ConfigError(f"--block: the server has no block {block!r}; write type/name, as in slack-webhook/ops") from error
    with get_client(sync_client=True) as client:
        for earlier in client.read_automations_by_name(NAME):
            client.delete_automation(earlier.id)
    text = f"No run of the flow {flow} has ended well for {within_s / 60:g} minutes: is a worker there, does the source answer?"
    Automation(
        name=NAME,
        description=text,
        trigger=EventTrigger(
            # A scan in which a scene failed has looked all the same.
            expect={"prefect.flow-run.Completed", f"prefect.flow-run.{UNFINISHED}"},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification({"prefect.resource.role": "flow", "prefect.resource.name": flow}),
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=within_s),
        ),
        actions=[SendNotification(block_document_id=document, subject=NAME, body=text)],
    ).create()


def main() -> None:
    """Create it from the command line."""
    parser = argparse.ArgumentParser(prog="python -m flows.alert", description="Tell somebody when nothing is scanned.")
    parser.add_argument("--minutes", type=float, required=True, help="without a scan that ended well")
    parser.add_argument("--block", required=True, help="a notification block, as type/name: slack-webhook/ops")
    options = parser.parse_args()
    try:
        create(60 * options.minutes, options.block)
    except ConfigError as error:
        click.echo(f"geoseg: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
