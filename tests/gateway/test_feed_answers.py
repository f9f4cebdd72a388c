"""Answers whose chunks go to a feed: which have a place, and when they leave it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID

from events.answers import Entry
from events.ids import fresh_id
from gateway.errors import AnswerExpired, Declined, Unavailable
from gateway.feed_answers import FollowedAnswers
from gateway.feed_cursor import FOLLOWED_MAX
from tests.gateway.fakes import SECONDS_MAX, TENANT, MemoryStreams, begun, spoken, until


class Following:
    """Answers that are followed without a feed around them."""

    def __init__(self, streams: MemoryStreams) -> None:
        self.conversation = fresh_id()
        self.read: list[tuple[UUID, Entry | Declined]] = []
        self.answers = FollowedAnswers(
            streams, TENANT.tenant, lambda: None, fixed=False, again_seconds=0.001
        )

    async def until(self, holds: Callable[[], bool]) -> None:
        def read_and_look() -> bool:
            self.read += [(answer, entry) for answer, _, entry in self.answers.entries()]
            return holds()

        await until(read_and_look)


@asynccontextmanager
async def following(streams: MemoryStreams) -> AsyncIterator[Following]:
    made = Following(streams)
    yield made
    await made.answers.close()
    assert streams.reading == 0


async def test_of_many_open_answers_some_wait_for_a_place() -> None:
    streams = MemoryStreams()
    streams.script = begun("a")
    news = asyncio.Event()
    following = FollowedAnswers(streams, TENANT.tenant, news.set, fixed=False)
    conversation = fresh_id()
    answers = [fresh_id() for _ in range(FOLLOWED_MAX + 2)]
    following.are_open(conversation, answers)
    begun_answers: set[UUID] = set()
    ended: set[UUID] = set()

    async def read_until(count: int) -> None:
        async with asyncio.timeout(SECONDS_MAX):
            while len(begun_answers) < count:
                await news.wait()
                news.clear()
                begun_answers.update(answer for answer, _, _ in following.entries())

    await read_until(FOLLOWED_MAX)
    assert begun_answers == set(answers[:FOLLOWED_MAX])
    for one in answers[:2]:
        streams.say(one, *spoken("a")[1:])
        ended.add(one)
    following.are_open(conversation, [one for one in answers if one not in ended])
    await read_until(FOLLOWED_MAX + 2)
    assert set(following.cursors) == set(answers) - ended
    await following.close()
    assert streams.reading == 0


async def test_an_answer_that_ended_while_it_waited_for_a_place_leaves_that_place_again() -> None:
    streams = MemoryStreams()
    streams.script = begun("a")
    async with following(streams) as feeding:
        answers = [fresh_id() for _ in range(FOLLOWED_MAX + 1)]
        feeding.answers.are_open(feeding.conversation, answers)
        feeding.answers.are_open(feeding.conversation, answers[1:-1])
        for one in (answers[0], answers[-1]):
            streams.say(one, *spoken("a")[1:])
        await feeding.until(lambda: set(feeding.answers.cursors) == set(answers[1:-1]))
        ends = [answer for answer, entry in feeding.read if isinstance(entry, Entry) and entry.end]
        assert ends == [answers[0], answers[-1]]


async def test_an_answer_that_could_not_be_read_is_read_again_and_told_of_once() -> None:
    streams = MemoryStreams()
    streams.script = begun("a", "b")
    streams.unavailable_after = 0
    async with following(streams) as feeding:
        answer = fresh_id()
        feeding.answers.are_open(feeding.conversation, [answer])
        await feeding.until(lambda: len(streams.refs) > 2)
        streams.unavailable_after = None
        streams.say(answer, *spoken("a", "b")[2:])
        feeding.answers.are_open(feeding.conversation, [])
        await feeding.until(lambda: not feeding.answers.cursors)
        entries = [entry for _, entry in feeding.read]
        assert isinstance(entries.pop(1), Unavailable)
        assert entries == spoken("a", "b")


async def test_an_answer_that_can_never_be_read_is_forgotten() -> None:
    streams = MemoryStreams()
    streams.script = begun("a")
    streams.expired_after = 0
    async with following(streams) as feeding:
        answer = fresh_id()
        feeding.answers.are_open(feeding.conversation, [answer])
        feeding.answers.are_open(feeding.conversation, [])
        await feeding.until(lambda: not feeding.answers.cursors)
        assert feeding.read[-1] == (answer, AnswerExpired(answer))
