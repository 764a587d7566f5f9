"""One run at a time on one output."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from geoseg.errors import OutputBusyError, OutputError
from pipeline.files.lock import exclusive


def test_a_second_one_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "work" / "lock"
    with exclusive(path):
        assert json.loads(path.read_text())["pid"] == os.getpid()
        with pytest.raises(OutputBusyError, match=f"process {os.getpid()} on"), exclusive(path):
            pass
        assert path.exists()
    assert not path.exists()
    with exclusive(path):
        pass


def test_a_file_that_a_dead_process_left_is_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text(json.dumps({"pid": 1, "host": "gone", "since": "2020-01-01T00:00:00Z"}) + "\n" + 200 * " ")
    with exclusive(path):
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_an_error_gives_the_lock_up(tmp_path: Path) -> None:
    def fails() -> None:
        with exclusive(tmp_path / "lock"):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert not (tmp_path / "lock").exists()


def test_where_nothing_can_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="--out"), exclusive(tmp_path / "file" / "lock"):
        pass


def test_many_take_turns_and_never_two_at_once(tmp_path: Path) -> None:
    """Locks are taken and removed all the time: one that is held on a removed file would let two in."""
    inside, worst, turns = 0, 0, 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside, worst, turns
        while turns < 200:
            try:
                with exclusive(tmp_path / "lock"):
                    with guard:
                        inside += 1
                        worst, turns = max(worst, inside), turns + 1
                    os.sched_yield()
                    with guard:
                        inside -= 1
            except OutputBusyError:
                os.sched_yield()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert worst == 1
