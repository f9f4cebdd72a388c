"""The worker on fakes, when what it needs is away, full, incomplete or not to be understood."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from events.answers import Chunk, Claim, ClaimId, End
from events.conversations import EndKind, Usage
from events.ids import AnswerId, fresh_id
from processors.answers import dispatch, holding
from processors.answers.calls import BROKEN_CALLS_MAX
from processors.answers.engine import EngineFailed, Finished, Overloaded, Prompt, Token
from tests.processors.answers.fakes import counting, numbers, request, task
from tests.processors.answers.test_worker import House, running


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "TICK_SECONDS", 0.001)
    monkeypatch.setattr(holding, "NO_MEMBER_AGAIN_SECONDS", 0.01)


async def test_a_shown_answer_waits_for_an_engine_and_goes_on() -> None:
    house = House(away_seconds_max=0.02)
    asked = house.ask(8)
    there, calls = asyncio.Event(), 0

    async def dying(prompt: Prompt) -> AsyncIterator[Token | Finished]:
        nonlocal calls
        calls += 1
        if calls == 1:
            async for item in counting(prompt):
                if item == Token(" 3", 3):
                    raise EngineFailed("killed")
                yield item
        if not there.is_set():
            raise EngineFailed("refused", reached=False)
        async for item in counting(prompt):
            yield item

    house.engine.script = dying
    async with running(house) as worker:
        worker.take(asked)
        await house.until(lambda: calls > 1 + 2 * BROKEN_CALLS_MAX, "it is tried on and on")
        await asyncio.sleep(0.1)  # five times as long as an answer waits that has not begun
        assert house.log.of(asked.answer).end is None
        there.set()
        await house.acknowledged(asked)
    said = house.log.of(asked.answer)
    assert said.end is not None
    assert (said.text, said.end.kind, len(said.seams)) == (numbers(8), EndKind.FINISH, 1)


async def test_an_answer_that_has_not_begun_fails_when_no_engine_comes() -> None:
    house = House(away_seconds_max=0.02)
    house.engine.unreachable = True
    asked = house.ask(8)
    async with running(house) as worker:
        worker.take(asked)
        await house.acknowledged(asked)
    end = house.log.of(asked.answer).end
    assert end is not None
    assert (end.kind, end.reason) == (EndKind.FAIL, "no_engine")


async def test_engines_that_stay_full_end_an_answer_at_its_deadline_and_not_before() -> None:
    house = House(away_seconds_max=0.02)
    asked = house.ask()
    house.requests.tasks[asked.answer] = task(5, seconds_left=0.3)

    async def full(prompt: Prompt) -> AsyncIterator[Token | Finished]:
        raise Overloaded
        yield Token("")

    house.engine.script = full
    async with running(house) as worker:
        worker.take(asked)
        await house.acknowledged(asked)
    end = house.log.of(asked.answer).end
    assert end is not None
    assert (end.kind, end.reason) == (EndKind.FAIL, "deadline")


async def test_while_the_event_store_is_away_a_request_keeps_no_place_of_an_engine() -> None:
    house = House(places=1)
    house.requests.failures = 10**9
    asked = house.ask()
    async with running(house) as worker:
        worker.take(asked)
        await house.until(lambda: house.requests.loads > 1, "it is tried again")
        assert house.dispatcher.report(1).engines[0].in_flight == 0
        house.requests.failures = 0
        await house.acknowledged(asked)
    assert house.log.of(asked.answer).text == numbers(5)


async def test_a_request_that_cannot_be_understood_is_ended_after_a_while() -> None:
    house = House()
    asked = request()  # the event store raises KeyError
    async with running(house) as worker:
        worker.take(asked)
        await house.acknowledged(asked)
    end = house.log.of(asked.answer).end
    assert end is not None
    assert (end.kind, end.reason) == (EndKind.FAIL, "unreadable")
    assert house.requests.loads == holding.UNREADABLE_LOADS_MAX
    assert not house.engine.calls


async def test_a_conversation_that_has_expired_is_ended_at_once() -> None:
    house = House()
    asked = house.ask()
    house.requests.tasks[asked.answer] = replace(task(5), unreadable=True)
    async with running(house) as worker:
        worker.take(asked)
        await house.acknowledged(asked)
    end = house.log.of(asked.answer).end
    assert end is not None
    assert (end.kind, end.reason, end.text) == (EndKind.FAIL, "unreadable", "")
    assert house.requests.loads == 1
    assert not house.engine.calls


async def test_who_is_in_no_group_claims_over_nobody_and_goes_on_when_it_is_back() -> None:
    house = House()
    asked = house.ask(8)
    go = asyncio.Event()

    async def waiting(prompt: Prompt) -> AsyncIterator[Token | Finished]:
        async for item in counting(prompt):
            yield item
            await go.wait()

    house.engine.script = waiting
    async with running(house) as worker:
        worker.take(asked)
        await house.until(lambda: house.log.of(asked.answer).tokens == 1, "it speaks")
        house.work.member = False
        owner = ClaimId(2, fresh_id())
        house.log.write(0, Claim(asked.answer, owner, "owner", "numbered"))
        await house.until(lambda: house.engine.open == 0, "it is silenced")
        await asyncio.sleep(0.3)  # six times as long as it waits before it claims again
        assert house.log.of(asked.answer).claim == owner
        house.log.write(0, Chunk(asked.answer, owner, 1, " 1", 1))
        house.work.member = True  # and the partition is its own still: the owner is dead
        go.set()
        await house.acknowledged(asked)
    assert house.log.of(asked.answer).text == numbers(8)


async def test_the_rest_of_an_answer_whose_beginning_is_not_read_takes_no_room() -> None:
    house = House()
    old, answer = ClaimId(0, fresh_id()), AnswerId(fresh_id())
    house.log.write(0, Chunk(answer, old, 7, " 7", 1))
    house.log.write(0, End(answer, old, 8, EndKind.FINISH, "stop", None, "", 0, Usage()))
    async with running(house) as worker:
        await house.until(lambda: worker.ready, "folded")
        assert not worker._tails[0].folds
