"""Bars on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geoseg.redaction import sanitized
from pipeline.infer.receipt import Receipt
from pipeline.plan.plan import Plan
from pipeline.publish.report import SceneReport
from pipeline.segment.progress import Progress, Quiet, new_warnings

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichBars
    from rich.progress import TaskID

__all__ = ["bars"]


def bars() -> Progress:
    """Bars on the terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichBars

    console = Console(stderr=True)
    display = RichBars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    return _Bars(console, display)


class _Bars(Quiet):
    """A bar for the folder and one for the scene."""

    def __init__(self, console: Console, display: RichBars) -> None:
        self._console, self._display = console, display
        self._folder: TaskID | None = None
        self._scene: TaskID | None = None
        self._name = ""
        self._done, self._open = 0, False
        self._warned: tuple[str, ...] = ()

    def folder(self, scenes: int) -> None:
        """Show the bars; those of an earlier run, or another map, go."""
        self._display.start()
        if self._folder is not None:
            self._display.remove_task(self._folder)
            self._folder = None
        self._done, self._open = 0, False
        if scenes > 1:
            self._folder = self._display.add_task("scenes", total=scenes)

    def planned(self, plan: Plan, done: int) -> None:
        """Begin the scene's bar."""
        from rich.markup import escape

        # What stands in brackets would be taken for an order to rich.
        self._name = escape(sanitized(plan.scene.name))
        self._end_scene()
        if self._open:
            # Of the scenes of a mosaic there is no report.
            self._count()
        self._open = True
        self._scene = self._display.add_task(f"{self._name}: infer", total=len(plan.active), completed=done)
        self._warned = plan.warnings
        for warning in plan.warnings:
            self._console.print(f"[yellow]{self._name}: {escape(sanitized(warning))}", highlight=False)

    def chunk(self, receipt: Receipt) -> None:
        """Go one chunk on."""
        del receipt
        if self._scene is not None:
            self._display.advance(self._scene)

    def stage(self, name: str) -> None:
        """Name the stage."""
        if self._scene is not None:
            self._display.update(self._scene, description=f"{self._name}: {name}")

    def part(self, what: str, done: int, total: int) -> None:
        """Move the bar of the stage."""
        if self._scene is None:
            self._display.start()
            self._scene = self._display.add_task(what, total=total)
        self._display.update(self._scene, completed=done)
        if done == total:
            self._end_scene()

    def scene(self, report: SceneReport) -> None:
        """End the scene's bar."""
        from rich.markup import escape

        self._end_scene()
        for warning in new_warnings(report, self._warned):
            self._console.print(f"[yellow]{escape(report.scene)}: {escape(warning)}", highlight=False)
        color = {"done": "green", "skipped": "cyan", "partial": "yellow"}.get(report.status, "red")
        reason = f": {escape(report.reason)}" if report.reason else ""
        self._console.print(
            f"[{color}]{report.status:8}[/] {escape(report.scene)} ({report.seconds:.1f} s){reason}", highlight=False
        )
        self._open = False
        self._count()

    def _count(self) -> None:
        """Another scene is done."""
        self._done += 1
        if self._folder is not None:
            self._display.update(self._folder, completed=self._done)

    def _end_scene(self) -> None:
        if self._scene is not None:
            self._display.remove_task(self._scene)
            self._scene = None

    def close(self) -> None:
        """Take the bars away."""
        self._display.stop()
