"""A command looks for garbage seldom, and not once more through all of its modules when it ends."""

from __future__ import annotations

import subprocess
import sys

ENDED = """
import gc
from pipeline.cli import GARBAGE, main
try:
    main(["--version"])
except SystemExit as end:
    print(end.code, gc.get_threshold()[0] == GARBAGE, gc.isenabled(), gc.get_freeze_count() > len(gc.get_objects()))
"""


def test_ended_command_has_nothing_left_to_look_through() -> None:
    done = subprocess.run([sys.executable, "-c", ENDED], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 True True True"
