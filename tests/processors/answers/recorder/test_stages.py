"""The recorder tells when an answer's first entry was read back, and when its readers have it."""

import pytest

from events import trace
from events.trace import LIVE_SECONDS_MAX, Span
from tests.fixtures.spans import names
from tests.processors.answers.recorder.test_recorder import World, becomes, world

__all__ = ["world"]  # the fixture


async def test_the_first_entry_is_told_of_once(world: World, told: list[Span]) -> None:
    speaker, request = world.speaker(), trace.new_traceparent()
    async with world.recorder():
        speaker.claim(traceparent=request)
        speaker.say("one ")
        await becomes(lambda: len(told) == 2)
        speaker.say("two ")
        speaker.end("three")
        await becomes(lambda: world.log.committed == len(world.log.records))
    assert names(told) == ["read back", "write live stream"]
    assert {span.parent for span in told} == {trace.turn_of(request).split("-")[2]}
    read, written = told
    assert read.ended_ns == written.began_ns


NOT_SAMPLED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"


@pytest.mark.parametrize("request_", [None, NOT_SAMPLED])
async def test_an_answer_without_a_sampled_trace_is_not_told_of(
    world: World, told: list[Span], request_: str | None
) -> None:
    speaker = world.speaker()
    async with world.recorder():
        speaker.claim(traceparent=request_)
        speaker.end("one")
        await becomes(lambda: world.log.committed == len(world.log.records))
    assert told == []


async def test_old_tokens_that_are_read_again_make_no_spans(world: World, told: list[Span]) -> None:
    speaker = world.speaker()
    world.log.age_seconds = LIVE_SECONDS_MAX + 1
    async with world.recorder():
        speaker.claim(traceparent=trace.new_traceparent())
        speaker.say("one ")
        speaker.end("two")
        await becomes(lambda: world.log.committed == len(world.log.records))
    assert told == []
