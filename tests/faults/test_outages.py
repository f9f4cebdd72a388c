"""Servers that are away, full, emptied or locked while answers stream: nothing is lost but time."""

import os
import random

import pytest

from tests.faults.apparatus import Fault, World
from tests.faults.apparatus.away import away
from tests.faults.apparatus.cursors import an_old_answer, read_again
from tests.faults.apparatus.full_redis import flushed, full
from tests.faults.apparatus.open_transaction import left_open, left_open_for_ever
from tests.faults.apparatus.round import play
from tests.fixtures.thalweg import RunningThalweg

LONG = os.environ.get("FAULTS_LONG") == "1"


FAULTS: dict[str, Fault] = {
    "Redis is flushed again and again": flushed,
    "Redis is full and refuses": full("noeviction", 4, 60),
    "Redis is full and evicts": full("allkeys-lru", 4, 60),
    "Kafka is away": away("kafka", 8, 120),
    "Postgres is away": away("postgres", 6, 30),
    "a transaction is left open": left_open(6, 20),
}
if LONG:
    FAULTS["a transaction is left open for ever"] = left_open_for_ever


OLD_TOKENS = 60
UNREADABLE = ("Postgres is away",)
"""What holds the recorded answers is away itself."""


@pytest.mark.parametrize("what", FAULTS)
async def test_nothing_is_lost_and_old_cursors_are_served_when(
    thalweg: RunningThalweg, what: str
) -> None:
    old = await an_old_answer(thalweg, OLD_TOKENS)

    async def fault(world: World) -> None:
        async with read_again(thalweg, old, random.Random(what)) as readings:
            await FAULTS[what](world)
        assert readings.different == []
        assert readings.served or what in UNREADABLE
        assert what in UNREADABLE or readings.refused == []

    await play(thalweg, fault)
