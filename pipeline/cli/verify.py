"""``geoseg verify``."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import click

from geoseg.dialect import number_of
from pipeline.cli.output import echo

if TYPE_CHECKING:
    from geoseg.scenes.sources import SceneRef
    from pipeline.verify.run import Verified

__all__ = ["command"]

SAME, OTHER, OPEN = 0, 1, 3


@click.command("verify")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--recompute", "count", type=click.IntRange(1), metavar="N", help="Compute N chunks, drawn by chance, anew from the source."
)
@click.option("--seed", type=click.IntRange(0), help="Seed of the sample, to draw the same chunks again.")
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="PATH",
    help="Where the scenes are now, if not where they were: files, folders; repeatable.",
)
@click.option("--model", "-m", "models", multiple=True, help="The model, if it is not where it was; repeatable, as for segment.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(
    out: Path, count: int | None, seed: int | None, sources: tuple[str, ...], models: tuple[str, ...], *, as_json: bool
) -> int:
    """Compare all that was published in OUT with its records; with --recompute, also with its source.

    Nothing is changed. Exit codes: 0 all is as it was published; 1 something was changed, is missing or differs; 2 wrong usage; 3
    nothing is known to be wrong, but not all that was asked for could be computed anew and compared.
    """
    from geoseg.errors import ConfigError
    from pipeline.verify.recompute import lines_of, recompute
    from pipeline.verify.run import verify_output

    if count is None and (seed is not None or sources or models):
        raise ConfigError("--seed, --source, --model: say how chunks are computed anew; give --recompute, too")
    verified = verify_output(out)
    audit = None
    if count is not None:
        chosen = secrets.randbelow(1 << 32) if seed is None else seed
        audit = recompute(verified, count, chosen, sources=_scenes(sources, verified), models=models)
    if as_json:
        document = {
            "out": str(out),
            "digest": verified.digest,
            "folders": [found.to_json() for found in verified.folders],
            "faults": list(verified.faults),
            "recomputed": audit and audit.to_json(),
        }
        echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        _show(verified)
        for line in lines_of(audit) if audit is not None else ():
            echo(line)
        echo(f"digest {verified.digest}")
    if not verified.whole or (audit is not None and audit.differing):
        return OTHER
    return OPEN if audit is not None and (audit.rounding or audit.missed or not audit.compared) else SAME


def _show(verified: Verified) -> None:
    for found in verified.folders:
        state = "as published" if not found.faults else number_of(len(found.faults), "fault")
        echo(f"{found.name}: {state} ({number_of(found.files, 'file')}, {found.digest[:12]})")
        for fault in found.faults:
            echo(f"  FAULT: {fault}")
        for note in found.notes:
            echo(f"  {note}")
    for fault in verified.faults:
        echo(f"FAULT: {fault}")


def _scenes(sources: tuple[str, ...], verified: Verified) -> dict[str, SceneRef]:
    """The scenes that were given, by the names under which they were mapped."""
    from dataclasses import replace

    from geoseg.errors import ConfigError
    from geoseg.scenes.sources import list_scenes

    if not sources:
        return {}
    found, _ = list_scenes(sources, allow_vrt=True, option="--source")
    named = {ref.name: ref for ref in found}
    records = [record for folder in verified.folders if (record := folder.scene) is not None]
    scenes = [(record.scene, given) for record in records if (given := record.given) is not None]
    # Scenes of a mosaic, of which it has no files itself, go by their names.
    if len(scenes) == 1 and scenes[0][1].paths:
        ((name, given),) = scenes
        dates = 1 + len(given.later)
        refs = [ref for source in sources for ref in list_scenes([source], allow_vrt=True, option="--source")[0]]
        if len(refs) != dates:
            raise ConfigError(f"--source: {number_of(len(refs), 'scene')}; the run is over {dates}, to be given in their order")
        return {name: replace(refs[0], name=name, later=tuple(refs[1:]))}
    return named
