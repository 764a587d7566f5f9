"""The maps of a view, each opened when it is first asked for."""

from __future__ import annotations

import shlex
import threading
from collections import OrderedDict
from collections.abc import Sequence
from urllib.parse import urlsplit

from geoseg.documents import Json
from geoseg.errors import ConfigError
from pipeline.view.opened import OpenedMap, open_map
from pipeline.view.viewed_inputs import FoundMap

__all__ = ["Gallery"]

KEPT = 3
"""Maps that stay open: polygons are held in memory."""


class Gallery:
    """Maps by number."""

    def __init__(self, found: Sequence[FoundMap], basemap: str | None = None) -> None:
        """Open the first map, so that what can't be shown is told at once.

        Args:
            found: The maps, one at least.
            basemap: Address of tiles of a map beneath, with ``{z}``, ``{x}`` and ``{y}``.
        """
        self._found, self.basemap = tuple(found), basemap
        self._open: OrderedDict[int, OpenedMap] = OrderedDict()
        self._lock = threading.Lock()
        self.map(0)

    def __len__(self) -> int:
        """Number of maps."""
        return len(self._found)

    @property
    def basemap_origin(self) -> str | None:
        """Scheme and host of the basemap's tiles."""
        if self.basemap is None:
            return None
        parts = urlsplit(self.basemap)
        return f"{parts.scheme}://{parts.netloc}"

    def map(self, number: int) -> OpenedMap:
        """A map, opened if it is not.

        Raises:
            ConfigError: There is no such map.
            GeosegError: It can't be read.
        """
        if not 0 <= number < len(self._found):
            raise ConfigError(f"map {number}: there are {len(self._found)}")
        with self._lock:
            if number not in self._open:
                self._open[number] = open_map(self._found[number])
                while len(self._open) > KEPT:
                    self._open.popitem(last=False)
            self._open.move_to_end(number)
            return self._open[number]

    def document(self, *, static: bool = False) -> dict[str, Json]:
        """What the page asks first."""
        return {
            "maps": [
                # A static folder takes no decisions, and tells nobody where the map lies.
                {"name": found.name, "kind": found.kind, **({} if static else {"correct": _correcting(found)})}
                for found in self._found
            ],
            "basemap": self.basemap,
            "static": static,
        }


def _correcting(found: FoundMap) -> str | None:
    """The command that opens a map for corrections; None of what has none, or no polygons."""
    folder = found.to_review
    return None if folder is None or found.polygons is None else f"geoseg review open {shlex.quote(str(folder))}"
