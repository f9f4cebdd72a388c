"""A worker tells of its stages up to the first token as spans of the turn; a second one as well."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from events import trace
from events.trace import Span
from processors.answers.engine import Finished, Prompt, Token
from tests.fixtures.spans import names
from tests.processors.answers.test_worker import House, running

STAGES = ["receive request", "load transcript", "first token", "claim answer", "first text"]


async def test_the_stages_of_a_request_are_children_of_its_turn(told: list[Span]) -> None:
    house, request = House(), trace.new_traceparent()
    asked = replace(house.ask(5), traceparent=request)
    async with running(house) as worker:
        worker.take(asked)
        await house.acknowledged(asked)
    assert sorted(names(told)) == sorted(STAGES)
    assert {span.parent for span in told} == {(trace.ids_of(trace.turn_of(request)) or ("", ""))[1]}
    assert {span.attributes["thalweg.answer"] for span in told} == {str(asked.answer)}
    assert {span.failed for span in told} == {""}
    for span in told:
        assert 0 < span.began_ns <= span.ended_ns


async def test_nothing_is_told_of_a_request_that_is_not_sampled(told: list[Span]) -> None:
    house = House()
    asked = replace(house.ask(5), traceparent=trace.new_traceparent()[:-1] + "0")
    async with running(house) as worker:
        worker.take(asked)
        await house.acknowledged(asked)
    assert told == []


async def test_a_load_that_fails_is_told_and_the_next_one_too(told: list[Span]) -> None:
    house = House()
    asked = replace(house.ask(2), traceparent=trace.new_traceparent())
    house.requests.failures = 1
    async with running(house) as worker:
        worker.take(asked)
        await house.acknowledged(asked)
    loads = [span.failed for span in told if span.name == "load transcript"]
    assert loads == ["unavailable", ""]


async def test_a_second_worker_says_from_where_it_goes_on(told: list[Span]) -> None:
    house, request = House(), trace.new_traceparent()
    asked = replace(house.ask(4), traceparent=request)

    async def hanging(prompt: Prompt) -> AsyncIterator[Token | Finished]:
        yield Token(" 0", 0)
        await never.wait()

    never = asyncio.Event()
    usual, house.engine.script = house.engine.script, hanging
    async with running(house) as first:
        first.take(asked)
        await house.until(lambda: house.log.of(asked.answer).tokens == 1, "a token")
    house.engine.script = usual
    told.clear()
    async with running(house) as second:
        second.take(asked)
        await house.acknowledged(asked)
    (claim,) = [span for span in told if span.name == "claim answer"]
    assert claim.attributes["thalweg.said"] == 1
    assert {span.parent for span in told} == {trace.turn_of(request).split("-")[2]}
