"""What the scheduler takes: by itself, and on an event loop for one request that finds room."""

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

from events.conversations import Band
from events.ids import AnswerId, ConversationId
from processors.answers.dispatch import Dispatcher
from processors.answers.engine import Finished, Prompt, Token
from processors.answers.scheduling.scheduler import Dispatch, Outcome, Scheduler
from processors.answers.scheduling.seats import Figures, Seat
from processors.answers.scheduling.work import Queued
from tests.bench.measure import Spread

WAITING, TENANTS, ENGINES = 1_000, 20, 4
MODEL = "numbered"
SECONDS = 600.0
"""Deadlines are this far away."""
USED = 50


def work(tenant: int) -> Queued:
    now = time.monotonic()
    return Queued(
        AnswerId(uuid4()),
        ConversationId(uuid4()),
        UUID(int=tenant + 1),
        list(Band)[tenant % len(Band)],
        MODEL,
        tokens=1_024,
        asked_at=now,
        deadline=now + SECONDS,
    )


def decided(decisions: int) -> float:
    """Decisions a second of processor time: each takes one of a thousand that wait, of 20 tenants
    in all bands, gives it to one of four full engines, and puts another one in."""
    scheduler = Scheduler(random.Random(1))
    for number in range(ENGINES):
        seat = scheduler.seats[str(number)] = Seat(str(number))
        seat.models = (MODEL,)
    coming = deque(work(number % TENANTS) for number in range(WAITING + decisions))
    for _ in range(WAITING):
        scheduler.queue.put(coming.popleft(), time.monotonic())
    under_way: deque[Dispatch] = deque()
    while (dispatch := scheduler.next(time.monotonic())) is not None:
        under_way.append(dispatch)
    began = time.process_time()  # nothing waits here: what else runs on the machine is left out
    for one in coming:
        now = time.monotonic()
        scheduler.ended(under_way.popleft(), Outcome.FINISHED, USED, now)
        scheduler.queue.put(one, now)
        following = scheduler.next(now)
        assert following is not None, "an engine has just got room"
        under_way.append(following)
    return decisions / (time.process_time() - began)


async def added(requests: int) -> Spread:
    """Seconds from a request until it has its engine, when there is room: what queueing costs."""
    dispatcher = Dispatcher([_Idle(str(number)) for number in range(ENGINES)])
    seconds = []
    first = await dispatcher.acquire(work(0))  # by then the engines have said what they serve
    dispatcher.ended(first, Outcome.FINISHED, USED)
    for number in range(requests):
        one = work(number % TENANTS)
        began = time.perf_counter()
        dispatch = await dispatcher.acquire(one)
        seconds.append(time.perf_counter() - began)
        dispatcher.ended(dispatch, Outcome.FINISHED, USED)
        await asyncio.sleep(0)
    await dispatcher.close()
    return Spread.of(seconds)


class _Idle:
    """An engine that is never asked to speak."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def models(self) -> tuple[str, ...]:
        return (MODEL,)

    async def healthy(self) -> bool:
        return True

    async def figures(self) -> Figures | None:
        return None

    def generate(self, prompt: Prompt) -> AsyncIterator[Token | Finished]:
        raise NotImplementedError

    async def close(self) -> None:
        pass
