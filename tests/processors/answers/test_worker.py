"""The worker on fakes: what it starts, when, and what it acknowledges."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from events.answers import Chunk, Claim, ClaimId, End
from events.conversations import Band, EndKind, Sampling, Usage
from events.decisions import Decision
from events.ids import AnswerId, fresh_id
from processors.answers import following
from processors.answers import worker as worker_module
from processors.answers.dispatch import Dispatcher, DispatchLimits
from processors.answers.engine import Finished, FinishReason, Prompt, Token
from processors.answers.meter import UNMEASURED, Meter
from processors.answers.ports import Request
from processors.answers.protocol_words import Bounds
from processors.answers.scheduling.breaker import BreakerLimits
from processors.answers.scheduling.seats import SeatLimits
from processors.answers.scheduling.work import QueueLimits
from processors.answers.surroundings import HoldingLimits
from processors.answers.worker import Worker, WorkerLimits
from tests.processors.answers.fakes import (
    FakeEngine,
    FakeLog,
    FakeRequests,
    FakeWork,
    breaking_after,
    counting,
    numbers,
    request,
    task,
)

SECONDS_MAX = 30.0


@dataclass
class House:
    """A worker and everything around it."""

    log: FakeLog = field(default_factory=FakeLog)
    work: FakeWork = field(default_factory=FakeWork)
    requests: FakeRequests = field(default_factory=FakeRequests)
    engine: FakeEngine = field(default_factory=lambda: FakeEngine("a"))
    engines: list[FakeEngine] = field(default_factory=list)
    unfinished_requests_max: int = 8
    places: int = 4
    """Of each engine."""
    chunk_delay_seconds_max: float = 0.02
    away_seconds_max: float = 10
    decisions: list[Decision] = field(default_factory=list)
    meter: Meter = UNMEASURED
    worker: Worker = field(init=False)
    dispatcher: Dispatcher = field(init=False)

    def make(self, name: str = "w1") -> Worker:
        holding = HoldingLimits(
            bounds=Bounds(claims_without_progress_max=3, answer_bytes_max=10_000),
            answer_seconds_max=60,
            claim_again_seconds=0.05,
            load_again_seconds=0.01,
            chunk_delay_seconds_max=self.chunk_delay_seconds_max,
            chunk_bytes_max=1_000,
            answer_logprobs_bytes_max=10_000,
        )
        self.dispatcher = Dispatcher(
            self.engines or [self.engine],
            DispatchLimits(
                queue=QueueLimits(no_capacity_seconds_max=self.away_seconds_max),
                seats=SeatLimits(batch_requests=self.places, ahead_requests=0),
                breaker=BreakerLimits(pause_seconds=0.01, pause_seconds_max=0.05),
            ),
            decide=self.decisions.append,
            meter=self.meter,
        )
        self.worker = Worker(
            name,
            tokens=self.log,
            work=self.work,
            requests=self.requests,
            dispatcher=self.dispatcher,
            limits=WorkerLimits(holding, self.unfinished_requests_max, 30),
        )
        return self.worker

    def ask(self, count: int = 5, **place: int) -> Request:
        """A request that the event store knows; it has not come yet."""
        asked = request(**place)  # type: ignore[arg-type]  # partition and offset
        self.requests.tasks[asked.answer] = task(count)
        return asked

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + SECONDS_MAX
        while not condition():
            assert time.monotonic() < end, f"waited in vain: {what}"
            await asyncio.sleep(0)

    async def acknowledged(self, asked: Request) -> None:
        await self.until(lambda: asked.place in self.work.acknowledged, "the acknowledgement")


@asynccontextmanager
async def running(house: House, partitions: set[int] | None = None) -> AsyncIterator[Worker]:
    worker = house.make()
    task = asyncio.create_task(worker.run())
    worker.assigned(1, partitions or {0})
    try:
        yield worker
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert house.engine.open == 0, "no call is left open"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "AGAIN_SECONDS", 0.001)


async def test_a_request_is_claimed_spoken_ended_and_acknowledged() -> None:
    house = House()
    asked = house.ask(5)
    async with running(house) as worker:
        worker.take(asked)
        await house.acknowledged(asked)
    said = house.log.of(asked.answer)
    assert (said.text, said.tokens) == (numbers(5), 5)
    kinds = [type(record) for record in house.log.written(asked.answer)]
    assert kinds[0] is Claim
    assert kinds[-1] is End


async def test_no_request_starts_before_its_partition_is_folded() -> None:
    house = House()
    asked = house.ask(5)
    old = ClaimId(0, fresh_id())
    house.log.write(0, Claim(asked.answer, old, "dead", "numbered"))
    house.log.write(0, Chunk(asked.answer, old, 0, " 0", 1))
    house.log.write(0, Chunk(asked.answer, old, 1, " 1", 1))
    house.log.unavailable = 3
    house.log.flowing.clear()
    async with running(house) as worker:
        await house.until(lambda: house.log.followed == {0}, "it reads the tokens")
        worker.take(asked)
        assert (worker.held, worker.waiting, worker.ready) == (0, 1, False)
        house.log.flowing.set()
        await house.acknowledged(asked)
        assert worker.ready
    assert house.log.of(asked.answer).text == numbers(5)
    assert house.engine.calls[0].said == " 0 1"


async def test_what_has_ended_in_the_log_is_acknowledged_without_a_load() -> None:
    house = House()
    asked = house.ask(5)
    old = ClaimId(0, fresh_id())
    house.log.write(0, Claim(asked.answer, old, "dead", "numbered"))
    end = End(asked.answer, old, 0, EndKind.FINISH, "stop", None, "hi", 1, Usage())
    house.log.write(0, end)
    async with running(house) as worker:
        worker.take(asked)
        await house.acknowledged(asked)
    assert house.requests.loads == 0


async def test_a_repeat_of_a_held_or_ended_request_is_acknowledged_with_it() -> None:
    house = House()
    asked = house.ask(50)
    again = request(offset=7, answer=asked.answer)
    later = request(offset=9, answer=asked.answer)
    async with running(house) as worker:
        worker.take(asked)
        worker.take(again)
        worker.take(asked)
        await house.acknowledged(again)
        worker.take(later)
    assert house.work.acknowledged == [asked.place, again.place, later.place]
    assert len(house.engine.calls) == 1


async def test_requests_beyond_the_bound_wait_and_hold_back_their_topics() -> None:
    house = House(unfinished_requests_max=5, places=2)
    never = asyncio.Event()

    async def silent(prompt: Prompt) -> AsyncIterator[Token | Finished]:
        await never.wait()
        yield Finished(FinishReason.STOP)

    house.engine.script = silent
    async with running(house) as worker:
        await house.until(lambda: worker.ready, "folded")
        for offset in range(5):
            worker.take(house.ask(5, offset=offset))
        await house.until(lambda: (worker.held, worker.waiting) == (2, 3), "two are held")
        assert house.work.held_back == (Band.DEFAULT, Band.FLEX)
        never.set()
        await house.until(lambda: len(house.work.acknowledged) == 5, "all five")
        await house.until(lambda: house.work.held_back == (), "the pressure drops")


async def test_urgent_requests_go_first() -> None:
    house = House(places=1)
    async with running(house) as worker:
        slow = [house.ask(3, offset=offset) for offset in range(3)]
        urgent = request(offset=0, band=Band.PRIORITY)
        house.requests.tasks[urgent.answer] = task(3)
        for asked in (*slow, urgent):
            worker.take(asked)
        await house.until(lambda: len(house.work.acknowledged) == 4, "all four")
    assert house.work.acknowledged[0] == urgent.place


async def endless(prompt: Prompt) -> AsyncIterator[Token | Finished]:
    yield Token(" 0", 0)
    await asyncio.Event().wait()


async def test_a_cancel_ends_the_answer_and_closes_the_call() -> None:
    house = House()
    asked = house.ask(5)

    house.engine.script = endless
    async with running(house) as worker:
        worker.take(asked)
        await house.until(lambda: house.log.of(asked.answer).tokens == 1, "a token")
        worker.cancel(asked.answer)
        await house.acknowledged(asked)
    end = house.log.of(asked.answer).end
    assert end is not None
    assert end.kind is EndKind.CANCELLED


async def test_a_cancel_that_comes_before_its_request_is_kept() -> None:
    house = House()
    asked = house.ask(5)
    async with running(house) as worker:
        worker.cancel(asked.answer)
        worker.take(asked)
        await house.acknowledged(asked)
    end = house.log.of(asked.answer).end
    assert end is not None
    assert end.kind is EndKind.CANCELLED


async def test_a_deadline_that_passes_ends_the_answer() -> None:
    house = House()
    asked = house.ask()
    house.requests.tasks[asked.answer] = task(5, seconds_left=0.05)

    house.engine.script = endless
    async with running(house) as worker:
        worker.take(asked)
        await house.acknowledged(asked)
    end = house.log.of(asked.answer).end
    assert end is not None
    assert end.reason == "deadline"


def two_of_which_the_first_asked_breaks_after(tokens: int) -> list[FakeEngine]:
    engines: list[FakeEngine] = []

    async def script(prompt: Prompt) -> AsyncIterator[Token | Finished]:
        is_first = sum(len(engine.calls) for engine in engines) == 1
        async for item in (breaking_after(tokens) if is_first else counting)(prompt):
            yield item

    engines += [FakeEngine("a", script), FakeEngine("b", script)]
    return engines


async def test_an_engine_whose_answer_is_closed_at_a_stop_sequence_has_succeeded() -> None:
    house = House()
    asked = house.ask(8)
    house.requests.tasks[asked.answer] = task(8, sampling=Sampling(max_tokens=100, stop=(" 3",)))
    async with running(house) as worker:
        worker.take(asked)
        await house.acknowledged(asked)
        (served,) = house.dispatcher.report(0).served
    assert house.log.of(asked.answer).text == numbers(3)
    assert served.requests_per_second > 0


async def test_an_engine_that_breaks_in_the_middle_is_a_seam() -> None:
    house = House(engines=two_of_which_the_first_asked_breaks_after(3))
    asked = house.ask(8)
    async with running(house) as worker:
        worker.take(asked)
        await house.acknowledged(asked)
    said = house.log.of(asked.answer)
    assert said.text == numbers(8)
    assert len(said.seams) == 1
    first, second = sorted(house.engines, key=lambda engine: engine.calls[0].said)
    assert (first.calls[0].said, second.calls[0].said) == ("", numbers(3))


async def test_an_engine_that_breaks_before_anything_could_be_shown_is_not_a_seam() -> None:
    house = House(engines=two_of_which_the_first_asked_breaks_after(1))
    asked = house.ask(5)
    changed = task(5, sampling=Sampling(max_tokens=100, stop=(" 0 STOP",)))
    house.requests.tasks[asked.answer] = changed
    async with running(house) as worker:
        worker.take(asked)
        await house.acknowledged(asked)
    said = house.log.of(asked.answer)
    assert (said.text, said.seams) == (numbers(5), ())


async def test_lost_partitions_stop_and_kept_ones_go_on() -> None:
    house = House()
    kept, lost = house.ask(5, partition=0), house.ask(5, partition=1)
    go = asyncio.Event()

    async def waiting(prompt: Prompt) -> AsyncIterator[Token | Finished]:
        async for item in counting(prompt):
            yield item
            await go.wait()

    house.engine.script = waiting
    async with running(house, {0, 1}) as worker:
        worker.take(kept)
        worker.take(lost)
        await house.until(lambda: house.engine.open == 2, "both are spoken")
        worker.assigned(2, {0})
        await house.until(lambda: house.engine.open == 1, "one was closed")
        go.set()
        await house.acknowledged(kept)
        assert lost.place not in house.work.acknowledged
        worker.assigned(3, {0, 1})
        worker.take(lost)
        await house.acknowledged(lost)
    assert house.log.of(lost.answer).text == numbers(5)
    assert len([r for r in house.log.written(kept.answer) if isinstance(r, Claim)]) == 1
    assert len([r for r in house.log.written(lost.answer) if isinstance(r, Claim)]) == 2


async def test_a_request_of_a_partition_that_is_not_owned_is_left_alone() -> None:
    house = House()
    async with running(house, {0}) as worker:
        worker.take(house.ask(5, partition=3))
        assert (worker.held, worker.waiting) == (0, 0)


async def test_a_database_that_is_away_delays_but_loses_nothing() -> None:
    house = House(requests=FakeRequests(failures=3))
    asked = house.ask(5)
    async with running(house) as worker:
        worker.take(asked)
        await house.acknowledged(asked)
    assert house.requests.loads == 4


async def test_while_the_log_is_away_nothing_is_acknowledged_and_then_it_goes_on() -> None:
    house = House()
    asked = house.ask(5)
    house.log.fail_sends = True
    async with running(house) as worker:
        worker.take(asked)
        await house.until(lambda: house.requests.loads == 1, "the load")
        await asyncio.sleep(0.1)  # how long the outage lasts
        assert not house.work.acknowledged
        house.log.fail_sends = False
        await house.acknowledged(asked)
    assert house.log.of(asked.answer).text == numbers(5)


async def test_a_stopped_worker_writes_no_end_and_acknowledges_nothing() -> None:
    house = House()
    asked = house.ask(5)

    house.engine.script = endless
    async with running(house) as worker:
        worker.take(asked)
        await house.until(lambda: house.log.of(asked.answer).tokens == 1, "a token")
    assert house.log.of(asked.answer).end is None
    assert not house.work.acknowledged


async def test_ended_answers_and_early_cancels_are_kept_up_to_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_module, "ENDED_ANSWERS_KEPT_MAX", 2)
    monkeypatch.setattr(worker_module, "EARLY_CANCELS_KEPT_MAX", 2)
    house = House()
    async with running(house) as worker:
        for offset in range(4):
            asked = house.ask(2, offset=offset)
            worker.take(asked)
            await house.acknowledged(asked)
            worker.cancel(AnswerId(fresh_id()))
        assert len(worker._ended) == 2
        assert len(worker._cancels) == 2
