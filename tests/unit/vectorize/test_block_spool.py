"""The bytes of a spool are those of features written in the order of their blocks, in whatever order these came."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.vectorize.block_spool import block_spool

SCHEMA = pa.schema([pa.field("n", pa.int64()), pa.field("text", pa.string())])


def batch(block: int, number: int) -> pa.RecordBatch:
    count = (3 * block + number) % 5
    texts = [f"{block}.{number}" * block] * count
    return pa.RecordBatch.from_arrays([pa.array([block] * count, pa.int64()), pa.array(texts, pa.string())], schema=SCHEMA)


@given(blocks=st.permutations(range(6)), counts=st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_order_of_arrival_does_not_matter(blocks: list[int], counts: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, plain = Path(folder) / "features.arrow", Path(folder) / "plain.arrow"
        with block_spool(path, SCHEMA) as spool:
            for block in blocks:
                spool.write(block, (batch(block, i) for i in range(counts[block])))
        with pa.OSFile(str(plain), "wb") as file, pa.ipc.new_stream(file, SCHEMA) as writer:
            for block in range(6):
                for i in range(counts[block]):
                    writer.write_batch(batch(block, i))
        assert path.read_bytes() == plain.read_bytes()
        assert spool.count == sum(batch(b, i).num_rows for b in range(6) for i in range(counts[b]))
        assert [p.name for p in sorted(Path(folder).iterdir())] == ["features.arrow", "plain.arrow"]


def test_a_failure_is_handed_on(tmp_path: Path) -> None:
    def failing() -> Iterator[pa.RecordBatch]:
        yield batch(1, 1)
        raise RuntimeError("stop")

    def write() -> None:
        with block_spool(tmp_path / "a.arrow", SCHEMA) as spool:
            spool.write(1, failing())

    with pytest.raises(RuntimeError, match="stop"):
        write()
