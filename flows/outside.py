"""The state ``Outside``: of what does not touch the area of interest, which is complete, without a map."""

from __future__ import annotations

from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed

from geoseg.errors import OutsideAreaError

__all__ = ["OUTSIDE", "inside", "outside"]

OUTSIDE = "Outside"
"""Its name."""


def outside(error: OutsideAreaError, data: object = None) -> State[Any]:
    """The state of a task or a flow whose scene does not touch the area.

    Args:
        error: Says so.
        data: What the run gives nevertheless.
    """
    return Completed(name=OUTSIDE, message=str(error), data=data)


def inside(state: State[Any]) -> Any:
    """What a task has made; its error where it failed.

    Raises:
        OutsideAreaError: Its state is ``Outside``.
    """
    if state.name == OUTSIDE:
        raise OutsideAreaError(state.message)
    # Outside of async code it comes at once.
    return state.result()
