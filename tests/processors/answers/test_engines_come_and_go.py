"""Engines that join and leave a worker that is at work, and what they say of their load."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import Any

import pytest

from processors.answers import dispatch, figures
from processors.answers.dispatch import Dispatcher, DispatchLimits
from processors.answers.engine import (
    EngineFailed,
    EngineRefused,
    Finished,
    NoEngine,
    Prompt,
    Token,
)
from processors.answers.scheduling import lately
from processors.answers.scheduling.breaker import BreakerLimits
from processors.answers.scheduling.seats import Figures, SeatLimits
from tests.processors.answers.fakes import MODEL, FakeEngine, numbers
from tests.processors.answers.test_dispatch import QUICK, asking, dispatcher_of, refusing, say

SECONDS_MAX = 10


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


async def knowing(*engines: FakeEngine, **limits: Any) -> Dispatcher:
    """One that knows what these serve."""
    dispatcher = dispatcher_of(*engines, **limits)
    for engine in engines:
        await say(dispatcher, engine.served[0])
    return dispatcher


def replacing(name: str = "b") -> FakeEngine:
    return FakeEngine(name, models=["other"])


@pytest.mark.parametrize("begun", [False, True])
async def test_without_the_only_engine_of_a_model_its_work_waits_for_another(begun: bool) -> None:
    other = replacing()
    dispatcher = await knowing(FakeEngine("a"), other)
    dispatcher.set_engines([other])
    saying = asyncio.create_task(say(dispatcher, begun=begun))
    await asyncio.wait([saying], timeout=0.02)
    assert not saying.done()
    dispatcher.set_engines([other, FakeEngine("c")])
    async with asyncio.timeout(SECONDS_MAX):
        assert await saying == numbers(5)
    await dispatcher.close()


async def test_it_waits_no_longer_than_without_any_engine() -> None:
    other = replacing()
    dispatcher = await knowing(FakeEngine("a"), other, away_seconds_max=0.05)
    dispatcher.set_engines([other])
    with pytest.raises(NoEngine):
        await asyncio.wait_for(say(dispatcher), SECONDS_MAX)
    await dispatcher.close()


async def test_a_model_that_was_served_long_ago_is_refused_unless_an_answer_has_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lately, "LATELY_SECONDS", -1.0)
    other = replacing()
    dispatcher = await knowing(FakeEngine("a"), other)
    dispatcher.set_engines([other])
    with pytest.raises(EngineRefused, match="No engine serves"):
        await say(dispatcher)
    saying = asyncio.create_task(say(dispatcher, begun=True))
    await asyncio.wait([saying], timeout=0.02)
    assert not saying.done()
    dispatcher.set_engines([other, FakeEngine("c")])
    async with asyncio.timeout(SECONDS_MAX):
        assert await saying == numbers(5)
    await dispatcher.close()


async def test_an_engine_that_serves_something_else_now_may_serve_the_old_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dispatch, "MODELS_SECONDS_MAX", 0.0)
    engine = FakeEngine("a")
    dispatcher = await knowing(engine)
    engine.served = ("other",)
    end = time.monotonic() + SECONDS_MAX
    while dispatcher.report(0).engines[0].models != ("other",):  # it asks, too
        assert time.monotonic() < end
        await asyncio.sleep(0)
    saying = asyncio.create_task(say(dispatcher))
    await asyncio.wait([saying], timeout=0.02)
    assert not saying.done()
    engine.served = (MODEL,)
    async with asyncio.timeout(SECONDS_MAX):
        assert await saying == numbers(5)
    await dispatcher.close()


async def test_what_an_engine_serves_since_a_moment_is_not_refused() -> None:
    engine = FakeEngine("a")
    dispatcher = await knowing(engine)
    engine.served = ("other",)
    async with asyncio.timeout(SECONDS_MAX):
        assert await say(dispatcher, "other") == numbers(5)
        with pytest.raises(EngineRefused, match="No engine serves"):
            await say(dispatcher, "unheard-of")
    engine.unreachable = True
    async with asyncio.timeout(SECONDS_MAX):
        with pytest.raises(EngineRefused, match="No engine serves"):
            await say(dispatcher, "unheard-of")
    await dispatcher.close()


async def test_nothing_is_refused_before_all_engines_are_known() -> None:
    other = replacing()
    dispatcher = Dispatcher([other], whole=False)
    saying = asyncio.create_task(say(dispatcher))
    await say(dispatcher, "other")
    await asyncio.wait([saying], timeout=0.02)
    assert not saying.done()
    dispatcher.set_engines([other, replacing("c")], whole=False)
    await asyncio.wait([saying], timeout=0.02)
    assert not saying.done()
    dispatcher.set_engines([other, replacing("c"), replacing("d")])
    with pytest.raises(EngineRefused, match="No engine serves"):
        await asyncio.wait_for(saying, SECONDS_MAX)
    await dispatcher.close()


def thrice(says: Callable[[], Figures]) -> tuple[Callable[[], Figures], asyncio.Event]:
    """What an engine says, and an event for its third time."""
    times, done = count(1), asyncio.Event()

    def saying() -> Figures:
        if next(times) == 3:
            done.set()
        return says()

    return saying, done


def full() -> Figures:
    return Figures(time.monotonic(), queued=10, running=100, tokens=0)


async def test_an_engine_that_others_have_filled_is_given_nothing_more() -> None:
    busy, idle = FakeEngine("busy"), FakeEngine("idle")
    dispatcher = dispatcher_of(busy, idle)
    busy.says, said_thrice = thrice(full)
    calls = [asking(dispatcher).tokens() for _ in range(2)]
    for call in calls:
        await anext(call)
    assert (busy.open, idle.open) == (1, 1)
    async with asyncio.timeout(SECONDS_MAX):
        await said_thrice.wait()  # the first of them was told by then
    for _ in range(6):
        assert await say(dispatcher) == numbers(5)
    assert (len(busy.calls), len(idle.calls)) == (1, 7)
    for call in calls:
        await call.aclose()
    await dispatcher.close()


async def test_an_idle_engine_is_not_asked_for_figures() -> None:
    engine = FakeEngine("a")
    engine.says, said_thrice = thrice(lambda: Figures(time.monotonic(), queued=0, running=1))
    dispatcher = dispatcher_of(engine)
    call = asking(dispatcher).tokens()
    await anext(call)
    async with asyncio.timeout(SECONDS_MAX):
        await said_thrice.wait()
    await call.aclose()
    await asyncio.sleep(5 * figures.FIGURES_SECONDS)  # for the question that is due by then
    asked = engine.asked_figures
    await asyncio.sleep(20 * figures.FIGURES_SECONDS)
    assert engine.asked_figures == asked
    await dispatcher.close()


async def test_an_engine_whose_figures_fail_is_no_worse_for_it() -> None:
    asked = asyncio.Event()

    def broken() -> Figures:
        asked.set()
        raise RuntimeError("the adapter has a bug")

    engine = FakeEngine("a")
    engine.says = broken
    dispatcher = dispatcher_of(engine)
    calls = [asking(dispatcher).tokens() for _ in range(4)]
    for call in calls:
        await anext(call)
    async with asyncio.timeout(SECONDS_MAX):
        await asked.wait()
    for _ in range(5):
        assert await say(dispatcher) == numbers(5)
    assert engine.asked_figures == 1, "what does not say is left alone for a while"
    for call in calls:
        await call.aclose()
    await dispatcher.close()


class SlowFigures(FakeEngine):
    """Says its load when it may."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.may_say = asyncio.Event()
        self.has_said = asyncio.Event()

    async def figures(self) -> Figures | None:
        self.asked_figures += 1
        await self.may_say.wait()
        self.has_said.set()
        return Figures(time.monotonic(), queued=0, running=4)


async def test_an_engine_that_is_slow_to_say_its_load_is_asked_once_and_of_that_time() -> None:
    engine = SlowFigures("a")
    engine.may_say.set()
    dispatcher = await knowing(engine)
    engine.may_say.clear()
    engine.has_said.clear()
    asked = engine.asked_figures
    calls = [asking(dispatcher).tokens() for _ in range(4)]
    await asyncio.gather(*(anext(call) for call in calls))
    await asyncio.sleep(20 * figures.FIGURES_SECONDS)
    assert engine.asked_figures == asked + 1
    for call in calls[1:]:
        await call.aclose()
    engine.may_say.set()
    async with asyncio.timeout(SECONDS_MAX):
        await engine.has_said.wait()
    await asyncio.sleep(0)
    (said,) = dispatcher.report(0).engines
    assert (said.running, said.in_flight) == (4, 1)
    assert said.load == round(1 / said.bound, 3), "the other three were its own"
    await calls[0].aclose()
    await dispatcher.close()


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
