"""Each step of the role, and a death after it: nothing is lost, and nothing takes effect twice."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from psycopg.errors import CheckViolation

from infra.checks.sagas import sagas as checked
from infra.sagas import tables
from infra.sagas.changes import Overtaken
from infra.sagas.work import Unavailable
from sagas.answers import Again
from sagas.saga import Answer, Answered
from tests.contracts.sagas.conftest import PATIENCE, SUBJECT, World

DUE = "UPDATE sagas.timers SET due = '-infinity'"
LATER = "UPDATE sagas.outbox SET taken_until = clock_timestamp() - interval '1 second'"
"""Whoever has taken the commands has had time enough to send them."""
FULL = "ALTER TABLE sagas.outbox ADD CONSTRAINT nothing_more CHECK (false) NOT VALID"
FREED = "ALTER TABLE sagas.outbox DROP CONSTRAINT nothing_more"


class Dies:
    """Sends through another one, and never says what came of it."""

    def __init__(self, world: World) -> None:
        self._sender = world.sender()

    async def send(self, command: Again) -> Answered[Again]:
        await self._sender.send(command)
        raise Unavailable("it was killed")


async def test_a_late_answer_is_asked_for_again_and_waited_for_again(world: World) -> None:
    answer, events = await world.asked()
    feed, work = await world.feed(), await world.work()
    await feed.apply(world.records(events))
    await world.change(DUE)
    await work.do_all()
    (again,) = await world.again(events[-1])
    request = events[-1].event
    assert again.event.model_dump() == {
        "conversation": request.model_dump()["conversation"],
        "answer": answer,
        "model": "m",
        "band": "flex",
        "times": 1,
    }
    assert (again.meta.subject, again.meta.actor) == (SUBJECT, "sagas")
    assert (again.meta.causation, again.meta.correlation) == (
        events[-1].id,
        events[-1].meta.correlation,
    )
    state = await world.state(answer)
    assert state is not None
    assert state.times == 1
    assert len(await world.waits()) == 1
    assert await world.rows("SELECT * FROM sagas.outbox") == []


async def test_what_ends_within_a_batch_is_never_written(world: World) -> None:
    _, events = await world.asked()
    feed = await world.feed()
    await feed.apply(world.records([*events, *await world.ended(events[-1])]))
    assert await world.rows("SELECT pg_relation_size('sagas.instances')") == [(0,)]
    assert await world.rows("SELECT sum(next_offset) FROM sagas.offsets") == [(4,)]


async def test_an_end_of_a_later_batch_stops_the_timer(world: World) -> None:
    _, events = await world.asked()
    feed, work = await world.feed(), await world.work()
    await feed.apply(world.records(events))
    assert len(await world.waits()) == 1
    await feed.apply(world.records(await world.ended(events[-1])))
    assert await world.waits() == []
    assert await world.rows("SELECT * FROM sagas.instances") == []
    assert await work.fire() == 0


async def test_events_that_come_once_more_change_nothing(world: World) -> None:
    answer, events = await world.asked()
    feed, work = await world.feed(), await world.work()
    await feed.apply(world.records(events))
    await world.change(DUE)
    await work.do_all()
    waits = await world.waits()
    await feed.apply(world.records(events))
    await feed.apply(world.records([events[-1], events[-1]]))
    assert await world.waits() == waits
    state = await world.state(answer)
    assert state is not None
    assert state.times == 1


async def test_a_death_between_a_timer_and_its_command_loses_neither(world: World) -> None:
    _, events = await world.asked()
    feed, dying, next_life = await world.feed(), await world.work(), await world.work()
    await feed.apply(world.records(events))
    await world.change(DUE)
    assert await dying.fire() == 1
    assert await world.again(events[-1]) == []
    await next_life.do_all()
    assert len(await world.again(events[-1])) == 1


async def test_a_timer_whose_command_cannot_be_written_has_not_fired(world: World) -> None:
    answer, events = await world.asked()
    feed, work = await world.feed(), await world.work()
    await feed.apply(world.records(events))
    await world.change(DUE)
    before = await world.state(answer)
    await world.change(FULL)
    with pytest.raises(CheckViolation):
        await work.fire()
    assert await world.rows("SELECT count(*) FROM sagas.timers") == [(1,)]
    assert await world.state(answer) == before
    await world.change(FREED)
    await work.do_all()
    assert len(await world.again(events[-1])) == 1


async def test_a_command_that_is_sent_twice_takes_effect_once(world: World) -> None:
    _, events = await world.asked()
    feed, dying = await world.feed(), await world.work(Dies(world))
    next_life = await world.work()
    await feed.apply(world.records(events))
    await world.change(DUE)
    await dying.do_all()
    assert len(await world.rows("SELECT * FROM sagas.outbox")) == 1
    assert await next_life.send() == 0  # the other one may live
    await world.change(LATER)
    assert await next_life.send() == 1
    assert len(await world.again(events[-1])) == 1
    assert await world.rows("SELECT * FROM sagas.outbox") == []


async def test_two_processes_let_a_timer_fire_once(world: World) -> None:
    feed = await world.feed()
    asked = [await world.asked() for _ in range(40)]
    await feed.apply(world.records([one for _, events in asked for one in events]))
    works = [await world.work() for _ in range(4)]
    await world.change(DUE)
    fired = await asyncio.gather(*(work.fire() for work in works))
    fired += await asyncio.gather(*(work.fire() for work in works))
    assert sum(fired) == 40
    assert await world.rows("SELECT count(*), count(DISTINCT instance) FROM sagas.outbox") == [
        (40, 40)
    ]


async def test_a_process_that_sleeps_with_a_timer_in_hand_keeps_it_from_nobody_for_long(
    world: World,
) -> None:
    _, events = await world.asked()
    feed, work, asleep = await world.feed(), await world.work(), await world.connect()
    await feed.apply(world.records(events))
    await world.change(DUE)
    sleeping = asleep.transaction()
    await sleeping.__aenter__()
    await asleep.execute(tables.LOCK_DUE, ("answers", 1))
    assert await work.fire() == 0
    pid = asleep.info.backend_pid
    await world.rows(f"SELECT pg_terminate_backend({pid}, 30000)")
    assert await work.fire() == 1


async def test_a_process_that_has_lost_its_partition_writes_nothing(world: World) -> None:
    answer, events = await world.asked()
    asleep, awake = await world.feed(), await world.feed()
    read = world.records(events)
    await awake.apply(read)
    await awake.apply(world.records(await world.ended(events[-1])))
    with pytest.raises(Overtaken):
        await asleep.apply(read)
    assert await world.state(answer) is None
    assert await world.rows("SELECT sum(next_offset) FROM sagas.offsets") == [(4,)]


async def test_the_stores_clock_decides_what_is_late(world: World) -> None:
    """A gateway whose clock is an hour behind makes events that look an hour old."""
    answer, events = await world.asked(seconds=600, age=timedelta(hours=1))
    feed, work = await world.feed(), await world.work()
    await feed.apply(world.records(events))
    await work.do_all()
    assert await world.again(events[-1]) == []
    state = await world.state(answer)
    assert state is not None
    assert state.times == 0
    (wait,) = await world.rows("SELECT extract(epoch FROM due - now())::float8 FROM sagas.timers")
    assert 500 < wait[0] <= 600 + PATIENCE.grace_seconds
    await world.change(DUE)
    await work.do_all()
    assert await world.rows("SELECT count(*) FROM sagas.outbox") == [(0,)]


async def test_a_clock_that_is_ahead_puts_no_timer_off(world: World) -> None:
    _, events = await world.asked(seconds=600, age=timedelta(hours=-1))
    feed = await world.feed()
    await feed.apply(world.records(events))
    (wait,) = await world.rows("SELECT extract(epoch FROM due - now())::float8 FROM sagas.timers")
    assert wait[0] <= 600 + PATIENCE.grace_seconds


async def test_an_end_that_was_not_heard_of_ends_the_wait(world: World) -> None:
    """An old request may come again long after its end: nobody is called for that."""
    answer, events = await world.asked()
    await world.ended(events[-1])
    feed, work = await world.feed(), await world.work()
    await feed.apply(world.records(events))
    await world.change(DUE)
    await work.do_all()
    assert await world.state(answer) is None
    assert await world.again(events[-1]) == []


async def test_an_answer_that_nobody_knows_ends_the_wait(world: World) -> None:
    """The event store was restored from an older backup."""
    answer, events = await world.asked()
    unknown = replace(
        events[-1], event=events[-1].event.model_copy(update={"answer": events[-1].id})
    )
    feed, work = await world.feed(), await world.work()
    await feed.apply(world.records([unknown]))
    await world.change(DUE)
    await work.do_all()
    assert await world.waits() == []
    assert await world.state(answer) is None


async def test_after_so_many_times_a_person_is_called_until_the_end_comes(world: World) -> None:
    answer, events = await world.asked()
    feed, work = await world.feed(), await world.work()
    await feed.apply(world.records(events))
    for _ in range(PATIENCE.times_max + 2):
        await world.change(DUE)
        await work.do_all()
    assert len(await world.again(events[-1])) == PATIENCE.times_max
    assert await world.waits() == []
    (wrong,) = await asyncio.to_thread(lambda: list(checked(world.settings)))
    assert wrong.todo
    assert str(answer) in wrong.what
    asked_again = await world.again(events[-1])
    (end,) = await world.ended(replace(events[-1], position=asked_again[-1].position))
    await feed.apply(world.records([end]))
    (well,) = await asyncio.to_thread(lambda: list(checked(world.settings)))
    assert not well.todo


async def test_what_can_not_be_read_is_told_and_holds_up_nothing(world: World) -> None:
    _, events = await world.asked()
    feed = await world.feed()
    good = world.records(events)
    broken = [replace(one, value=b"{", offset=one.offset + 3) for one in good]
    world.offset += 3
    no_answer = [replace(one, value=b'{"answer": 7}') for one in world.records(events)]
    newer = [
        replace(one, headers=[(n, b"99" if n == "ce_schemaversion" else v) for n, v in one.headers])
        for one in world.records((await world.asked())[1])
    ]
    await feed.apply([*good, *broken, *no_answer, *newer])
    assert len(await world.waits()) == 1
    (wrong,) = await asyncio.to_thread(lambda: list(checked(world.settings)))
    assert "3 events that can't be read" in wrong.what


async def test_a_store_that_is_away_leaves_the_command_for_later(world: World) -> None:
    class Away:
        async def send(self, command: Again) -> Answered[Again]:
            raise Unavailable("away")

    _, events = await world.asked()
    feed, work = await world.feed(), await world.work(Away())
    await feed.apply(world.records(events))
    await world.change(DUE)
    await work.do_all()
    assert len(await world.rows("SELECT * FROM sagas.outbox")) == 1


async def test_a_command_that_is_refused_is_not_sent_for_ever(world: World) -> None:
    class Refuses:
        async def send(self, command: Again) -> Answered[Again]:
            return Answered(command, Answer.REFUSED)

    answer, events = await world.asked()
    feed, work = await world.feed(), await world.work(Refuses())
    await feed.apply(world.records(events))
    await world.change(DUE)
    await work.do_all()
    assert await world.rows("SELECT * FROM sagas.outbox") == []
    assert await world.state(answer) is not None
    assert len(await world.waits()) == 1
