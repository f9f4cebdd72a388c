"""Messages are handed over one after the other, also where one has to wait for room."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP
from mode import Service

from infra.answers_worker.transport import Consumer

MESSAGES = range(5)
SECONDS_MAX = 10.0
TURNS = 20
"""Of the event loop: more than a hand-over takes that waits for nothing."""


class HandsOver(Consumer):  # type: ignore[misc]  # mypy skips faust
    """The hand-over alone: no Kafka, no app. All messages come at once, then none."""

    def __init__(self, full_at: int) -> None:
        Service.__init__(self)
        self.app = SimpleNamespace(consumer_generation_id=1)
        self.room, self.taken = asyncio.Event(), list[int]()
        self.full_at, self.asked = full_at, 0
        self._thread, self.callback = self, self.take

    async def fetched(self) -> dict[TP, list[Any]]:
        self.asked += 1
        if self.asked > 1:
            self._stopped.set()
            return {}
        records = [SimpleNamespace(topic="work", partition=0, offset=each) for each in MESSAGES]
        return {TP("work", 0): records}

    def _to_message(self, tp: TP, record: Any) -> Any:
        return record

    async def take(self, message: Any) -> None:
        if message.offset == self.full_at:
            await self.room.wait()
        self.taken.append(message.offset)


async def until_it_waits() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


@pytest.mark.parametrize("full_at", MESSAGES)
async def test_a_message_that_waits_for_room_is_overtaken_by_none(full_at: int) -> None:
    consumer = HandsOver(full_at)
    handing_over = asyncio.create_task(consumer._drain_messages(Service()))
    await until_it_waits()
    assert consumer.taken == list(range(full_at))
    consumer.room.set()
    async with asyncio.timeout(SECONDS_MAX):
        await handing_over
    assert consumer.taken == list(MESSAGES)


async def test_what_is_left_when_the_next_assignment_begins_is_not_handed_over() -> None:
    """It is read again, from the commit on."""
    consumer = HandsOver(full_at=2)
    handing_over = asyncio.create_task(consumer._drain_messages(Service()))
    await until_it_waits()
    consumer.app.consumer_generation_id += 1
    consumer.room.set()
    async with asyncio.timeout(SECONDS_MAX):
        await handing_over
    assert consumer.taken == [0, 1, 2]
