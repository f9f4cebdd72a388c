"""`thalweg fleet`: engines, workers and what waits, as the workers report it to each other.

It reads their topic itself, so that it shows every tenant, and works while no gateway runs.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import orjson

from events.topics import Topics
from gateway.fleet.table import OPERATOR, table_of
from gateway.fleet.view import FleetView
from infra.cli.common import FAILED
from infra.fleet_reader import read_fleet
from infra.settings import Settings
from infra.workers_reader import WorkersReader

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table as RichTable

FIRST_SECONDS_MAX = 10.0
"""Until the first report comes: Kafka has to be reached as well."""
LISTEN_SECONDS = 2.5
"""After the first one: each worker says one a second, and one may be late."""
LOOK_SECONDS = 0.5
LOAD_BLOCKS = 10
COLOURS = {"closed": "green", "half_open": "yellow", "open": "red"}
NOBODY = "No worker reports: none runs (see `thalweg ps`), or Kafka is away."

Rows = dict[str, list[dict[str, Any]]]


def work(settings: Settings, *, watch: bool, as_json: bool) -> int:
    """Returns the exit status; with `watch` it goes on until Ctrl-C, or until nobody reads it."""
    try:
        asyncio.run(_show(settings, watch=watch, as_json=as_json))
    except KeyboardInterrupt:
        if not watch:
            raise
    except BrokenPipeError:  # whoever read has had enough
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # what is left is flushed at the exit
        return FAILED
    return 0


async def _show(settings: Settings, *, watch: bool, as_json: bool) -> None:
    fleet, reader = FleetView(), WorkersReader(settings.kafka_servers, Topics().workers)
    reading = asyncio.create_task(read_fleet(reader, fleet))
    try:
        await _listen(fleet, reading)
        if watch:
            await _watch(fleet, reading, as_json=as_json)
        else:
            _print(_rows(fleet), as_json=as_json)
        if reading.done():
            reading.result()  # it ends only by an error
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await reader.close()


async def _listen(fleet: FleetView, reading: asyncio.Task[None]) -> None:
    """Until every worker has had the time to be heard."""
    until = time.monotonic() + FIRST_SECONDS_MAX
    while not reading.done() and time.monotonic() < until:
        if fleet.reports(time.monotonic()):
            await asyncio.wait([reading], timeout=LISTEN_SECONDS)
            return
        await asyncio.wait([reading], timeout=LOOK_SECONDS)


async def _watch(fleet: FleetView, reading: asyncio.Task[None], *, as_json: bool) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console()
    if as_json or console.is_dumb_terminal or not console.is_terminal:
        while not reading.done():
            _print(_rows(fleet), as_json=as_json, indented=False)
            await asyncio.wait([reading], timeout=2 * LOOK_SECONDS)
        return
    with Live(drawn(_rows(fleet)), console=console, auto_refresh=False, screen=True) as live:
        while not reading.done():
            live.update(drawn(_rows(fleet)), refresh=True)
            await asyncio.wait([reading], timeout=LOOK_SECONDS)


def _rows(fleet: FleetView) -> Rows:
    return table_of(fleet.reports(time.monotonic()), OPERATOR)


def _print(rows: Rows, *, as_json: bool, indented: bool = True) -> None:
    if as_json:
        option = orjson.OPT_INDENT_2 if indented else 0
        print(orjson.dumps(rows, option=option).decode(), flush=True)
        return
    from rich.console import Console

    Console().print(drawn(rows))


def drawn(rows: Rows) -> Group | str:
    """Tables for a terminal."""
    from rich.console import Group

    if not rows["workers"]:
        return NOBODY
    shown = [_engines(rows), _queues(rows), _served(rows), _workers(rows)]
    return Group(*(table for table in shown if table.row_count))


def bar(load: float) -> str:
    """How full: an engine that has more than it takes at once is a full one."""
    full = round(min(max(load, 0.0), 1.0) * LOAD_BLOCKS)
    return "█" * full + "░" * (LOAD_BLOCKS - full)


def _engines(rows: Rows) -> RichTable:
    from rich.markup import escape

    table = _table("Engines", "engine", "models", "breaker", "load", right=("calls", "queue"))
    for one in rows["engines"]:
        breaker = f"[{COLOURS.get(one['breaker'], 'default')}]{one['breaker']}[/]"
        if one["out_seconds"] is not None:
            breaker += f" {one['out_seconds']:.0f} s"
        table.add_row(
            escape(one["name"]),
            "?" if one["models"] is None else escape(", ".join(one["models"])),
            breaker,
            f"{bar(one['load'])} {one['load']:.0%}",
            f"{one['in_flight']}/{one['bound']}",
            "?" if one["queued"] is None else str(one["queued"]),
        )
    return table


def _queues(rows: Rows) -> RichTable:
    from rich.markup import escape

    right = ("waiting", "tokens", "oldest")
    table = _table("Waiting", "model", "band", "tenant", right=right)
    for one in rows["queues"]:
        tenant = "others" if one["tenant"] is None else str(one["tenant"])
        numbers = (f"{one['waiting']:,}", f"{one['tokens']:,}", f"{one['waited_seconds']:.1f} s")
        table.add_row(escape(one["model"]), one["band"].value, tenant, *numbers)
    return table


def _served(rows: Rows) -> RichTable:
    from rich.markup import escape

    table = _table("Served", "model", right=("requests/s", "tokens/s"))
    for one in rows["served"]:
        rates = one["requests_per_second"], one["tokens_per_second"]
        table.add_row(escape(one["model"]), *(f"{rate:,.1f}" for rate in rates))
    return table


def _workers(rows: Rows) -> RichTable:
    from rich.markup import escape

    table = _table("Workers", "worker", right=("partitions", "held", "heard"))
    for one in rows["workers"]:
        heard = f"{one['age_seconds']:.1f} s ago"
        table.add_row(escape(one["name"]), str(one["partitions"]), str(one["held"]), heard)
    return table


def _table(title: str, *left: str, right: tuple[str, ...]) -> RichTable:
    from rich.table import Table

    table = Table(*left, title=title, title_justify="left", box=None)
    for name in right:
        table.add_column(name, justify="right")
    return table
