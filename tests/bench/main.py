"""`make bench`: what Thalweg adds to an engine, what it carries, and how soon it is back.

One run against a whole Thalweg that is started for it (own folder, own ports) in front of an engine
that says numbered tokens. Every answer is checked: one that is not whole ends the run.
"""

import argparse
import asyncio
import os
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from tests.bench import measure, read_side
from tests.bench.measure import Rate, Spread
from tests.bench.read_side import Feed, Rebuild
from tests.fixtures.processes import Process, free_port
from tests.fixtures.thalweg import RunningThalweg

ADDED_SECONDS_AIM = 0.010
REQUESTS_PER_SECOND_AIM = 200
AFTER_KILL_SECONDS_AIM = 4.0
REBUILD_EVENTS_PER_SECOND_AIM = 20_000
LAG_SECONDS_AIM = 1.0
FEED_BYTES_AIM = 65_536
SEARCH_SECONDS_AIM = 0.020
COLUMNS = 150
"""Of the table, where no terminal says how many it has."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    got: str
    aim: str = ""
    reached: bool | None = None


def rows(
    straight: Spread, through: Spread, streamed: Rate, plain: Rate, gaps: list[float]
) -> list[Row]:
    added = through.p50 - straight.p50
    after = max(gaps) if gaps else float("nan")
    return [
        Row("first token, straight (20 ms a token)", spread(straight)),
        Row("first token, through Thalweg", spread(through)),
        Row(
            "added, p50",
            milliseconds(added),
            f"{milliseconds(ADDED_SECONDS_AIM)} or less",
            added <= ADDED_SECONDS_AIM,
        ),
        Row("added, p95", milliseconds(through.p95 - straight.p95)),
        *(
            Row(
                f"{measure.AT_A_TIME} at a time, 20 tokens, {name}",
                f"{one.per_second:.0f} requests/s (an answer: {spread(one.seconds)})",
                f"{REQUESTS_PER_SECOND_AIM} or more",
                one.per_second >= REQUESTS_PER_SECOND_AIM,
            )
            for name, one in (("streamed", streamed), ("not streamed", plain))
        ),
        Row(
            f"next token after kill -9 of its worker ({len(gaps)} answers)",
            f"p50 {Spread.of(gaps).p50:.2f} s, max {after:.2f} s" if gaps else "none was hit",
            f"{AFTER_KILL_SECONDS_AIM:g} s or less",
            after <= AFTER_KILL_SECONDS_AIM,
        ),
    ]


def read_rows(
    rebuilt: dict[str, Rebuild], lag: list[float], feed: Feed, searched: Spread
) -> list[Row]:
    behind = read_side.percentile(lag, 0.99)
    return [
        *(
            Row(
                f"rebuild of {name}, {one.events} events",
                f"{one.per_second:.0f} events/s",
                f"{REBUILD_EVENTS_PER_SECOND_AIM} or more",
                one.per_second >= REBUILD_EVENTS_PER_SECOND_AIM,
            )
            for name, one in rebuilt.items()
        ),
        Row(
            f"read after a write, {measure.AT_A_TIME} answers at a time beside it",
            f"p50 {milliseconds(read_side.percentile(lag, 0.5))}, p99 {milliseconds(behind)}",
            f"p99 {LAG_SECONDS_AIM:g} s or less",
            behind <= LAG_SECONDS_AIM,
        ),
        Row(
            f"{read_side.FEEDS} open feeds, memory of the gateway for each",
            f"{feed.bytes_each / 1024:.1f} KiB",
            f"{FEED_BYTES_AIM // 1024} KiB or less",
            feed.bytes_each <= FEED_BYTES_AIM,
        ),
        Row("from a change to its frame on a feed", spread(feed.seconds)),
        Row(
            f"search among {read_side.MESSAGES} messages",
            spread(searched),
            f"p50 {milliseconds(SEARCH_SECONDS_AIM)} or less",
            searched.p50 <= SEARCH_SECONDS_AIM,
        ),
    ]


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1_000:.1f} ms"


def spread(seconds: Spread) -> str:
    return f"p50 {milliseconds(seconds.p50)}, p95 {milliseconds(seconds.p95)}"


def table(found: list[Row]) -> Table:
    made = Table(title=f"Thalweg, {machine()}")
    for heading in ("what", "got", "aim", ""):
        made.add_column(heading)
    for row in found:
        mark = {True: "[green]reached", False: "[red]missed", None: ""}[row.reached]
        made.add_row(row.what, row.got, row.aim, mark)
    return made


def markdown(found: list[Row]) -> str:
    lines = ["| What | Got | Aim |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {row.what} | {row.got} | {row.aim} |" for row in found)])


def machine() -> str:
    processors = len(os.sched_getaffinity(0))
    return f"everything on one machine: {processors} cores, {platform.machine()}"


async def run(thalweg: RunningThalweg, engine_port: int, console: Console) -> list[Row]:
    port, api_key = thalweg.port, thalweg.api_key
    console.log("warming up")
    await measure.warm_up(port, api_key)
    console.log(f"first token: {measure.PAIRS} straight and through Thalweg, in turns")
    straight, through = await measure.first_token(engine_port, port, api_key)
    console.log(f"{measure.REQUESTS} answers, {measure.AT_A_TIME} at a time, streamed")
    streamed = await measure.rate(port, api_key, stream=True)
    console.log(f"{measure.REQUESTS} answers, {measure.AT_A_TIME} at a time, not streamed")
    plain = await measure.rate(port, api_key, stream=False)
    console.log(f"kill -9 of a worker, {measure.KILLS} times")
    gaps = await measure.after_a_kill(thalweg)
    found = rows(straight, through, streamed, plain, gaps)
    console.log(f"{read_side.FEEDS} open feeds")
    feed = await read_side.feed(thalweg)
    console.log(f"reads after {read_side.PROBES} writes, under load")
    lag = await read_side.lag(thalweg)
    console.log(f"{read_side.MESSAGES} messages of the past")
    await read_side.fill(thalweg)
    console.log(f"{read_side.SEARCHES} searches among them")
    searched = await read_side.search(thalweg)
    console.log("rebuilding histories and usage")
    rebuilt = {name: await read_side.rebuild(thalweg, name) for name in ("histories", "usage")}
    return [*found, *read_rows(rebuilt, lag, feed, searched)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--markdown", action="store_true", help="also print a table for the docs")
    chosen = parser.parse_args()
    console = Console()
    if not console.is_terminal:
        console = Console(width=COLUMNS)
    engine_port = free_port()
    with tempfile.TemporaryDirectory(prefix="thalweg-bench-") as folder:
        log = Path(folder) / "engine.log"
        engine = Process(log, "-m", "tests.fixtures.numbered_engine", "--port", str(engine_port))
        try:
            console.log("starting Thalweg with an engine that says numbered tokens")
            address = f"tgi+http://127.0.0.1:{engine_port}"
            with (
                RunningThalweg(Path(folder) / "home", engines=address) as thalweg,
                asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
            ):
                try:
                    found = runner.run(run(thalweg, engine_port, console))
                except BaseException:
                    console.print(thalweg.logs(), markup=False, highlight=False)
                    raise
        finally:
            engine.stop()
    console.print(table(found))
    if chosen.markdown:
        print(markdown(found))  # noqa: T201  # to be pasted
