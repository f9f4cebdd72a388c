"""What a worker knows of engines that it has no calls at."""

import asyncio
from dataclasses import replace

import pytest

from events.workers import EngineReport
from processors.answers import fleet
from tests.processors.answers.fakes import FakeEngine, Slow, numbers
from tests.processors.answers.test_dispatch import QUICK, dispatcher_of, say

SECONDS_MAX = 30.0
PAUSED = replace(QUICK, pause_seconds=0.5, pause_seconds_max=0.5)
"""So that its breaker is still open when it is looked at."""


@pytest.mark.parametrize(("engine", "is_out"), [(FakeEngine("a"), True), (Slow("a"), False)])
async def test_one_that_cannot_be_connected_to_is_out_and_one_slow_answer_is_not_enough(
    monkeypatch: pytest.MonkeyPatch, engine: FakeEngine, is_out: bool
) -> None:
    """So gateways hear from every worker that an engine is away, also from those without calls."""
    dispatcher = dispatcher_of(engine, breaker=PAUSED)
    assert await say(dispatcher) == numbers(5)
    monkeypatch.setattr(fleet, "MODELS_SECONDS_MAX", 0.0)
    engine.unreachable = True

    def reported() -> EngineReport:
        (one,) = dispatcher.report(0).engines
        return one

    async with asyncio.timeout(SECONDS_MAX):
        reported()
        await asyncio.wait(dispatcher._fleet._tasks)  # it is asked what it serves
    assert (reported().breaker == "open", reported().out_seconds is not None) == (is_out, is_out)
    assert reported().models == engine.served, "what it said before serves on"
    engine.unreachable = False
    async with asyncio.timeout(SECONDS_MAX):
        assert await say(dispatcher) == numbers(5)
    await dispatcher.close()
