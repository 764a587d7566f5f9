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


@pytest.mark.parametrize("last", [b'{"action":"acc', b'{"action":"acc\n', b"x" * 30 + b"\n"])
def test_a_last_line_that_is_none_is_told_until_another_follows(
    tmp_path: Path, last: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log.jsonl"
    ReviewLog(path).append([ACCEPT, ACCEPT], "ann")
    assert len(ReviewLog.read(path).entries) == 2
    assert not caplog.messages
    with path.open("ab") as file:
        file.write(last)
    assert len(ReviewLog.read(path).entries) == 2
    (text,) = caplog.messages
    assert text.startswith(f"{path}: what stands behind decision 2 is no whole line")
    # The next line goes on from the last whole one, which shows that nothing between was recorded.
    ReviewLog(path).append([ACCEPT], "ann")
    caplog.clear()
    log = ReviewLog.read(path)
    assert (len(log.entries), log.torn, caplog.messages) == (3, 1, [])


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
