"""Random lives of a worker: requests, cancels, deadlines, rebalances, engines that fail, outages,
and a former worker that still speaks. In the end every request has one end, and nothing is left."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from uuid import UUID

import pytest

from events.answers import Chunk, Claim, ClaimId
from events.conversations import Band, EndKind
from events.ids import fresh_id
from processors.answers import dispatch
from processors.answers.engine import (
    EngineFailed,
    EngineRefused,
    Finished,
    FinishReason,
    Overloaded,
    Prompt,
    Token,
)
from processors.answers.ports import Request
from processors.answers.worker import Worker
from tests.processors.answers.fakes import FakeEngine, counting, numbers, request, task
from tests.processors.answers.test_worker import House, running

PARTITIONS = range(3)
SHOWN_MAX = 9
TOKENS_PER_CALL = 4
FAILURES: tuple[Callable[[], Exception], ...] = (
    lambda: EngineFailed("broken"),
    lambda: EngineFailed("away", reached=False),
    Overloaded,
    lambda: EngineRefused("no"),
)


class Life:
    """What happens to one worker. All of it comes from the seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.engines_fail = True
        engines = [FakeEngine(name, self.speaks) for name in "ab"]
        self.house = House(engines=engines, places=2, unfinished_requests_max=1_000)
        self.asked: list[Request] = []
        self.owned = set(PARTITIONS)
        self.generation = 1

    async def speaks(self, prompt: Prompt) -> AsyncIterator[Token | Finished]:
        said = 0
        if self.engines_fail and self.chance.random() < 0.2:
            raise self.chance.choice(FAILURES)()
        async for item in counting(prompt):
            if self.engines_fail and said and self.chance.random() < 0.05:
                raise EngineFailed("in the middle")
            if said == TOKENS_PER_CALL and isinstance(item, Token):
                yield Finished(FinishReason.LENGTH)
                return
            said += 1
            yield item

    async def turns(self) -> None:
        for _ in range(self.chance.choice((0, 0, 1, 3, 10, 40))):
            await asyncio.sleep(0)

    def ask(self, worker: Worker) -> None:
        chance, number = self.chance, len(self.asked)
        made = replace(
            request(chance.choice(PARTITIONS), number, chance.choice(list(Band))),
            tenant=UUID(int=chance.randrange(3)),
            seconds_left=chance.choice((60, 60, 60, 0.01, -1)),
        )
        seconds_left = chance.choice((60, 60, 60, 0.02, 0))
        known = task(chance.randrange(1, SHOWN_MAX), seconds_left=seconds_left)
        self.house.requests.tasks[made.answer] = known
        self.asked.append(made)
        worker.take(made)

    def cancel(self, worker: Worker) -> None:
        worker.cancel(self.chance.choice(self.asked).answer)

    def rebalance(self, worker: Worker, owned: set[int] | None = None) -> None:
        before = self.owned
        self.owned = owned or {each for each in PARTITIONS if self.chance.random() < 0.6}
        self.generation += 1
        worker.assigned(self.generation, self.owned)
        for one in self.unacknowledged():
            if one.place.partition in self.owned - before:
                worker.take(one)  # Kafka brings it again

    def former_worker_speaks(self, worker: Worker) -> None:
        """About something that this one has not begun."""
        one = self.chance.choice(self.asked)
        if worker._waiting.get(one.answer) and not self.house.log.written(one.answer):
            claim = ClaimId(0, fresh_id())
            self.house.log.write(one.place.partition, Claim(one.answer, claim, "w0", "numbered"))
            self.house.log.write(one.place.partition, Chunk(one.answer, claim, 0, " 0", 1))

    def outage(self, _: Worker) -> None:
        self.house.requests.failures = self.chance.randrange(3)
        self.house.log.fail_sends = self.chance.random() < 0.3
        for engine in self.house.engines:
            engine.unreachable = self.chance.random() < 0.3

    def mend(self, worker: Worker) -> None:
        self.engines_fail = self.house.log.fail_sends = False
        for engine in self.house.engines:
            engine.unreachable = False
        self.rebalance(worker, set(PARTITIONS))

    def unacknowledged(self) -> list[Request]:
        done = set(self.house.work.acknowledged)
        return [one for one in self.asked if one.place not in done]


@pytest.mark.parametrize("seed", range(12))
async def test_every_request_ends_once_and_no_place_is_kept(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "TICK_SECONDS", 0.002)
    life = Life(seed)
    house = life.house
    happens = (life.cancel, life.rebalance, life.former_worker_speaks, life.outage)
    async with running(house, set(PARTITIONS)) as worker:
        for _ in range(100):
            if life.asked and life.chance.random() < 0.4:
                life.chance.choice(happens)(worker)
            else:
                life.ask(worker)
            await life.turns()
        life.mend(worker)
        await house.until(lambda: not life.unacknowledged(), "every request")
        dispatcher = worker._around.dispatcher
        await house.until(lambda: not any(e.open for e in house.engines), "the last call is closed")
        assert (worker.held, worker.waiting, len(dispatcher._waiting)) == (0, 0, 0)
        report = dispatcher.report(worker.held)
        assert [engine.in_flight for engine in report.engines] == [0, 0]
        assert report.queues == ()
    for one in life.asked:
        said = house.log.of(one.answer)
        assert said.end is not None
        assert numbers(SHOWN_MAX).startswith(said.text), "nothing lost, repeated or spliced"
        if said.end.kind is EndKind.FINISH:
            assert said.text == numbers(int(house.requests.tasks[one.answer].messages[-1].content))
