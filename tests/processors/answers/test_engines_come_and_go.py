"""Engines that join and leave a worker that is at work, that fall ill and get well."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from processors.answers import dispatch, figures
from processors.answers.dispatch import DispatchLimits
from processors.answers.engine import EngineFailed, Finished, NoEngine, Prompt, Token
from processors.answers.scheduling.breaker import BreakerLimits
from processors.answers.scheduling.seats import SeatLimits
from tests.processors.answers.fakes import FakeEngine, numbers
from tests.processors.answers.test_dispatch import QUICK, asking, dispatcher_of, refusing, say
from tests.processors.answers.test_models import knowing

SECONDS_MAX = 30


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "TICK_SECONDS", 0.001)
    monkeypatch.setattr(figures, "FIGURES_SECONDS", 0.001)


async def test_an_engine_that_comes_is_used() -> None:
    first, second = FakeEngine("a"), FakeEngine("b")
    dispatcher = dispatcher_of(first, seats=SeatLimits(batch_requests=1, ahead_requests=0))
    call = asking(dispatcher).tokens()
    await anext(call)
    waiting = asyncio.create_task(say(dispatcher))
    await asyncio.wait([waiting], timeout=0.02)
    assert not waiting.done()
    dispatcher.set_engines([first, second])
    async with asyncio.timeout(SECONDS_MAX):
        assert await waiting == numbers(5)
    assert len(second.calls) == 1
    await call.aclose()
    await dispatcher.close()


async def test_an_engine_that_comes_starts_slowly() -> None:
    slow = BreakerLimits(slow_start_seconds=1_000)
    first, second = FakeEngine("a"), FakeEngine("b")
    dispatcher = dispatcher_of(first, breaker=slow)
    dispatcher.set_engines([first, second])
    assert await say(dispatcher, avoid="a") == numbers(5)
    calls = [asking(dispatcher).tokens() for _ in range(8)]
    for call in calls:
        await anext(call)
    assert (first.open, second.open) == (7, 1)
    for call in calls:
        await call.aclose()
    await dispatcher.close()


async def test_an_engine_that_goes_finishes_what_it_has_and_is_closed() -> None:
    first, second = FakeEngine("a"), FakeEngine("b")
    dispatcher = dispatcher_of(first)
    call = asking(dispatcher).tokens()
    await anext(call)
    dispatcher.set_engines([second])
    more = [asking(dispatcher).tokens() for _ in range(4)]
    for each in more:
        await anext(each)
    assert (first.open, second.open) == (1, 4), "although it has less to do"
    assert not first.closed.is_set()
    for each in more:
        await each.aclose()
    assert len([item async for item in call]) > 1
    async with asyncio.timeout(SECONDS_MAX):
        await first.closed.wait()
    assert not second.closed.is_set()
    await dispatcher.close()


async def test_an_engine_that_comes_back_while_it_is_at_work_is_the_same_one() -> None:
    first, again, other = FakeEngine("a"), FakeEngine("a"), FakeEngine("b", models=["other"])
    dispatcher = dispatcher_of(first, other)
    call = asking(dispatcher).tokens()
    await anext(call)
    dispatcher.set_engines([other])
    dispatcher.set_engines([again, other])
    assert await say(dispatcher) == numbers(5)
    assert (len(first.calls), len(again.calls)) == (2, 0)
    async with asyncio.timeout(SECONDS_MAX):
        await again.closed.wait()  # nobody needs it
    await call.aclose()
    assert not first.closed.is_set()
    await dispatcher.close()


async def test_an_engine_that_comes_back_while_it_is_at_work_is_not_run_over() -> None:
    engine = FakeEngine("a")
    dispatcher = dispatcher_of(engine, seats=SeatLimits(batch_requests=1, ahead_requests=0))
    call = asking(dispatcher).tokens()
    await anext(call)
    dispatcher.set_engines([])
    dispatcher.set_engines([engine])
    saying = asyncio.create_task(say(dispatcher))
    await asyncio.wait([saying], timeout=0.02)
    assert len(engine.calls) == 1
    await call.aclose()
    async with asyncio.timeout(SECONDS_MAX):
        assert await saying == numbers(5)
    await dispatcher.close()


async def test_work_waits_for_the_first_engine() -> None:
    dispatcher = dispatcher_of()
    saying = asyncio.create_task(say(dispatcher))
    await asyncio.wait([saying], timeout=0.02)
    assert not saying.done()
    dispatcher.set_engines([FakeEngine("a")])
    assert await saying == numbers(5)
    await dispatcher.close()


async def test_without_an_engine_work_waits_no_longer_than_its_bound() -> None:
    with pytest.raises(NoEngine):
        await asyncio.wait_for(say(dispatcher_of(away_seconds_max=0.05)), SECONDS_MAX)


async def test_an_engine_that_fails_at_once_does_not_draw_all_traffic() -> None:
    dead = FakeEngine("dead", lambda _: refusing(EngineFailed("its shard is dead")))
    engines = [dead, FakeEngine("b"), FakeEngine("c")]
    dispatcher = dispatcher_of(*engines, breaker=BreakerLimits())
    said = await asyncio.gather(*(say(dispatcher) for _ in range(60)))
    assert said == [numbers(5)] * 60
    drawn = len(dead.calls)
    assert drawn <= DispatchLimits().seats.bound, "those that were under way at once"
    for _ in range(30):
        assert await say(dispatcher) == numbers(5)
    assert len(dead.calls) - drawn <= BreakerLimits().failures_in_a_row_max, "then it is left alone"
    await dispatcher.close()


async def test_an_engine_that_says_that_it_is_ill_is_not_called() -> None:
    ill, other = FakeEngine("ill"), FakeEngine("b")
    ill.script = lambda _: refusing(EngineFailed("its shard is dead", reached=False))
    dispatcher = await knowing(other, ill)
    while not ill.calls:
        assert await say(dispatcher) == numbers(5)
    ill.unreachable, called = True, len(ill.calls)
    for _ in range(10):
        assert await say(dispatcher) == numbers(5)
        await asyncio.sleep(2 * QUICK.pause_seconds_max)  # it may be asked for its health
    assert len(ill.calls) - called <= 1, "one that was well a moment ago"
    await dispatcher.close()


async def test_an_engine_that_was_ill_is_tried_by_one_call() -> None:
    async def dying(_: Prompt) -> AsyncIterator[Token | Finished]:
        await asyncio.sleep(0.005)  # so that several would overlap
        raise EngineFailed("its shard is dead", reached=False)
        yield Token("")

    ill = FakeEngine("ill", dying)
    dispatcher = dispatcher_of(ill, FakeEngine("b"))
    while not ill.calls:
        assert await say(dispatcher) == numbers(5)
    ill.open_max = 0
    async with asyncio.timeout(SECONDS_MAX):
        while len(ill.calls) < 4:
            said = await asyncio.gather(*(say(dispatcher) for _ in range(40)))
            assert said == [numbers(5)] * 40
    assert ill.open_max == 1
    await dispatcher.close()
