"""The option ``--init``: a commented file of settings to begin from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from pipeline.cli.output import echo

__all__ = ["init_option"]

Function = TypeVar("Function", bound=Callable[..., int])


def init_option(text: Callable[[], str], after: str) -> Callable[[Function], Function]:
    """An option that writes a file and ends the command.

    Args:
        text: Its content.
        after: What to type next; ``{path}`` is the file.
    """

    def write(context: click.Context, parameter: click.Parameter, path: Path | None) -> None:
        from geoseg.errors import OutputError

        del parameter
        if path is None:
            return
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text())
        except FileExistsError as error:
            raise OutputError(f"--init: {path} is there already; choose another name") from error
        except OSError as error:
            raise OutputError(f"--init: {path} can't be written: {error.strerror}") from error
        echo(f"{path}: every setting with its default; then {after.format(path=path)}", err=True)
        context.exit(0)

    return click.option(
        "--init",
        type=click.Path(path_type=Path),
        is_eager=True,
        expose_value=False,
        callback=write,
        metavar="FILE",
        help="Write a commented file to begin from, and stop.",
    )
