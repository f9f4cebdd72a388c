"""What a worker has taken and not started, while there is no engine for it."""

import asyncio
from collections.abc import AsyncIterator

from events.answers import Claim, ClaimId, End
from events.conversations import EndKind, Usage
from events.ids import fresh_id
from processors.answers.engine import Finished, Prompt, Token
from processors.answers.ports import Request
from tests.processors.answers.test_worker import House, running


async def endless(prompt: Prompt) -> AsyncIterator[Token | Finished]:
    yield Token(" 0", 0)
    await asyncio.Event().wait()


def full_house() -> tuple[House, Request, Request]:
    """Its only place is taken by the first request; the second one waits for it."""
    house = House(places=1)
    house.engine.script = endless
    return house, house.ask(5, offset=0), house.ask(5, offset=1)


async def test_a_worker_that_stops_starts_nothing_of_what_waits() -> None:
    house, speaks, waits = full_house()
    async with running(house) as worker:
        worker.take(speaks)
        worker.take(waits)
        await house.until(lambda: house.engine.open == 1, "one speaks")
    for _ in range(10):  # what was put off until the loop turns again
        await asyncio.sleep(0)
    assert (worker.held, worker.waiting) == (0, 0)
    assert not house.log.written(waits.answer)
    assert len(house.engine.calls) == 1


async def test_an_end_that_somebody_else_wrote_needs_no_engine() -> None:
    house, speaks, waits = full_house()
    async with running(house) as worker:
        worker.take(speaks)
        worker.take(waits)
        await house.until(lambda: (worker.held, worker.waiting) == (1, 1), "one waits")
        theirs = ClaimId(0, fresh_id())
        house.log.write(0, Claim(waits.answer, theirs, "w0", "numbered"))
        end = End(waits.answer, theirs, 0, EndKind.FINISH, "stop", None, "hi", 1, Usage())
        house.log.write(0, end)
        await house.acknowledged(waits)
        assert worker.waiting == 0
    assert len(house.engine.calls) == 1
