"""`thalweg rebuild`: with a progress bar, and an exit status that says whether both are equal."""

from __future__ import annotations

import asyncio
import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from events.topics import Topics
from infra import failpoints
from infra.rebuild import Rebuilt, rebuild
from infra.rebuild_builder import Progress
from infra.settings import Settings

DIFFERENT = 1


def work(settings: Settings, name: str, *, switch: bool, force: bool) -> int:
    """Exit status 0 only if what was built equals the live read model."""
    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.speed:,.0f} events/s"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
    failpoints.begin(settings.failpoints, settings.home, ["rebuild"])
    with bar:
        tasks = {}

        def tell(progress: Progress) -> None:
            if progress.label not in tasks:
                tasks[progress.label] = bar.add_task(progress.label, total=progress.of)
            bar.update(tasks[progress.label], completed=progress.done, total=progress.of)

        result = asyncio.run(
            rebuild(settings, Topics(), name, switch=switch, force=force, progress=tell)
        )
    say(result)
    return 0 if result.equal else DIFFERENT


def say(result: Rebuilt) -> None:
    speed = result.events / result.seconds if result.seconds else 0.0
    print(
        f"{result.label}: {result.events:,} events in {result.seconds:.1f} s, {speed:,.0f} events/s"
    )
    print(f"{result.label} has digest {result.mine.hex}")
    print(f"{result.compared_with} has digest {result.theirs.hex}")
    if result.equal:
        print("They are equal.")
    else:
        for suffix in result.theirs.differing(result.mine):
            mine, theirs = result.mine.of[suffix], result.theirs.of[suffix]
            print(f"Table {suffix or 'main'!r} differs: {mine.rows} rows, {theirs.rows} there.")
    if result.parked:
        print(f"{result.parked} streams could not be applied to the end in {result.label}.")
    if result.switched:
        print(f"{result.label} is live now; `thalweg projections switch` goes back.")
