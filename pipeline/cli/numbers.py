"""Numbers on the command line."""

from __future__ import annotations

import math

import click

__all__ = ["Finite"]


class Finite(click.FloatRange):
    """A finite number: ``nan`` passes every comparison with a limit, and ``inf`` one without."""

    def convert(self, value: float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number of a text."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number

    def _describe_range(self) -> str:
        return "" if self.min is None and self.max is None else super()._describe_range()
