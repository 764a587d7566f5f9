"""What somebody labels buildings at: those that are asked for in their order, and what becomes of a label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from geoseg.arrays import I64
from geoseg.damage.scale import CLASSES, STYLES
from geoseg.documents import Json
from geoseg.errors import ConfigError
from pipeline.review.decisions import Decision, Entry
from pipeline.review.desk import Desk, Task
from pipeline.view.first import Figures, order_of
from pipeline.view.opened import OpenedMap

__all__ = ["LabelDesk", "LabelFile", "Labels"]

Labels = dict[int, int | None]
"""Classes by the number of the building; None where it can't be told."""
MOST_TOLD = 20_000
"""Labelled buildings that the page draws in the colours of their labels."""


class LabelFile(Protocol):
    """Where labels go."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def asked(self) -> Sequence[int] | None:
        """Numbers of the buildings to label, in their order; None where the least sure are."""

    @property
    def outranks_log(self) -> bool:
        """Whether what it holds when it is opened was said after all that the log has."""

    def known(self) -> Labels:
        """Labels that it holds when it is opened."""

    def write(self, labels: Labels, entries: Sequence[Entry]) -> None:
        """Write labels.

        Args:
            labels: All that are known.
            entries: What was said of them, in the order of the log.

        Raises:
            OutputError: They can't be written.
        """

    def told(self) -> dict[str, Json]:
        """What the page says of the file, and of what is done with it next."""


class LabelDesk(Desk):
    """One person's labels of buildings."""

    def __init__(self, task: Task, opened: OpenedMap, name: str, file: LabelFile, most: int) -> None:
        """Read the log and what the file holds.

        Args:
            task: What is labelled.
            opened: The images and the buildings.
            name: Who labels.
            file: Where labels go.
            most: Where nobody says which buildings are to be labelled, how many of the least sure are.

        Raises:
            ConfigError: The log was changed, or there are no buildings.
        """
        self._file, self._most = file, most
        self._labels = file.known()
        super().__init__(task, opened, name)
        if file.outranks_log:
            self._labels |= file.known()

    def _take(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.polygon is not None and entry.decides:
                self._labels[entry.polygon] = entry.code
        super()._take(entries)

    def _is_done(self, key: tuple[int, int, int]) -> bool:
        return key[1] in self._labels

    def _rows_to_do(self, figures: Figures) -> I64:
        asked = self._file.asked
        if asked is None:
            return order_of(figures, self._task.units.order)[: self._most]
        rows = (self._rows.get((self._task.version, number, 0)) for number in asked)
        return np.array([row for row in rows if row is not None], np.int64)

    def bring_up(self) -> None:
        """Write what the log says and a crash has kept from the file.

        Raises:
            OutputError: It can't be written.
        """
        with self._lock:
            if self._log.entries:
                self._recorded()

    def _check(self, decision: Decision) -> None:
        if decision.action not in ("class", "reject", "comment"):
            raise ConfigError(f"decision: {decision.action} is none of a label: class, reject (it can't be told), comment")
        super()._check(decision)

    def _recorded(self) -> None:
        # In turns with others who label: the file has all that the log has.
        with self._log.alone():
            self._catch_up()
            self._file.write(self._labels, self._log.entries)

    def state(self) -> dict[str, Json]:
        """Who labels what, and where it goes."""
        classes: list[Json] = [{"code": s.code, "name": s.name, "color": s.color} for s in STYLES[: len(CLASSES)]]
        return {**super().state(), "classes": classes, **self._file.told()}

    def _counts(self, total: int) -> dict[str, Json]:
        del total
        by_code = Counter(self._labels.values())
        order = np.zeros(0, np.int64) if self._order is None else self._order
        labelled: list[Json] = [[row, code] for row, code in self._rows_of_labels()]
        return {
            "total": len(order),
            "done": int(self._done[order].sum()),
            "labels": sum(by_code.values()) - by_code[None],
            "untold": by_code[None],
            "byClass": [by_code[code] for code in range(len(CLASSES))],
            "labelled": labelled[:MOST_TOLD],
        }

    def _rows_of_labels(self) -> Iterable[tuple[int, int]]:
        for number, code in self._labels.items():
            row = self._rows.get((self._task.version, number, 0))
            if row is not None and code is not None:
                yield row, code
