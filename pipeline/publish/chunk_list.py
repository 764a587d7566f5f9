"""``chunks.json``: a line for each chunk of a map, by which single chunks can be computed again and compared."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from geoseg.documents import LARGE, read_json
from geoseg.windows import Window
from pipeline.config.sections import Config
from pipeline.files.atomic import atomic_path
from pipeline.files.identity import RunIdentity
from pipeline.files.run_folder import CHUNKS, CHUNKS_BEGIN
from pipeline.infer.receipt import Receipt
from pipeline.plan.plan import Plan

__all__ = ["ChunkLine", "ChunkList", "read_chunks", "write_chunks"]


class ChunkLine(NamedTuple):
    """A chunk; the window is that of its core."""

    number: int
    row_off: int
    col_off: int
    height: int
    width: int
    status: str
    """``done`` or ``failed``."""
    sha256: str | None
    """Hash of its content, see ``ChunkStore.content``; None without data."""
    machine: int
    """Index into ``ChunkList.machines``."""

    @property
    def window(self) -> Window:
        """The window of its core."""
        return Window(row_off=self.row_off, col_off=self.col_off, height=self.height, width=self.width)


class ChunkList(BaseModel):
    """The chunks of a map, and the identity that their results depend on."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    identity: RunIdentity
    machines: tuple[str, ...]
    """Types of machine and engine that computed chunks."""
    chunks: tuple[ChunkLine, ...]


def write_chunks(plan: Plan, config: Config, receipts: Collection[Receipt], folder: Path) -> None:
    """Write ``chunks.json``: the identity that chunk results depend on, and a line for each chunk, in their order."""
    machines = sorted({receipt.machine for receipt in receipts})
    head = {
        "identity": plan.identity(config),
        "layers": [list(layer) for layer in plan.layers],
        "total": plan.grid.n_chunks,
        "machines": machines,
    }
    with atomic_path(folder / CHUNKS, sync=False) as part, part.open("w", encoding="utf-8") as file:
        file.write(f'{CHUNKS_BEGIN}1", {json.dumps(head, ensure_ascii=False, allow_nan=False)[1:-1]}, "chunks": [')
        for number, receipt in enumerate(receipts):
            core = plan.grid.chunk_core(receipt.index)
            line = ChunkLine(
                receipt.index,
                core.row_off,
                core.col_off,
                core.height,
                core.width,
                receipt.status,
                receipt.content,
                machines.index(receipt.machine),
            )
            file.write((",\n" if number else "\n") + json.dumps(line))
        file.write("\n]}\n")


def read_chunks(folder: Path) -> ChunkList | None:
    """Read ``chunks.json`` of a scene's folder; None where there is none that can be read."""
    try:
        return ChunkList.model_validate(read_json(folder / CHUNKS, limit=LARGE))
    except (OSError, ValueError, ValidationError):
        return None
