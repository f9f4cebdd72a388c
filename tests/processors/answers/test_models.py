"""Which models engines serve: what waits for them, and what is refused."""

import asyncio
import time
from typing import Any

import pytest

from processors.answers import dispatch, fleet
from processors.answers.dispatch import Dispatcher
from processors.answers.engine import EngineRefused, NoEngine
from processors.answers.scheduling import lately
from tests.processors.answers.fakes import MODEL, FakeEngine, Slow, numbers
from tests.processors.answers.test_dispatch import dispatcher_of, say

SECONDS_MAX = 30


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "TICK_SECONDS", 0.001)


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
    monkeypatch.setattr(fleet, "MODELS_SECONDS_MAX", 0.0)
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


async def test_an_engine_that_does_not_say_what_it_serves_serves_what_it_did(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fleet, "MODELS_SECONDS_MAX", 0.0)
    engine = Slow("a")
    dispatcher = await knowing(engine)
    engine.unreachable = True
    for _ in range(5):
        async with asyncio.timeout(SECONDS_MAX):
            assert await say(dispatcher) == numbers(5)
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
