"""A log that was read, and is gone or shorter now."""

from __future__ import annotations

from pathlib import Path

import pytest

from geoseg.errors import ConfigError
from pipeline.review.decisions import Decision
from pipeline.review.review_log import ReviewLog

ACCEPT = Decision.parse({"action": "accept", "polygon": 1})


def test_a_log_that_is_gone_is_not_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = ReviewLog(path)
    log.append([ACCEPT], "ann")
    path.rename(tmp_path / "away")
    with pytest.raises(ConfigError, match="is gone since it was read"):
        log.append([ACCEPT], "ann")
    assert not path.exists()
    (tmp_path / "away").rename(path)
    log.append([ACCEPT], "ann")
    assert len(ReviewLog.read(path).entries) == 2


@pytest.mark.parametrize("left", [0, 1])
def test_a_log_that_is_shorter_gets_no_line(tmp_path: Path, left: int) -> None:
    path = tmp_path / "log.jsonl"
    log = ReviewLog(path)
    log.append([ACCEPT, ACCEPT], "ann")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:left]))
    for call in (log.catch_up, lambda: log.append([ACCEPT], "ann")):
        with pytest.raises(ConfigError, match="is shorter than when it was read"):
            call()
    assert path.read_bytes() == b"".join(lines[:left])
    # As it was, it goes on.
    path.write_bytes(b"".join(lines))
    log.append([ACCEPT], "ann")
    assert len(ReviewLog.read(path).entries) == 3
