"""A scan that finds nothing new."""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from common import Row, Settings, fresh

SCENES, BAR = 10_000, 2.0


def scan_rows(settings: Settings) -> Iterator[Row]:
    """Ten thousand known scenes: listing the folder and asking the ledger, after imports."""
    from pipeline.config.sections import Config
    from pipeline.publish.report import SceneReport
    from pipeline.watch.ledger import open_ledger
    from pipeline.watch.scan import find_work
    from pipeline.watch.source import list_source

    root = Path(fresh("scan"))
    (root / "in").mkdir(parents=True)
    for number in range(SCENES):
        (root / "in" / f"{number}.tif").touch()
        (root / "out" / str(number)).mkdir(parents=True)
        (root / "out" / str(number) / "run.json").touch()
    config, seconds = Config.parse({"watch": {"settle": "0s"}}), []
    entry = json.dumps(SceneReport(scene="", status="done").entry())
    with open_ledger(root / "out") as ledger:
        found, _ = list_source([str(root / "in")], config)
        find_work(found, ledger, root / "out", "key", config.watch, time.time())
        ledger.put(dataclasses.replace(row, status="done", entry=entry) for row in ledger.rows().values())
    for _ in range(settings.repeat):
        start = time.perf_counter()
        with open_ledger(root / "out") as ledger:
            found, _ = list_source([str(root / "in")], config)
            work = find_work(found, ledger, root / "out", "key", config.watch, time.time())
        seconds.append(time.perf_counter() - start)
        assert work.known == SCENES
    median = statistics.median(seconds)
    yield Row(
        "scan",
        f"scan of a folder of {SCENES:,} known scenes, after imports",
        f"under {BAR:g} s",
        f"{median:.2f} s",
        median < BAR,
        {"seconds": seconds},
    )
