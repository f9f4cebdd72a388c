"""Turns in the queue: who needs one, who goes first, and that nobody keeps one without using it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial

import pytest

from events.answers import Chunk, Claim, ClaimId, End
from events.conversations import Band, EndKind, Usage
from events.ids import fresh_id
from processors.answers import dispatch
from processors.answers.engine import Finished, Prompt, Token
from processors.answers.ports import Request, Task
from tests.processors.answers.fakes import (
    FakeEngine,
    FakeRequests,
    breaking_after,
    counting,
    numbers,
)
from tests.processors.answers.test_worker import House, running

OLD = ClaimId(0, fresh_id())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "TICK_SECONDS", 0.001)


def busy_house() -> tuple[House, Request, asyncio.Event]:
    """Its only place is the first request's, until the event."""
    house, go = House(places=1), asyncio.Event()

    async def script(prompt: Prompt) -> AsyncIterator[Token | Finished]:
        if len(house.engine.calls) == 1:
            await go.wait()
        async for item in counting(prompt):
            yield item

    house.engine.script = script
    return house, house.ask(5), go


def in_flight(house: House) -> int:
    return house.dispatcher.report(0).engines[0].in_flight


async def test_work_of_a_partition_that_has_gone_has_no_turn() -> None:
    house, first, go = busy_house()
    gone = house.ask(5, partition=1)
    async with running(house, {0, 1}) as worker:
        worker.take(first)
        await house.until(lambda: house.engine.open == 1, "one speaks")
        worker.take(gone)
        await house.until(lambda: bool(house.dispatcher.report(0).queues), "one waits")
        worker.assigned(2, {0})
        assert not house.dispatcher.report(0).queues
        go.set()
        await house.acknowledged(first)
        last = house.ask(5, offset=1)
        worker.take(last)
        await house.acknowledged(last)
    assert len(house.engine.calls) == 2
    assert not house.log.written(gone.answer)


class SlowRequests(FakeRequests):
    """Loads that never come to an end."""

    async def load(self, request: Request) -> Task:
        self.loads += 1
        await asyncio.Event().wait()
        return self.tasks[request.answer]


async def test_a_request_that_is_loaded_when_its_partition_goes_gives_its_turn_back() -> None:
    house = House(requests=SlowRequests())
    asked = house.ask(5)
    async with running(house) as worker:
        worker.take(asked)
        await house.until(lambda: house.requests.loads == 1, "it is loaded")
        assert in_flight(house) == 1
        worker.assigned(2, {1})
        assert in_flight(house) == 0


async def test_who_waits_to_claim_again_gives_its_turn_back() -> None:
    house = House()
    house.work.member = False
    asked, owner = house.ask(5), ClaimId(2, fresh_id())
    house.log.write(0, Claim(asked.answer, owner, "owner", "numbered"))
    async with running(house) as worker:
        worker.take(asked)
        await house.until(lambda: house.requests.loads == 1, "it is loaded")
        await house.until(lambda: in_flight(house) == 0, "its place is free")
        end = End(asked.answer, owner, 0, EndKind.FINISH, "stop", None, "", 0, Usage())
        house.log.write(0, end)
        await house.acknowledged(asked)
    assert not house.engine.calls


async def test_what_an_engine_broke_off_goes_on_at_another_however_busy_that_is() -> None:
    house, go = House(engines=[FakeEngine("a"), FakeEngine("b")]), asyncio.Event()
    speaks_at: list[str] = []
    for engine in house.engines:
        engine.script = partial(noting, speaks_at, engine, go)
    first, second = house.ask(5), house.ask(8, offset=1)
    async with running(house) as worker:
        worker.take(first)
        await house.until(lambda: len(speaks_at) == 1, "one is busy")
        worker.take(second)
        await house.acknowledged(second)
        go.set()
        await house.acknowledged(first)
    busy, idle, goes_on = speaks_at
    assert idle != busy == goes_on
    assert house.log.of(second.answer).text == numbers(8)


async def noting(
    speaks_at: list[str], engine: FakeEngine, go: asyncio.Event, prompt: Prompt
) -> AsyncIterator[Token | Finished]:
    """The first call waits; the second breaks in its middle."""
    speaks_at.append(engine.name)
    number = len(speaks_at)
    if number == 1:
        await go.wait()
    async for item in breaking_after(3)(prompt) if number == 2 else counting(prompt):
        yield item


async def test_what_has_ended_needs_no_turn() -> None:
    house, first, _ = busy_house()
    ended = house.ask(5, partition=1)
    house.log.write(1, Claim(ended.answer, OLD, "dead", "numbered"))
    house.log.write(1, End(ended.answer, OLD, 0, EndKind.FINISH, "stop", None, "", 0, Usage()))
    async with running(house) as worker:
        worker.take(first)
        await house.until(lambda: house.engine.open == 1, "one speaks")
        worker.assigned(2, {0, 1})
        worker.take(ended)
        await house.acknowledged(ended)


async def test_what_was_begun_by_a_worker_that_died_goes_before_what_is_urgent() -> None:
    house, first, go = busy_house()
    begun = house.ask(5, offset=2, band=Band.FLEX)  # type: ignore[arg-type]  # no number
    urgent = house.ask(5, offset=1, band=Band.PRIORITY)  # type: ignore[arg-type]  # no number
    house.log.write(0, Claim(begun.answer, OLD, "dead", "numbered"))
    house.log.write(0, Chunk(begun.answer, OLD, 0, " 0", 1))
    async with running(house) as worker:
        worker.take(first)
        await house.until(lambda: house.engine.open == 1, "one speaks")
        worker.take(urgent)
        worker.take(begun)
        go.set()
        for each in (first, urgent, begun):
            await house.acknowledged(each)
    assert [prompt.said for prompt in house.engine.calls] == ["", " 0", ""]


async def test_by_the_event_store_and_not_by_another_machines_clock_a_deadline_has_passed() -> None:
    house = House()
    asked = replace(house.ask(5), seconds_left=0.0)
    async with running(house) as worker:
        worker.take(asked)
        await house.acknowledged(asked)
    assert house.log.of(asked.answer).text == numbers(5)
