"""What engines say of their load, and how a worker that is at work goes by it."""

import asyncio
import time
from collections.abc import Callable
from itertools import count

import pytest

from processors.answers import dispatch, figures
from processors.answers.scheduling.seats import Figures
from tests.processors.answers.fakes import FakeEngine, numbers
from tests.processors.answers.test_dispatch import asking, dispatcher_of, say
from tests.processors.answers.test_models import knowing

SECONDS_MAX = 30
TURNS = 20
"""Of the event loop: more than a question takes."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "TICK_SECONDS", 0.001)
    monkeypatch.setattr(figures, "FIGURES_SECONDS", 0.001)


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
    for _ in range(TURNS):  # on a machine that stood still it is only asked now
        await asyncio.sleep(0)
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
