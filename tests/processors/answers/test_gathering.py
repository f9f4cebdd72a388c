"""Which tokens share a record: those that arrive together, and under load those that follow."""

import asyncio
from collections.abc import AsyncIterator

from events.answers import Chunk, Claim, End
from processors.answers.engine import Finished, FinishReason, Prompt, Token
from processors.answers.pace import ANSWERS_AT_ONCE_MAX
from tests.processors.answers.fakes import counting, numbers
from tests.processors.answers.test_worker import House, running


async def test_alone_no_token_is_held_back() -> None:
    house = House(chunk_delay_seconds_max=1_000)
    asked = house.ask(20)

    async def slowly(prompt: Prompt) -> AsyncIterator[Token | Finished]:
        async for item in counting(prompt):
            for _ in range(20):  # turns of the loop: more than a record's way through the log
                await asyncio.sleep(0)
            yield item

    house.engine.script = slowly
    async with running(house) as worker:
        worker.take(asked)
        await house.acknowledged(asked)
    chunks = [r for r in house.log.written(asked.answer) if isinstance(r, Chunk)]
    assert len(chunks) == 20


async def test_beside_many_others_only_the_first_token_is_sent_alone() -> None:
    """The window never ends here, so what waits for its end comes with the end of the answer."""
    house = House(chunk_delay_seconds_max=1_000, places=2 * ANSWERS_AT_ONCE_MAX)
    asked = [house.ask(5) for _ in range(ANSWERS_AT_ONCE_MAX + 2)]

    async def together(prompt: Prompt) -> AsyncIterator[Token | Finished]:
        async for item in counting(prompt):
            await house.until(lambda: len(house.engine.calls) == len(asked), "all calls")
            for _ in range(20):
                await asyncio.sleep(0)
            yield item

    house.engine.script = together
    async with running(house) as worker:
        for one in asked:
            worker.take(one)
        for one in asked:
            await house.acknowledged(one)
    last = [r for r in house.log.written(asked[-1].answer) if isinstance(r, Chunk | End)]
    assert [(type(one), one.tokens) for one in last] == [(Chunk, 1), (End, 4)]


async def test_tokens_that_arrive_together_share_a_record() -> None:
    house = House(chunk_delay_seconds_max=0)
    asked = house.ask(20)

    async def in_two_parts(prompt: Prompt) -> AsyncIterator[Token | Finished]:
        for number in range(20):
            for _ in range(20 if number == 15 else 0):  # turns of the loop: the first part lands
                await asyncio.sleep(0)
            yield Token(f" {number}", number)
        yield Finished(FinishReason.STOP, prompt_tokens=5)

    house.engine.script = in_two_parts
    async with running(house) as worker:
        worker.take(asked)
        await house.acknowledged(asked)
    claim, *said = house.log.written(asked.answer)
    assert [(type(one), one.tokens) for one in said if not isinstance(one, Claim)] == [
        (Chunk, 15),
        (End, 5),
    ]
    assert isinstance(claim, Claim)


async def test_while_a_chunk_is_on_its_way_tokens_are_gathered() -> None:
    house = House(chunk_delay_seconds_max=1_000)
    asked = house.ask(50)
    house.log.manual = True
    async with running(house) as worker:
        worker.take(asked)
        await house.until(lambda: len(house.engine.calls) == 1, "the call")
        await house.until(lambda: house.engine.open == 0, "all is said")
        house.log.manual = False
        house.log.land()
        await house.acknowledged(asked)
    chunks = [r for r in house.log.written(asked.answer) if isinstance(r, Chunk)]
    assert house.log.of(asked.answer).text == numbers(50)
    assert len(chunks) <= 2
