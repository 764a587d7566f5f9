"""Progress of a run: bars on a terminal, plain lines elsewhere, JSON lines for programs."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Protocol

from geoseg.dialect import number_of
from geoseg.errors import Interrupted
from geoseg.redaction import redact_all, sanitized
from pipeline.infer.receipt import Receipt
from pipeline.plan.plan import Plan
from pipeline.publish.report import SceneReport

__all__ = ["JsonProgress", "Lasting", "PlainProgress", "Progress", "Quiet", "Stoppable", "new_warnings"]

EVERY_S = 10.0


class Progress(Protocol):
    """Is told what happens, always by the main thread."""

    def folder(self, scenes: int) -> None:
        """A run over so many scenes begins."""

    def planned(self, plan: Plan, done: int) -> None:
        """A scene is planned; so many of its chunks are done already."""

    def chunk(self, receipt: Receipt) -> None:
        """A chunk is done."""

    def stage(self, name: str) -> None:
        """A stage of the scene begins."""

    def part(self, what: str, done: int, total: int) -> None:
        """So many things of a stage are done."""

    def scene(self, report: SceneReport) -> None:
        """A scene is finished, in whatever way."""

    def close(self) -> None:
        """The run ends."""


class Quiet:
    """Says nothing."""

    def folder(self, scenes: int) -> None:
        """Nothing."""

    def planned(self, plan: Plan, done: int) -> None:
        """Nothing."""

    def chunk(self, receipt: Receipt) -> None:
        """Nothing."""

    def stage(self, name: str) -> None:
        """Nothing."""

    def part(self, what: str, done: int, total: int) -> None:
        """Nothing."""

    def scene(self, report: SceneReport) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class JsonProgress(Quiet):
    """One JSON object a line on standard output."""

    def _say(self, event: str, **facts: object) -> None:
        sys.stdout.write(json.dumps(redact_all({"event": event, **facts}), ensure_ascii=False) + "\n")
        sys.stdout.flush()

    def folder(self, scenes: int) -> None:
        """The number of scenes."""
        self._say("folder", scenes=scenes)

    def planned(self, plan: Plan, done: int) -> None:
        """The plan."""
        self._say("plan", scene=plan.scene.name, chunks=len(plan.active), done=done, warnings=list(plan.warnings))

    def chunk(self, receipt: Receipt) -> None:
        """The chunk and what became of it."""
        self._say("chunk", index=receipt.index, status=receipt.status, reason=receipt.reason)

    def stage(self, name: str) -> None:
        """The stage."""
        self._say("stage", stage=name)

    def part(self, what: str, done: int, total: int) -> None:
        """The numbers."""
        self._say("part", what=what, done=done, total=total)

    def scene(self, report: SceneReport) -> None:
        """The entry of the index."""
        self._say("scene", **report.entry())


class Lasting:
    """Tells another, until that can't say anything any more: a reader that has gone is no reason to stop the work."""

    def __init__(self, inner: Progress, broken: Callable[[], None] = lambda: None) -> None:
        """Wrap it; ``broken`` is called once, when it has failed."""
        self._inner, self._broken, self._works = inner, broken, True

    def _tell(self, say: Callable[[], None]) -> None:
        if not self._works:
            return
        try:
            say()
        except (OSError, ValueError, SystemExit):
            # Closed streams raise ValueError; rich leaves with SystemExit where a pipe is broken.
            self._works = False
            self._broken()

    def folder(self, scenes: int) -> None:
        """Tell it."""
        self._tell(lambda: self._inner.folder(scenes))

    def planned(self, plan: Plan, done: int) -> None:
        """Tell it."""
        self._tell(lambda: self._inner.planned(plan, done))

    def chunk(self, receipt: Receipt) -> None:
        """Tell it."""
        self._tell(lambda: self._inner.chunk(receipt))

    def stage(self, name: str) -> None:
        """Tell it."""
        self._tell(lambda: self._inner.stage(name))

    def part(self, what: str, done: int, total: int) -> None:
        """Tell it."""
        self._tell(lambda: self._inner.part(what, done, total))

    def scene(self, report: SceneReport) -> None:
        """Tell it."""
        self._tell(lambda: self._inner.scene(report))

    def close(self) -> None:
        """Tell it."""
        self._tell(self._inner.close)


class Stoppable(Lasting):
    """Ends the run that tells it something after it was told to stop."""

    def __init__(self, inner: Progress, stop: threading.Event) -> None:
        """Wrap it; ``stop`` is set by another thread."""
        super().__init__(inner)
        self._stop, self._one_at_a_time = stop, threading.Lock()

    def _tell(self, say: Callable[[], None]) -> None:
        if self._stop.is_set():
            raise Interrupted("stopped after a chunk")
        with self._one_at_a_time:
            super()._tell(say)


def new_warnings(report: SceneReport, said: tuple[str, ...]) -> list[str]:
    """The warnings of a scene that were not said when it was planned."""
    known = set(map(sanitized, said))
    return [warning for warning in report.warnings if warning not in known] if report.status in ("done", "partial") else []


class PlainProgress(Quiet):
    """Lines on standard error, of chunks one in some seconds."""

    def __init__(self) -> None:
        self._scenes = self._scene = self._total = self._done = 0
        self._said = 0.0
        self._warned: tuple[str, ...] = ()

    def _say(self, text: str) -> None:
        sys.stderr.write(sanitized(text) + "\n")
        sys.stderr.flush()

    def folder(self, scenes: int) -> None:
        """The number of scenes; each scan of a watch has its own."""
        self._scenes, self._scene = scenes, 0

    def planned(self, plan: Plan, done: int) -> None:
        """The scene, its chunks, its warnings."""
        self._scene += 1
        self._total, self._done, self._said = len(plan.active), done, time.monotonic()
        resumed = f", {done} of them done before" if done else ""
        self._say(
            f"[{self._scene}/{max(self._scenes, self._scene)}] {plan.scene.name}: "
            f"{plan.grid.height} x {plan.grid.width} px, {number_of(self._total, 'chunk')}{resumed}"
        )
        self._warned = plan.warnings
        for warning in plan.warnings:
            self._say(f"    warning: {warning}")

    def chunk(self, receipt: Receipt) -> None:
        """Say the number of chunks that are done."""
        del receipt
        self._done += 1
        now = time.monotonic()
        if now - self._said >= EVERY_S or self._done == self._total:
            self._said = now
            self._say(f"    {self._done} of {number_of(self._total, 'chunk')}")

    def part(self, what: str, done: int, total: int) -> None:
        """Say the number that is done."""
        now = time.monotonic()
        if now - self._said >= EVERY_S or done == total:
            self._said = now
            self._say(f"    {done:,} of {total:,} {what}")

    def scene(self, report: SceneReport) -> None:
        """Say how the scene ended, and what its pixels have shown."""
        for warning in new_warnings(report, self._warned):
            self._say(f"    warning: {warning}")
        reason = f": {report.reason}" if report.reason else ""
        self._say(f"    {report.scene}: {report.status} in {report.seconds:.1f} s{reason}")
