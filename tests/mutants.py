"""Change one thing at a time in the spine of the code, and see whether a test notices; ``make mutants``.

    python tests/mutants.py [--only TEXT ...] [--at-once 2]

``mutants.toml`` lists what is changed, and the tests that should fail then. Each is tried in a copy of the tree. Those that
survive are named, and the exit code is 1 where fewer than 95 % are killed.
"""

from __future__ import annotations

import argparse
import os
import queue
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
LIST = ROOT / "tests" / "mutants.toml"
LEAST_SHARE = 0.95
TIMEOUT_S = 600
"""Of one mutant: one that makes a test run for ever is killed, too."""
MEMORY_BYTES = 8 << 30
"""Of its tests: one that makes them fill the memory is killed by that."""
PYTEST = ("-m", "pytest", "-x", "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider", "--hypothesis-profile=mutants")
REBUILD = """
import sys
from Cython.Build import cythonize
from setuptools import Distribution, Extension
source = sys.argv[1]
extension = Extension(source.removesuffix(".pyx").replace("/", "."), [source], \
extra_compile_args=["-O1", "-g0", "-ffp-contract=off"])
command = Distribution({"ext_modules": cythonize([extension], build_dir="build/mutants", quiet=True, \
language_level=3)}).get_command_obj("build_ext")
command.inplace, command.build_temp, command.force = True, "build/mutants", True
command.ensure_finalized()
command.run()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One change."""

    file: str
    """Where."""
    old: str
    """Text that is there once."""
    new: str
    """What it becomes."""
    tests: tuple[str, ...]
    """Those that should fail then, as pytest takes them."""

    @property
    def name(self) -> str:
        """How it is shown."""
        old, new = (" ".join(text.split()) for text in (self.old, self.new))
        return f"{self.file}: {old} -> {new or 'nothing'}"

    def mistakes(self, root: Path) -> list[str]:
        """What is wrong with the entry itself, because the code has moved on."""
        path = root / self.file
        if not path.is_file():
            return [f"{self.file}: no such file"]
        count = path.read_text(encoding="utf-8").count(self.old)
        found = [] if count == 1 else [f"{self.name}: {self.old!r} stands there {count} times"]
        if self.old == self.new:
            found.append(f"{self.name}: changes nothing")
        for test in self.tests:
            file, _, rest = test.partition("::")
            text = (root / file).read_text(encoding="utf-8") if (root / file).is_file() else None
            if text is None:
                found.append(f"{self.name}: {file}: no such file")
            elif rest and f"def {rest.partition('[')[0].rpartition('::')[2]}(" not in text:
                found.append(f"{self.name}: {test}: no such test")
        return found


def read_list(path: Path = LIST) -> list[Mutant]:
    """All mutants."""
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    return [
        Mutant(file=group["file"], old=old, new=new, tests=tuple(tests) or tuple(group.get("tests", ())))
        for group in document["in"]
        for old, new, *tests in group["changes"]
    ]


def copy_tree(to: Path) -> None:
    """What git tracks or does not ignore, and the compiled modules."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True
    )
    names = [name for name in listed.stdout.decode().split("\0") if name]
    compiled = [path.relative_to(ROOT).as_posix() for path in (ROOT / "geoseg").rglob("*.so")]
    for name in [*names, *compiled]:
        source = ROOT / name
        if source.is_file() and not source.is_symlink():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, to / name)


def run_tests(root: Path, tests: Sequence[str]) -> tuple[str, str]:
    """``passed``, ``failed``, ``took too long`` or ``broken``; and the end of what pytest said."""
    env = os.environ | {"PYTHONPATH": str(root), "SHARED": os.environ.get("SHARED", str(ROOT.parent / "shared"))}
    env |= {"PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [sys.executable, *PYTEST, *tests],
            cwd=root,
            env=env,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES)),
        )
    except subprocess.TimeoutExpired:
        return "took too long", ""
    words = {0: "passed", 1: "failed"}
    return words.get(done.returncode, "broken"), (done.stdout + done.stderr)[-1500:]


def rebuild(root: Path, file: str) -> None:
    subprocess.run([sys.executable, "-c", REBUILD, file], cwd=root, check=True, capture_output=True, timeout=TIMEOUT_S)


def attempt(root: Path, mutant: Mutant) -> tuple[str, str]:
    """Try a mutant in a copy of the tree, which is as before afterwards."""
    path = root / mutant.file
    before = path.read_text(encoding="utf-8")
    built = {so: so.read_bytes() for so in path.parent.glob(f"{path.stem}.*.so")} if path.suffix == ".pyx" else {}
    path.write_text(before.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        if built:
            rebuild(root, mutant.file)
        return run_tests(root, mutant.tests)
    finally:
        path.write_text(before, encoding="utf-8")
        for so, content in built.items():
            # A new file: one that is still mapped somewhere must not change.
            so.unlink()
            so.write_bytes(content)


def try_all(mutants: Sequence[Mutant], folder: Path, at_once: int) -> list[tuple[Mutant, str]]:
    """What became of each, several at a time, each thread with a copy of its own."""
    waiting: queue.SimpleQueue[Mutant] = queue.SimpleQueue()
    for mutant in mutants:
        waiting.put(mutant)
    results: list[tuple[Mutant, str]] = []
    lock = threading.Lock()

    def work(number: int) -> None:
        root = folder / str(number) / "geoseg"
        copy_tree(root)
        while True:
            try:
                mutant = waiting.get_nowait()
            except queue.Empty:
                return
            started = time.monotonic()
            outcome, said = attempt(root, mutant)
            with lock:
                results.append((mutant, outcome))
                word = {"passed": "SURVIVED", "broken": "BROKEN"}.get(outcome, "killed")
                print(f"{len(results):4}/{len(mutants)} {word:9} {time.monotonic() - started:5.0f} s  {mutant.name}", flush=True)
                if outcome == "broken":
                    print(said, flush=True)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description="Change one thing at a time, and see whether a test notices.")
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="TEXT", help="mutants whose file, change or tests hold such a text"
    )
    parser.add_argument("--at-once", type=int, default=2, help="how many are tried at a time [default: 2]")
    options = parser.parse_args()
    every = read_list()
    mistakes = [text for mutant in every for text in mutant.mistakes(ROOT)]
    if mistakes:
        print("\n".join(mistakes), file=sys.stderr)
        return 2
    mutants = [m for m in every if any(text in m.name + " ".join(m.tests) for text in options.only)]
    with tempfile.TemporaryDirectory(prefix="geoseg-mutants-") as folder:
        copy_tree(Path(folder) / "clean" / "geoseg")
        outcome, said = run_tests(Path(folder) / "clean" / "geoseg", sorted({test for m in mutants for test in m.tests}))
        if outcome != "passed":
            print(f"without any change, the tests have {outcome}:\n{said}", file=sys.stderr)
            return 2
        results = try_all(mutants, Path(folder), options.at_once)
    survived = [mutant for mutant, outcome in results if outcome == "passed"]
    broken = [mutant for mutant, outcome in results if outcome == "broken"]
    share = 1 - (len(survived) + len(broken)) / max(1, len(results))
    print(f"\n{len(results)} mutants, {len(survived)} survived, {len(broken)} broken: {share:.1%} killed")
    for mutant in survived:
        print(f"survived  {mutant.name}  ({', '.join(mutant.tests)})")
    return 0 if share >= LEAST_SHARE and not broken else 1


if __name__ == "__main__":
    sys.exit(main())
