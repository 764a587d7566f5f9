"""The ``geoseg`` command. Nothing heavy is imported before a subcommand needs it."""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

import click

import geoseg
from pipeline.cli.streams import flush, lasting_streams, silence

__all__ = ["main"]

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_TERMINATED = 0, 1, 2, 130, 143

COMMANDS = {
    "segment": "Map scenes: class raster, polygons, coverage, report.",
    "composite": "Make one image without clouds of many scenes, or one a period.",
    "deforestation": "Map loss and gain of forest between dates: dates, areas, confidence.",
    "damage": "Grade the damage of buildings between two dates, one by one.",
    "deliver": "Make a folder of layers, tables and a map sheet of a result, in the manner of Copernicus EMS.",
    "load": "Put results into PostGIS: tables by run, views of the latest, styles.",
    "watch": "Map whatever appears in a folder, a bucket or a STAC search, again and again.",
    "view": "Look at maps in the browser: classes, polygons, images, two dates by a swipe.",
    "review": "Correct a map polygon by polygon; decisions make its next version.",
    "verify": "Compare what was published with its records, and chunks with their source.",
    "vectorize": "Make polygons of any class raster.",
    "train": "Train a network from labelled scenes.",
    "train-damage": "Train a network that grades the damage of buildings.",
    "calibrate": "Make a model's probabilities frequencies, from labelled scenes.",
    "adopt": "Make a model folder of a network that others have trained, and compare the two.",
    "models": "List models: shipped, in the cache of the hub, and in folders.",
    "quantize": "Make a model compute in 8-bit integers, and measure what that costs.",
    "screen": "Rank the cells of a coarse grid by a class: where to look first.",
    "evaluate": "Compare maps with their truth: figures, intervals, a report.",
    "match": "Match objects with a truth, or with another date: F1, average precision, panoptic quality.",
    "sample": "Draw a random sample of a map for people to label.",
    "area": "Areas with 95 % intervals, and accuracy, from a labelled sample of a map.",
    "chips": "Cut labelled scenes into small GeoTIFFs, for other tools.",
    "inspect": "Say what is known of a model or a raster.",
    "demo": "Make a scene with known truth, map it, and compare.",
}


GARBAGE = 20_000
"""Objects made before garbage in circles is looked for, instead of 700: modules make a hundred thousand, none of it that."""


class Terminated(BaseException):
    """The system asked the process to end."""


class _Lazy(click.Group):
    """Subcommands are imported when they are called; their one-line help stands here."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"pipeline.cli.{cmd_name.replace('-', '_')}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(geoseg.__version__, prog_name="geoseg")
def group() -> None:
    """Huge satellite and aerial rasters in, maps that a GIS opens out."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code.

    0: all done; 1: something failed, the rest is done; 2: the call is wrong, nothing was started; 130 or 143: stopped
    by Ctrl-C or SIGTERM, the same command goes on.
    """
    gc.set_threshold(GARBAGE)
    lasting_streams()
    # What can't be logged is lost; it is no reason for a trace.
    logging.raiseExceptions = False
    code = run(args)
    if not flush() and code == EXIT_DONE:
        code = EXIT_FAILED
    session = sys.modules.get("geoseg.inference.onnx_session")
    if session is not None and session.stuck():
        # A network that can't be stopped would keep the process alive.
        os._exit(code)
    # The process ends: to look through all of its objects for garbage once more takes longer than all else at its end.
    gc.freeze()
    sys.exit(code)


def run(args: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. All errors end here."""
    from geoseg.dialect import as_flags
    from geoseg.errors import GeosegError, Interrupted, UsageError
    from pipeline.cli.output import make_robust

    make_robust()
    with contextlib.suppress(ValueError):  # only the main thread can take signals
        signal.signal(signal.SIGTERM, _terminate)
    try:
        with as_flags():
            result = group.main(args=None if args is None else list(args), prog_name="geoseg", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return EXIT_USAGE
    except UsageError as error:
        return _say(error, EXIT_USAGE)
    except Terminated:
        return _stopped(EXIT_TERMINATED)
    except (KeyboardInterrupt, click.Abort, Interrupted):
        return _stopped(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has gone; writing once more at exit would complain.
        silence(sys.stdout)
        return EXIT_FAILED
    except (GeosegError, OSError, MemoryError) as error:
        return _say(error, EXIT_FAILED)
    return result if isinstance(result, int) else EXIT_DONE


def _terminate(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise Terminated


def _say(error: BaseException, code: int) -> int:
    from pipeline.cli.output import echo

    echo(f"geoseg: {str(error) or type(error).__name__}", err=True)
    return code


def _stopped(code: int) -> int:
    click.echo("geoseg: stopped; finished chunks are kept, and the same command goes on from there", err=True)
    return code
