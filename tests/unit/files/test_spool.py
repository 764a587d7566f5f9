"""Features on the disk are read batch by batch, and are no memory of who reads them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from pipeline.files.spool import FeatureSpool
from pipeline.vectorize.block_spool import block_spool


def test_file_is_read_and_not_mapped(tmp_path: Path) -> None:
    schema = pa.schema([("code", pa.uint8()), ("geom", pa.binary())])
    batches = [
        pa.RecordBatch.from_arrays([pa.array([number] * 50, pa.uint8()), pa.array([bytes(4000)] * 50)], schema=schema)
        for number in range(20)
    ]
    with block_spool(tmp_path / "features.arrow", schema) as written:
        for number in reversed(range(20)):
            written.write(number, [batches[number]])
    spool = FeatureSpool(tmp_path / "features.arrow", written.count)
    for found, batch in zip(spool.batches(), batches, strict=True):
        assert found.equals(batch)
        assert str(spool.path) not in Path("/proc/self/maps").read_text(encoding="utf-8")
    assert spool.schema == schema
    assert spool.codes() == tuple(range(20))
