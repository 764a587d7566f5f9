"""No test ends a process that is merely slow: limits come from ``support.LIMIT_S``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from support import LIMIT_S, ROOT

WAITS = {"run", "communicate", "wait", "check_call", "check_output", "_wait", "result", "get", "join", "wait_for_workers"}
"""Calls that wait for a process or a thread."""


def short_limits(path: Path) -> Iterator[str]:
    """Calls that give up after a number of seconds that is written there."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        limits = [keyword.value for keyword in node.keywords if keyword.arg == "timeout"]
        limits += node.args[-1:] if name in ("wait", "_wait", "join") else []
        for limit in limits if name in WAITS else ():
            if isinstance(limit, ast.Constant) and isinstance(limit.value, int | float) and limit.value < LIMIT_S:
                yield f"{path.name}:{node.lineno}: {name} gives up after {limit.value} s; use support.LIMIT_S"


def test_limits_end_only_what_hangs() -> None:
    paths = sorted((ROOT / "tests").rglob("*.py"))
    assert len(paths) > 80
    assert [text for path in paths for text in short_limits(path)] == []


def test_a_short_limit_is_seen(tmp_path: Path) -> None:
    for text, count in (
        ("subprocess.run(x, timeout=60)", 1),
        ("p.communicate(timeout=5.0)", 1),
        ("p.wait(30)", 1),
        ("wait(done, 240)", 1),
        ("p.wait(timeout=LIMIT_S)", 0),
        ("urlopen(x, timeout=2)", 0),
        ("', '.join(x)", 0),
        ("stop.wait(every)", 0),
    ):
        file = tmp_path / "a.py"
        file.write_text(text)
        assert len(list(short_limits(file))) == count, text
