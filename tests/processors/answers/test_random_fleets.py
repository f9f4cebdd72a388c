"""Random lives of a fleet: engines come, go, fail and change their models while calls are made,
given up and made again. In the end each call has ended and nothing of it is left.
"""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from events.statements import Statement
from processors.answers import calls, dispatch, figures, fleet
from processors.answers.dispatch import Dispatcher, DispatchLimits
from processors.answers.engine import (
    CannotContinue,
    EngineFailed,
    EngineRefused,
    Finished,
    NoEngine,
    Overloaded,
    Prompt,
    Token,
)
from processors.answers.scheduling import queue
from processors.answers.scheduling.seats import SeatLimits
from processors.answers.scheduling.work import QueueLimits
from tests.processors.answers.fakes import MODEL, FakeEngine, counting, numbers
from tests.processors.answers.test_dispatch import QUICK, asking, say

STEPS = 200
NAMES = "abcd"
MODELS = (MODEL, "other")
SECONDS_MAX = 30
ENDS = (EngineFailed, EngineRefused, NoEngine, Overloaded, CannotContinue)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "TICK_SECONDS", 0.001)
    monkeypatch.setattr(fleet, "MODELS_SECONDS_MAX", 0.01)
    monkeypatch.setattr(figures, "FIGURES_SECONDS", 0.001)
    monkeypatch.setattr(calls, "BROKEN_CALLS_MAX", 4)
    monkeypatch.setattr(queue, "ASKED_AGAIN_SECONDS", 0.02)


class Fleet:
    """Engines whose life is chance, and a dispatcher that shares them with nobody."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.wild = True
        self.made: list[FakeEngine] = []
        self.dispatcher = Dispatcher(
            [self.engine(name) for name in NAMES[:2]],
            DispatchLimits(
                queue=QueueLimits(queued_max=30, no_capacity_seconds_max=0.05),
                seats=SeatLimits(batch_requests=2, ahead_requests=1),
                breaker=QUICK,
            ),
            say=self.heard,
        )
        self.dispatcher.owns({0})

    def heard(self, statement: Statement) -> None:
        asyncio.get_running_loop().call_soon(self.dispatcher.heard, statement)

    def engine(self, name: str) -> FakeEngine:
        models = [model for model in MODELS if self.chance.random() < 0.8]
        made = FakeEngine(name, self.script, models)
        self.made.append(made)
        return made

    async def script(self, prompt: Prompt) -> AsyncIterator[Token | Finished]:
        if self.wild and (before := self.chance.choice(BEFORE)) is not None:
            raise before
        async for item in counting(prompt):
            if self.wild and self.chance.random() < 0.05:
                raise EngineFailed("cut")
            yield item

    def change(self) -> None:
        match self.chance.randrange(4):
            case 0 | 1:
                names = [name for name in NAMES if self.chance.random() < 0.6]
                self.dispatcher.set_engines([self.engine(name) for name in names])
            case 2:
                self.chance.choice(self.made).unreachable = self.chance.random() < 0.5
            case 3:
                self.chance.choice(self.made).served = (self.chance.choice(MODELS),)

    async def ask(self) -> str | None:
        begun = self.chance.random() < 0.3
        seconds_max = 0.2 if begun else 5
        try:
            return await say(
                self.dispatcher,
                self.chance.choice(MODELS),
                seconds_max=seconds_max,
                begun=begun,
            )
        except ENDS:
            return None


BEFORE = (
    None,
    None,
    None,
    EngineFailed("dead"),
    EngineFailed("away", reached=False),
    Overloaded("full"),
    EngineRefused("too long"),
    CannotContinue("no"),
)


@pytest.mark.parametrize("seed", range(12))
async def test_each_call_ends_and_leaves_nothing(seed: int) -> None:
    fleet, tasks = Fleet(random.Random(seed)), []
    loop = asyncio.get_running_loop()
    broken: list[object] = []
    loop.set_exception_handler(lambda _, context: broken.append(context))
    for _ in range(STEPS):
        match fleet.chance.randrange(6):
            case 0:
                fleet.change()
            case 1 | 2 | 3:
                tasks.append(asyncio.create_task(fleet.ask()))
            case 4 if tasks:
                fleet.chance.choice(tasks).cancel()
            case _:
                await asyncio.sleep(fleet.chance.choice((0, 0, 0.001, 0.005)))
    async with asyncio.timeout(SECONDS_MAX):
        said = await asyncio.gather(*tasks, return_exceptions=True)
    assert not [one for one in said if isinstance(one, Exception)]
    assert numbers(5) in said
    fleet.wild = False
    last = FakeEngine("last", models=MODELS)
    fleet.dispatcher.set_engines([last])
    async with asyncio.timeout(SECONDS_MAX):
        assert await say(fleet.dispatcher) == numbers(5)
        for each in fleet.made:
            if each.calls:
                await each.closed.wait()
    (seen,) = fleet.dispatcher.report(0).engines
    assert (seen.name, seen.in_flight) == ("last", 0)
    assert not fleet.dispatcher.report(0).queues
    assert not any(each.open for each in fleet.made)
    call = asking(fleet.dispatcher).tokens()
    await anext(call)
    await call.aclose()
    await fleet.dispatcher.close()
    assert not broken
