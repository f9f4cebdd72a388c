"""`make bench`: what Thalweg adds to an engine, what it carries, and how soon it is back.

One run against a whole Thalweg that is started for it (own folder, own ports) in front of an engine
that says numbered tokens. Every answer is checked: one that is not whole ends the run.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop
from rich.console import Console

from tests.bench import document, measure
from tests.bench.parts import PARTS, Part
from tests.bench.peers.part import PEERS
from tests.bench.rows import Row, markdown, table
from tests.bench.scale import WHOLE, Scale
from tests.bench.world import World, beside, where, world
from tests.fixtures.collector import Collector

COLUMNS = 150
"""Of the table, where no terminal says how many it has."""

CLOSING_SECONDS = 0.05
"""After which connections that were let go are closed."""


def chosen_parts(only: Sequence[str], *, peers: bool) -> list[Part]:
    """In their order; those that want the machine for themselves come last."""
    parts = [*PARTS, PEERS]
    if only:
        return [part for part in parts if part.name in only]
    return [part for part in parts if peers or part is not PEERS]


def run(made: World, parts: Sequence[Part]) -> list[Row]:
    """All rows. An error ends the run, with the logs of what was running."""
    rows: list[Row] = []
    shared = [part for part in parts if not part.alone]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            if shared:
                made.console.log("warming up")
                port, key = made.thalweg.port, made.thalweg.api_key
                runner.run(measure.warm_up(port, key))
            for part in [*shared, *(part for part in parts if part.alone)]:
                if part.alone and made.collector is None:
                    made.stop()
                made.console.log(f"{part.name}: {part.does}")
                began = time.monotonic()
                rows += runner.run(_measured(part, made))
                made.console.log(f"{part.name}: done in {time.monotonic() - began:.0f} s")
        except BaseException:
            made.console.print(made.logs(), markup=False, highlight=False)
            raise
    return rows


async def _measured(part: Part, made: World) -> Sequence[Row]:
    found = await part.measure(made)
    await asyncio.sleep(CLOSING_SECONDS)
    return found


def bench(
    folder: Path,
    console: Console,
    scale: Scale,
    parts: Sequence[Part],
    *,
    collector: Collector | None = None,
) -> tuple[list[Row], World]:
    with world(folder, console, scale, collector=collector) as made:
        return run(made, parts), made


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    names = [part.name for part in (*PARTS, PEERS)]
    parser.add_argument("--only", action="append", choices=names, default=[], help="one part")
    parser.add_argument("--peers", action="store_true", help="compare with LiteLLM and OGX too")
    parser.add_argument("--markdown", action="store_true", help="also print a table for the docs")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    chosen = parser.parse_args()
    console = Console()
    if not console.is_terminal:
        console = Console(width=COLUMNS)
    said = f"{where()}, {beside()}"
    with tempfile.TemporaryDirectory(prefix="thalweg-bench-") as folder:
        parts = chosen_parts(chosen.only, peers=chosen.peers)
        rows, made = bench(Path(folder), console, WHOLE, parts)
    console.print(table(f"Thalweg. {said}", rows))
    if chosen.markdown:
        console.print(markdown(rows), markup=False, highlight=False, soft_wrap=True)
    if chosen.write:
        sections = dict(made.sections)
        if not chosen.only:
            sections["figures"] = f"{said}\n\n{markdown(rows)}"
        document.write(sections, made.pictures)
        console.log(f"wrote {', '.join(sections)} into docs/benchmarks.md")
