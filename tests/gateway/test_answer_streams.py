"""An answer's stream whatever the sources do: no gap, no repeat, and it ends."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import pytest

from events.answers import Entry
from events.ids import AnswerId, ConversationId, fresh_id
from gateway.answer_streams import (
    IDLE,
    AnswerRef,
    AnswerStreams,
    AnswerStreamUnavailable,
    Pace,
    SourceUnavailable,
)
from processors.answers.recorder_ports import Run
from tests.contracts.live_streams.sides import FINISH, MemoryLiveStreams, said

SECONDS_MAX = 30
PACE = Pace(
    read_seconds_max=0.02,
    ended_check_seconds=0.05,
    folds_check_seconds=60,
    lookup_seconds_max=0.05,
    keepalive_seconds=0.03,
    silent_seconds_max=5,
)
ALL = [*said("a ", "b ", "c ", "d "), Entry(4, "e", FINISH)]


class MemoryFolds:
    """The log: an answer's entries, and how many read it."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.away = False
        self.readers = 0
        self.opened = 0

    @asynccontextmanager
    async def follow(self, ref: AnswerRef) -> AsyncIterator["MemoryFolds"]:
        if self.away:
            raise SourceUnavailable("away")
        self.readers += 1
        self.opened += 1
        try:
            yield self
        finally:
            self.readers -= 1

    async def after(self, index: int, *, seconds_max: float) -> Sequence[Entry]:
        if self.away:
            raise SourceUnavailable("away")
        if len(self.entries) <= index + 1:
            await asyncio.sleep(seconds_max)
        return self.entries[index + 1 :]


class MemoryRecorded:
    """Recorded ends."""

    def __init__(self) -> None:
        self.found: Sequence[Entry] | None = None
        self.asked = 0
        self.away = False
        self.hangs = False

    async def entries(self, ref: AnswerRef) -> Sequence[Entry] | None:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.away:
            raise SourceUnavailable("away")
        return self.found


class World:
    def __init__(self, pace: Pace = PACE) -> None:
        self.live = MemoryLiveStreams()
        self.folds = MemoryFolds()
        self.model = MemoryRecorded()
        self.store = MemoryRecorded()
        self.streams = AnswerStreams(self.live, self.folds, [self.model, self.store], pace)
        self.ref = AnswerRef(AnswerId(fresh_id()), ConversationId(fresh_id()), fresh_id())

    async def kept_up(self) -> None:
        await self.live.keep_up([0], "r")

    async def say(self, entries: Sequence[Entry]) -> None:
        await self.live.append([Run(self.ref.answer, entries[0].index, entries, recorded=False)])

    async def read(self, *, after: int = -1, idle: list[object] | None = None) -> list[Entry]:
        seen: list[Entry] = []
        async with (
            asyncio.timeout(SECONDS_MAX),
            aclosing(self.streams.read(self.ref, after=after)) as read,
        ):
            async for entry in read:
                if entry is IDLE:
                    if idle is not None:
                        idle.append(entry)
                else:
                    seen.append(entry)
        return seen


@pytest.fixture
def world() -> World:
    return World()


async def test_a_live_stream_is_passed_on_as_it_comes(world: World) -> None:
    await world.kept_up()
    reading = asyncio.create_task(world.read())
    for entry in ALL:
        await world.say([entry])
        await asyncio.sleep(0)
    assert await reading == ALL
    assert world.folds.opened == 0


@pytest.mark.parametrize("after", [-1, 0, 3])
async def test_a_cursor_gets_what_follows(world: World, after: int) -> None:
    await world.say(ALL)
    assert await world.read(after=after) == ALL[after + 1 :]


async def test_an_answer_that_ended_long_ago_costs_one_query(world: World) -> None:
    world.model.found = ALL
    assert await world.read(after=1) == ALL[2:]
    assert (world.model.asked, world.store.asked, world.folds.opened) == (1, 0, 0)


async def test_a_cursor_at_the_end_gets_nothing_and_the_stream_ends(world: World) -> None:
    world.model.found = ALL
    assert await world.read(after=4) == []


async def test_an_answer_just_asked_for_is_not_looked_up() -> None:
    world = World(replace(PACE, ended_check_seconds=60))  # nor in vain, on a slow machine
    world.ref = AnswerRef(world.ref.answer, world.ref.conversation, world.ref.tenant, True)
    await world.kept_up()
    reading = asyncio.create_task(world.read())
    await asyncio.sleep(0)
    await world.say(ALL)
    assert await reading == ALL
    assert world.model.asked == 0


async def test_without_redis_the_log_serves(world: World) -> None:
    world.live.away = True
    world.folds.entries = ALL[:2]
    reading = asyncio.create_task(world.read())
    await asyncio.sleep(0.05)
    world.folds.entries = list(ALL)
    assert await reading == ALL
    assert world.folds.readers == 0


async def test_without_a_recorder_the_log_serves_too(world: World) -> None:
    await world.say(ALL[:2])
    world.folds.entries = list(ALL)
    assert await world.read() == ALL


async def test_without_redis_and_log_the_recorded_end_serves(world: World) -> None:
    world.live.away = world.folds.away = True
    reading = asyncio.create_task(world.read())
    await asyncio.sleep(0.03)
    world.store.found = ALL
    assert await reading == ALL


async def test_a_database_that_hangs_does_not_hold_the_log_up(world: World) -> None:
    world.live.away = True
    world.model.hangs = world.store.hangs = True
    world.folds.entries = list(ALL)
    assert await world.read() == ALL


async def test_a_lagging_read_model_is_passed_over(world: World) -> None:
    await world.kept_up()
    await world.say(ALL[:1])
    world.model.away = True
    world.store.found = ALL
    assert await world.read() == ALL


async def test_when_redis_is_back_the_log_is_left(world: World) -> None:
    world.live.away = True
    world.folds.entries = ALL[:2]
    reading = asyncio.create_task(world.read())
    async with asyncio.timeout(SECONDS_MAX):
        while not world.folds.readers:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        world.live.away = False
        await world.kept_up()
        await world.say(ALL[:3])
        while world.folds.readers:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    await world.say(ALL[3:])
    assert await reading == ALL


async def test_what_everybody_has_missed_is_found_in_the_log(world: World) -> None:
    world = World(Pace(**{**_as_dict(PACE), "folds_check_seconds": 0.05}))
    await world.kept_up()
    world.folds.entries = list(ALL)
    assert await world.read() == ALL


async def test_a_silent_stream_looks_elsewhere_less_and_less_often(world: World) -> None:
    world = World(
        replace(PACE, read_seconds_max=0.001, ended_check_seconds=0.001, silent_seconds_max=1)
    )
    await world.kept_up()
    with pytest.raises(AnswerStreamUnavailable):
        await world.read()
    # 1, 2, 4, 8 and then 16 ms apart, at the soonest, in a second; without that it is each ms
    assert 4 <= world.store.asked <= 4 + 1_000 / 16


async def test_a_source_that_repeats_or_skips_is_not_believed(world: World) -> None:
    class Odd(MemoryFolds):
        async def after(self, index: int, *, seconds_max: float) -> Sequence[Entry]:
            await asyncio.sleep(0)
            return [*ALL[max(0, index - 1) : index + 2], *ALL[index + 3 :]]

    world.live.away = True
    world.streams.folds = Odd()
    assert await world.read() == ALL


async def test_silence_is_told_and_goes_on(world: World) -> None:
    await world.kept_up()
    idle: list[object] = []
    reading = asyncio.create_task(world.read(idle=idle))
    async with asyncio.timeout(SECONDS_MAX):
        while len(idle) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    await world.say(ALL)
    assert await reading == ALL


async def test_after_too_long_a_silence_it_says_how_to_go_on(world: World) -> None:
    world = World(Pace(**{**_as_dict(PACE), "silent_seconds_max": 0.1}))
    await world.say(ALL[:2])
    with pytest.raises(AnswerStreamUnavailable, match="after index 1"):
        await world.read()


async def test_no_gap_and_no_repeat_whatever_fails(world: World) -> None:
    chance = random.Random(5)
    for _ in range(25):
        world = World()
        every = [*said(*(f"{number} " for number in range(30))), Entry(30, "end", FINISH)]
        reading = asyncio.create_task(world.read())
        for index in range(31):
            world.folds.entries = every[: index + 1]
            world.live.away = chance.random() < 0.2
            world.folds.away = chance.random() < 0.2
            if chance.random() < 0.1:
                await world.live.flush()
            if chance.random() < 0.3:
                await world.kept_up() if not world.live.away else None
            if chance.random() < 0.7 and not world.live.away:
                have = len(world.live.stream(world.ref.answer))
                await world.say(every[have : index + 1])
            await asyncio.sleep(chance.choice([0, 0, 0.001, 0.005]))
        world.folds.away = world.live.away = False
        world.store.found = every
        assert await reading == every


def _as_dict(pace: Pace) -> dict[str, float]:
    return {name: getattr(pace, name) for name in pace.__slots__}


@pytest.mark.parametrize("away", [True, False])
async def test_an_answer_that_has_ended_is_read_at_once_although_the_read_model_lags(
    away: bool,
) -> None:
    """Nothing is waited for that is known not to come."""
    world = World(replace(PACE, read_seconds_max=60, ended_check_seconds=60))
    world.model.away = away
    world.store.found = ALL
    world.ref = replace(world.ref, ended=True)
    assert await world.read(after=1) == ALL[2:]
    assert await world.read(after=4) == []
    assert world.folds.opened == 0
