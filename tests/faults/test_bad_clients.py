"""Slow, stuttering and vanished clients cost the gateway little, and hold nobody else up."""

import asyncio
import os
import time
from collections.abc import Callable

from tests.faults.apparatus.bad_clients import KINDS, descriptors, memory_bytes, surrounded
from tests.faults.clients import Client
from tests.faults.engines import TGI
from tests.faults.judge import shown, take_census
from tests.faults.read_side import settings_of
from tests.fixtures.thalweg import RunningThalweg

LONG = os.environ.get("FAULTS_LONG") == "1"
EACH = 100 if LONG else 15
GOOD = 4
CONNECTION_BYTES_MAX = 1_048_576
"""Far above what an open connection takes (64 KiB), far below what its answer would."""
SPARE_BYTES = 33_554_432  # what the good ones and the allocator take
SETTLED_SECONDS_MAX = 60
"""A peer that takes nothing is dropped after 30 s, a slow body after 30, a slow head after 10."""
SPARE_DESCRIPTORS = 20


async def test_bad_clients_hold_up_no_good_one_and_cost_little(thalweg: RunningThalweg) -> None:
    (gateway,) = thalweg.pids("gateway")
    memory, open_before = memory_bytes(gateway), descriptors(gateway)
    clients = [Client(thalweg.url, thalweg.api_key, TGI) for _ in range(GOOD)]
    async with surrounded(thalweg, EACH):
        messages = ["tokens=100 delay_ms=20"] * 2
        await asyncio.gather(*(client.converse(messages) for client in clients))
        bad = EACH * len(KINDS)
        assert memory_bytes(gateway) - memory < bad * CONNECTION_BYTES_MAX + SPARE_BYTES
        assert descriptors(gateway) <= open_before + bad + SPARE_DESCRIPTORS
    turns = [turn for client in clients for turn in client.turns]
    assert [what for turn in turns for what in shown(turn)] == []
    assert all(turn.posts == 1 and turn.connections == 1 for turn in turns)
    assert thalweg.pids("gateway") == [gateway]
    url = settings_of(thalweg).database_url("conversations")
    await wait(lambda: descriptors(gateway) <= open_before + SPARE_DESCRIPTORS, "connections")
    await wait(lambda: take_census(url).open_answers == 0, "answers that were left behind")


async def wait(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + SETTLED_SECONDS_MAX
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < until, f"there are still {what}"
        await asyncio.sleep(0.5)
