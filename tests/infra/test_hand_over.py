"""Faust's messages are handed over one after the other, also where one has to wait for room."""

import asyncio

import pytest
from mode import Service

from infra.answers_worker.transport import Consumer

MESSAGES = range(5)
SECONDS_MAX = 10.0
TURNS = 20
"""Of the event loop: more than a hand-over takes that waits for nothing."""


class HandsOver(Consumer):  # type: ignore[misc]  # mypy skips faust
    """The hand-over alone: no Kafka, no app."""

    def __init__(self) -> None:
        Service.__init__(self)


@pytest.mark.parametrize("full_at", MESSAGES)
async def test_a_message_that_waits_for_room_is_overtaken_by_none(full_at: int) -> None:
    consumer, room, suspended = HandsOver(), asyncio.Event(), asyncio.Event()
    taken: list[int] = []

    async def take(message: int) -> None:
        if message == full_at:
            await room.wait()
        taken.append(message)

    async def hand_over_all() -> None:
        for message in MESSAGES:
            await consumer.wait_first(take(message), suspended.wait())

    handing_over = asyncio.create_task(hand_over_all())
    for _ in range(TURNS):
        await asyncio.sleep(0)
    assert taken == list(range(full_at))
    room.set()
    async with asyncio.timeout(SECONDS_MAX):
        await handing_over
    assert taken == list(MESSAGES)


async def test_a_message_that_waits_for_room_is_given_up_when_the_flow_is_suspended() -> None:
    consumer, room, suspended = HandsOver(), asyncio.Event(), asyncio.Event()
    suspended.set()
    async with asyncio.timeout(SECONDS_MAX):
        await consumer.wait_first(room.wait(), suspended.wait())
