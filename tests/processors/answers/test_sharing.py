"""Workers that share engines: never more than their places, and none idle while another waits."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import uvloop

from events.statements import Statement
from processors.answers.calls import Call, work_of
from processors.answers.dispatch import Dispatcher, DispatchLimits
from processors.answers.engine import Finished, FinishReason, Prompt, Token
from processors.answers.scheduling.scheduler import Scheduler
from processors.answers.scheduling.seats import Seat, SeatLimits
from processors.answers.sharing import Sharing
from tests.processors.answers.fakes import FakeEngine, request
from tests.processors.answers.test_dispatch import PROMPT

PLACES, PARTITIONS = 8, 16


@dataclass
class Together:
    """Workers whose statements all read, in one order."""

    engine: FakeEngine
    workers: list[Dispatcher] = field(default_factory=list)

    def add(self, count: int) -> None:
        limits = DispatchLimits(seats=SeatLimits(batch_requests=PLACES, ahead_requests=0))
        for number in range(count):
            self.workers.append(
                Dispatcher(
                    [self.engine],
                    limits,
                    worker=f"w{number}",
                    partitions=PARTITIONS,
                    say=self.say,
                )
            )
        for number, worker in enumerate(self.workers):
            worker.owns(range(number, PARTITIONS, count))

    def say(self, statement: Statement) -> None:
        loop = asyncio.get_running_loop()
        for worker in self.workers:
            loop.call_later(0.005, worker.heard, statement)

    async def ask(self, worker: Dispatcher) -> None:
        async for _ in Call(worker, work_of(request(), PROMPT, 30), PROMPT).tokens():
            pass

    async def close(self) -> None:
        for worker in self.workers:
            await worker.close()


def speaking_for(seconds: float) -> FakeEngine:
    async def script(prompt: Prompt) -> AsyncIterator[Token | Finished]:
        await asyncio.sleep(seconds)
        yield Token(" 0", 0)
        yield Finished(FinishReason.STOP, prompt_tokens=1)

    return FakeEngine("a", script)


async def test_one_busy_worker_gets_the_places_of_the_idle_one() -> None:
    together = Together(speaking_for(0.2))
    together.add(2)
    asking = [asyncio.create_task(together.ask(together.workers[0])) for _ in range(40)]
    async with asyncio.timeout(20):
        await asyncio.gather(*asking)
    assert together.engine.open_max == PLACES
    await together.close()


async def test_two_busy_workers_share_an_engine_and_keep_to_its_bound() -> None:
    together = Together(speaking_for(0.05))
    together.add(2)
    asking = [
        asyncio.create_task(together.ask(together.workers[number % 2])) for number in range(60)
    ]
    async with asyncio.timeout(20):
        await asyncio.gather(*asking)
    assert together.engine.open_max <= PLACES
    await together.close()


async def test_more_workers_than_places_all_get_their_turn() -> None:
    together = Together(speaking_for(0.02))
    together.add(12)
    asking = [asyncio.create_task(together.ask(worker)) for worker in together.workers]
    async with asyncio.timeout(20):
        await asyncio.gather(*asking)
    assert together.engine.open_max <= PLACES
    await together.close()


async def test_more_places_are_told_at_once_and_fewer_are_used_no_more() -> None:
    scheduler, grown = Scheduler(random.Random(0)), []
    seat = scheduler.seats["a"] = Seat("a")
    places = Sharing(
        "w", scheduler, partitions=2, say=lambda _: None, grown=lambda: grown.append(seat.share)
    )
    places.owns(())
    places.owns({0, 1})
    places.owns({0})
    bound = seat.limits.bound
    assert (grown, seat.share) == ([bound], bound // 2)
    places.close()


def test_two_changes_at_once_are_one_look_in_the_loop_that_workers_have_too() -> None:
    """uvloop's handle of what is due at once is no timer's."""

    async def looked() -> None:
        scheduler = Scheduler(random.Random(0))
        seat = scheduler.seats["a"] = Seat("a")
        places = Sharing("w", scheduler, partitions=1, say=lambda _: None, grown=lambda: None)
        places.look_soon()
        places.look_soon()
        await asyncio.sleep(0)
        places.close()
        assert seat.share == 0, "it owns no partition"

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(looked())
