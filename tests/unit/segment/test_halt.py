"""The first failure of stages that run side by side is the one that is told, and it ends all of them."""

from __future__ import annotations

import pytest

from pipeline.segment.halt import Halt, never


def test_the_first_failure_is_told_and_ends_all() -> None:
    woken: list[str] = []
    halt, first, second = Halt(never, lambda: woken.append("woken")), ValueError("first"), ValueError("second")
    assert not halt()

    def fail(error: ValueError) -> None:
        raise error

    for error in (first, second):
        with pytest.raises(ValueError, match=str(error)):
            halt.guard(lambda error=error: fail(error))  # type: ignore[misc]  # bound now
        assert halt()
    assert halt.cause(KeyboardInterrupt()) is first
    assert woken == ["woken"] * 3


def test_a_stop_that_was_asked_for_ends_all_without_a_failure() -> None:
    asked = [False, True]
    halt = Halt(lambda: asked.pop(0))
    assert [halt(), halt()] == [False, True]
    assert halt.guard(lambda: 7) == 7
