"""What gateway.log.ports.EventLog promises, of the log in memory and of the one on Postgres."""

from datetime import UTC, datetime
from uuid import UUID

from events.conversations import ConversationRenamed, ConversationStarted
from events.ids import fresh_id
from gateway.log.ports import CLOCKS_APART_MAX, Wanted
from tests.contracts.event_log.logs import MINE, NOON, THEIRS, Bench, all_of, minutes


async def test_an_empty_log_has_its_end_at_0(bench: Bench) -> None:
    assert await bench.log.end() == 0
    assert await bench.log.before(NOON) == 0
    assert await bench.log.tenant_of(fresh_id()) is None
    step = await bench.log.read(Wanted(), 0, events_max=10)
    assert (step.found, step.place, step.at_end, step.past) == ([], 0, True, False)


async def test_everything_is_read_once_in_commit_order(bench: Bench) -> None:
    streams = [await bench.happened(titles=n % 4) for n in range(15)]
    found = await all_of(bench.log, Wanted())
    assert [one.place for one in found] == sorted({one.place for one in found})
    assert found[-1].place == await bench.log.end()
    of_streams: dict[UUID, list[int]] = {}
    for one in found:
        of_streams.setdefault(one.recorded.stream, []).append(one.recorded.position)
    assert of_streams == {id_: list(range(1, 2 + n % 4)) for n, id_ in enumerate(streams)}


async def test_a_reading_goes_on_from_any_place(bench: Bench) -> None:
    for _ in range(6):
        await bench.happened()
    whole = await all_of(bench.log, Wanted())
    for at, one in enumerate(whole):
        step = await bench.log.read(Wanted(), one.place, events_max=3)
        assert list(step.found) == whole[at + 1 : at + 4]


async def test_a_tenant_sees_its_own_events_whatever_others_write(bench: Bench) -> None:
    mine = [await bench.happened(at=NOON) for _ in range(3)]
    for _ in range(12):
        await bench.happened(tenant=THEIRS, command=f'x"tenant":"{MINE}"{fresh_id()}')
    mine.append(await bench.happened())
    found = await all_of(bench.log, Wanted(tenant=MINE))
    assert {one.recorded.stream for one in found} == set(mine)
    assert len(found) == 8
    assert len(await all_of(bench.log, Wanted(tenant=THEIRS))) == 24
    assert await all_of(bench.log, Wanted(tenant=fresh_id())) == []
    assert await all_of(bench.log, Wanted(tenant=THEIRS, stream=mine[0])) == []
    assert await bench.log.tenant_of(mine[0]) == MINE


async def test_a_step_that_finds_nothing_says_how_far_it_looked(bench: Bench) -> None:
    for _ in range(9):
        await bench.happened(tenant=THEIRS)
    step = await bench.log.read(Wanted(tenant=MINE), 0, events_max=5)
    assert (step.found, step.place, step.at_end) == ([], 10, False)
    step = await bench.log.read(Wanted(tenant=MINE), step.place, events_max=5)
    assert (step.found, step.place, step.at_end) == ([], 18, True)


async def test_types_and_one_stream(bench: Bench) -> None:
    streams = [await bench.happened(titles=8) for _ in range(3)]
    started = await all_of(bench.log, Wanted(types=frozenset({ConversationStarted.TYPE})))
    assert [one.recorded.stream for one in started] == streams
    both = frozenset({ConversationStarted.TYPE, ConversationRenamed.TYPE})
    assert len(await all_of(bench.log, Wanted(types=both))) == 27
    second = await all_of(bench.log, Wanted(stream=streams[1]))
    assert [one.recorded.position for one in second] == list(range(1, 10))
    rest = await all_of(bench.log, Wanted(stream=streams[1], from_position=6))
    assert rest == second[5:]
    renamed = frozenset({ConversationRenamed.TYPE})
    assert await all_of(bench.log, Wanted(stream=streams[1], types=renamed)) == second[1:]


async def test_a_time_is_found_although_clocks_do_not_agree(bench: Bench) -> None:
    """The clocks of those who wrote them differ by up to five minutes."""
    apart = [0, 2, -3, 1, -1]
    for n in range(60):
        await bench.happened(at=NOON + minutes(n + apart[n % len(apart)]), titles=0)
    whole = await all_of(bench.log, Wanted())
    for minute in (0, 17, 30, 59, 80):
        since, until = NOON + minutes(minute), NOON + minutes(minute + 8)
        place = await bench.log.before(since)
        assert all(one.recorded.meta.time < since for one in whole if one.place <= place)
        assert place >= min(minute, 60) - 5 - 3 - 2 - 1  # it is near
        wanted = Wanted(since=since, until=until)
        assert await all_of(bench.log, wanted) == [
            one for one in whole if since <= one.recorded.meta.time < until
        ]


async def test_a_time_that_is_over_ends_a_reading(bench: Bench) -> None:
    for n in range(40):
        await bench.happened(at=NOON + minutes(n), titles=0)
    place, steps = 0, 0
    while True:
        step = await bench.log.read(Wanted(until=NOON + minutes(5)), place, events_max=50)
        place, steps = step.place, steps + 1
        if step.past:
            break
    assert place < 21  # it did not look at the rest
    now = datetime.now(UTC)
    end = await bench.log.end()
    just_over = Wanted(until=now - CLOCKS_APART_MAX / 2)
    assert not (await bench.log.read(just_over, end, events_max=5)).past  # may still come
    long_over = Wanted(until=now - CLOCKS_APART_MAX * 2)
    assert (await bench.log.read(long_over, end, events_max=5)).past
