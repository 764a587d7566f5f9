"""Kills at each change that a call makes to the file system: a fork ends, as by ``kill -9``, at the k-th of them."""

from __future__ import annotations

import functools
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support import LIMIT_S, ROOT

KILLED, FAILED = 99, 98
CHANGES = ("rename", "replace", "unlink", "remove", "rmdir", "mkdir", "link")
"""Functions of ``os`` before which a process is killed: what it writes lies before one of them, under a name of its own."""

APART = """
import importlib.util, os, pickle, sys
# A process that is killed loses nothing that the system has; only a cut of power would.
os.fsync = lambda _: None
spec = importlib.util.spec_from_file_location("apart", sys.argv[1])
module = sys.modules["apart"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
given, functions = pickle.load(sys.stdin.buffer)
getattr(module, sys.argv[2]).__wrapped__(**given, **{key: getattr(module, name) for key, name in functions.items()})
"""


def apart(test: Callable[..., None]) -> Callable[..., None]:
    """Have a test run in a small process: a fork of one with all libraries takes many times as long, and it makes hundreds."""

    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        functions = {key: value.__name__ for key, value in arguments.items() if callable(value)}
        given = {key: value for key, value in arguments.items() if key not in functions}
        command = [sys.executable, "-c", APART, test.__code__.co_filename, test.__name__]
        path = os.pathsep.join((str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")))
        done = subprocess.run(
            command,
            input=pickle.dumps((given, functions)),
            capture_output=True,
            env=os.environ | {"PYTHONPATH": path},
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()

    return run


COMMAND = """
import os, sys
place = sys.argv[1]
from kill_points import KILLED, traced
from pipeline.cli import main

def at(name, args):
    path = os.path.abspath(args[0]) if not isinstance(args[0], int) else ""
    if place in f"{name} {path}":
        os._exit(KILLED)

with traced(at):
    sys.argv = ["geoseg", *sys.argv[2:]]
    main()
"""


def command_killed_at(place: str, args: Sequence[str | Path]) -> None:
    """Run ``geoseg`` until a change whose name and absolute path hold a text: ``rename /tmp/out/a/.run``."""
    command = [sys.executable, "-c", COMMAND, place, *map(str, args)]
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))}
    ended = subprocess.run(command, env=paths, check=False, timeout=LIMIT_S)
    assert ended.returncode == KILLED, place


@contextmanager
def traced(call: Callable[[str, tuple[Any, ...]], None], names: tuple[str, ...] = CHANGES) -> Iterator[None]:
    """Have ``call`` told of each change before it is made."""
    plain = {name: getattr(os, name) for name in names}

    def told(name: str) -> Callable[..., Any]:
        def change(*args: Any, **kwargs: Any) -> Any:
            call(name, args)
            return plain[name](*args, **kwargs)

        return change

    for name in names:
        setattr(os, name, told(name))
    try:
        yield
    finally:
        for name, function in plain.items():
            setattr(os, name, function)


def killed_at(number: int, action: Callable[[], object], below: Path, names: tuple[str, ...] = CHANGES) -> bool:
    """Run an action in a fork that ends before the change of this number below a folder; whether it got so far."""
    child = os.fork()
    if child == 0:
        # A process that is killed loses nothing that it has handed to the system.
        os.fsync = lambda _: None
        seen = 0

        def count(name: str, args: tuple[Any, ...]) -> None:
            nonlocal seen
            place = os.readlink(f"/proc/self/fd/{args[0]}") if isinstance(args[0], int) else os.path.abspath(args[0])
            if place.startswith(f"{below}{os.sep}") or place == str(below):
                if seen == number:
                    os._exit(KILLED)
                seen += 1

        code = FAILED
        try:
            with traced(count, names):
                action()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, KILLED), f"it ended with {code}"
    return code == KILLED
