"""What the README says can be typed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from support import ROOT

from geoseg.procedural import Frontier

BLOCK = re.compile(r"^```(sh|python|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_code_blocks_run(tmp_path: Path) -> None:
    (tmp_path / "scenes").mkdir()
    Frontier(600, 700).write(tmp_path / "scenes" / "frontier.tif")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    blocks = BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(blocks) >= 6
    for language, code in blocks:
        if code.startswith("make "):
            # These run this test, or what other tests have run; that there are such targets is what is left to show.
            command = ["make", "--dry-run", *code.split()[1:]]
            subprocess.run(command, check=True, cwd=ROOT, capture_output=True, timeout=60)
            continue
        if language == "toml":
            # Its first line names the file; a few steps and small chips show that it works.
            short = re.sub(r"steps = \d+", "steps = 3\ncheck = 3\n[sample]\nchip = 64\nbatch = 2", code)
            assert short != code
            (tmp_path / code.split("\n")[0].removeprefix("# ")).write_text(short)
            continue
        command = [sys.executable, "-c", code] if language == "python" else ["sh", "-ec", code]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, code + done.stderr
    assert (tmp_path / "forest.gpkg").is_file()
    assert (tmp_path / "maps" / "index.json").is_file()
    assert (tmp_path / "models" / "forest" / "model.onnx").is_file()


def test_its_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / target).exists(), target
