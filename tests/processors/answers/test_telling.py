"""What a worker's log says of an answer: a line with its trace, and nothing of its content."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from events import trace
from events.conversations import Band, EndKind
from processors.answers.engine import EngineFailed, Finished, FinishReason, Prompt, Token
from tests.processors.answers.test_worker import House, running

SECRET = "the words of somebody"


async def test_the_engines_words_stay_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    asked = house.ask(5)

    async def broken(prompt: Prompt) -> AsyncIterator[Token | Finished]:
        if not prompt.said:
            yield Token(" 0", 0)
            raise EngineFailed(f"it can't say {SECRET}", kind="HTTP 500")
        yield Finished(FinishReason.STOP)

    house.engine.script = broken
    with caplog.at_level(logging.DEBUG, "thalweg"):
        async with running(house) as worker:
            worker.take(asked)
            await house.acknowledged(asked)
    lines = [vars(record) for record in caplog.records]
    assert SECRET not in str(lines)
    assert [line["kind"] for line in lines if "kind" in line] == ["HTTP 500"] * 2


async def test_a_held_request_leaves_one_line_in_its_trace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    house = House()
    traceparent = trace.new_traceparent()
    asked = replace(house.ask(3), traceparent=traceparent)
    traces: list[str | None] = []

    class Traces(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if getattr(record, "answer", "") == str(asked.answer):
                traces.append(trace.current.get())

    log, seen = logging.getLogger("thalweg.answers"), Traces(logging.INFO)
    log.addHandler(seen)
    try:
        with caplog.at_level(logging.INFO, "thalweg.answers"):
            async with running(house) as worker:
                worker.take(asked)
                await house.acknowledged(asked)
    finally:
        log.removeHandler(seen)
    assert [(trace.ids_of(one) or ("",))[0] for one in traces] == [traceparent.split("-")[1]]
    told = [record for record in caplog.records if hasattr(record, "acknowledged")]
    assert [(vars(one)["acknowledged"], vars(one)["end"]) for one in told] == [(True, "finish")]


async def test_a_cancel_gets_through_when_no_more_requests_do() -> None:
    house = House(unfinished_requests_max=1, places=1)

    async def endless(prompt: Prompt) -> AsyncIterator[Token | Finished]:
        yield Token(" 0", 0)
        await asyncio.Event().wait()

    house.engine.script = endless
    asked = [house.ask(5, offset=offset) for offset in range(3)]
    async with running(house) as worker:
        for one in asked:
            worker.take(one)
        await house.until(lambda: house.log.of(asked[0].answer).tokens == 1, "a token")
        assert (worker.held, Band.PRIORITY in house.work.held_back) == (1, False)
        for one in asked:
            worker.cancel(one.answer)
        for one in asked:
            await house.acknowledged(one)
    ends = [house.log.of(one.answer).end for one in asked]
    assert [end.kind for end in ends if end is not None] == [EndKind.CANCELLED] * 3
