"""Cases whose faults need apparatus (`apparatus/`): servers away, a full disk, stepped clocks,
crowds, bad clients, strangers' records, rolling restarts."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.faults.apparatus.bad_clients import among_bad_clients
from tests.faults.apparatus.clock import Clock, stepped
from tests.faults.apparatus.crowd import equal_at_once, writers_at_once
from tests.faults.apparatus.cursors import over_old_cursors
from tests.faults.apparatus.cut_clients import cut_everywhere
from tests.faults.apparatus.disk import filled, small_disk
from tests.faults.apparatus.full_redis import flushed, full
from tests.faults.apparatus.open_transaction import left_open, left_open_for_ever
from tests.faults.apparatus.rolling import restarted_one_by_one
from tests.faults.apparatus.strangers import among_strangers
from tests.faults.case import NO_ERRORS, USUAL_REFUSALS, Case, Form, Installation, Load

DISK_MEGABYTES = 512
LONG_TEXT = " " + "x" * 60_000
"""With each message, so that there is soon no room for the next page of a table."""
CROWDED = USUAL_REFUSALS | {"too_many_unanswered"}
FEW = Load(streamers=6, commanders=2)
"""Where the fault itself takes what the machine has."""


def _on_a_small_disk(folder: str = "") -> Installation:
    """All of it, or the data of one server."""

    @contextlib.contextmanager
    def around(home: Path) -> Iterator[Mapping[str, str]]:
        with small_disk(home / folder, megabytes=DISK_MEGABYTES):
            yield {}

    return Installation(f"small disk {folder}".strip(), around=around)


@contextlib.contextmanager
def _by_a_stepped_clock(home: Path) -> Iterator[Mapping[str, str]]:
    clock = Clock.of(home)
    clock.set(0)
    yield clock.environment()


SMALL_DISK = _on_a_small_disk()
STEPPED = Installation("stepped clock", around=_by_a_stepped_clock)
STRANGERS = Installation("strangers")

WORLD_CASES = (
    Case("redis flushed", over_old_cursors(flushed), "redis"),
    Case("redis full, refuses", over_old_cursors(full("noeviction", 3, 60)), "redis"),
    Case("redis full, evicts", over_old_cursors(full("allkeys-lru", 3, 60)), "redis"),
    Case("transaction left open", over_old_cursors(left_open(6, 20)), "postgres"),
    Case(
        "transaction left open for ever",
        over_old_cursors(left_open_for_ever),
        "postgres",
        forms=frozenset({Form.LONG}),
        seen_seconds_max=150,
    ),
    Case("a thousand equal commands", equal_at_once, "gateway", load=FEW, refusals=CROWDED),
    Case("a hundred writers", writers_at_once, "gateway", load=FEW, refusals=CROWDED),
    Case("bad clients", among_bad_clients, "gateway", load=FEW),
    Case("cut connections", cut_everywhere, "gateway", load=FEW),
    Case("rolling restart", restarted_one_by_one, "all", refusals=NO_ERRORS),
    Case("clock steps", over_old_cursors(stepped), "all", installation=STEPPED),
    Case("strangers", among_strangers, "all", installation=STRANGERS),
    Case(
        "disk full",
        filled(8, 60),
        "all",
        load=Load(text=LONG_TEXT),
        installation=SMALL_DISK,
        seen_seconds_max=180,
    ),
    *(
        Case(
            f"disk of {server} full",
            filled(8, 60),
            server,
            load=Load(text=LONG_TEXT),
            installation=_on_a_small_disk(server),
            forms=frozenset({Form.LONG}),
            seen_seconds_max=180,
        )
        for server in ("postgres", "kafka")
    ),
)
