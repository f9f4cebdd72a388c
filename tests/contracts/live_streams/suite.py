"""What every implementation of the live streams does."""

import asyncio

from events.answers import Entry
from tests.contracts.live_streams.sides import (
    FINISH,
    Sides,
    a_ref,
    a_run,
    collect,
    said,
    words,
)


class LiveStreamsContract:
    async def test_what_is_appended_arrives_in_order(self, sides: Sides) -> None:
        ref = a_ref()
        async with sides.reader.follow(ref) as source:
            reading = asyncio.create_task(collect(source, -1, 9))
            for entry in words(10):
                assert await sides.writer.append([a_run(ref, [entry])]) == [entry.index + 1]
            assert await reading == words(10)

    async def test_a_reader_who_comes_late_sees_all(self, sides: Sides) -> None:
        ref = a_ref()
        await sides.writer.append([a_run(ref, words(300))])
        async with sides.reader.follow(ref) as source:
            assert await collect(source, -1, 299) == words(300)

    async def test_a_reader_with_a_cursor_sees_the_rest(self, sides: Sides) -> None:
        ref = a_ref()
        await sides.writer.append([a_run(ref, words(5))])
        async with sides.reader.follow(ref) as source:
            assert await source.after(2, seconds_max=0) == words(2, first=3)

    async def test_the_end_comes_as_it_was_written(self, sides: Sides) -> None:
        ref = a_ref()
        entries = [*said("a\0\n\u2028\U0001f30a", ""), Entry(2, "last", FINISH)]
        await sides.writer.append([a_run(ref, entries, recorded=True)])
        async with sides.reader.follow(ref) as source:
            assert await collect(source, -1, 2) == entries

    async def test_a_repeat_adds_nothing(self, sides: Sides) -> None:
        ref = a_ref()
        await sides.writer.append([a_run(ref, words(4))])
        assert await sides.writer.append([a_run(ref, words(2))]) == [4]
        assert await sides.writer.append([a_run(ref, words(3, first=2))]) == [5]
        async with sides.reader.follow(ref) as source:
            assert await collect(source, -1, 4) == words(5)

    async def test_a_run_behind_a_gap_adds_nothing_and_says_so(self, sides: Sides) -> None:
        ref, empty = a_ref(), a_ref()
        await sides.writer.append([a_run(ref, words(2))])
        runs = [a_run(ref, words(2, first=3)), a_run(empty, words(1, first=1))]
        assert await sides.writer.append(runs) == [2, 0]
        async with sides.reader.follow(ref) as source:
            assert not await source.after(1, seconds_max=0)

    async def test_several_answers_and_readers_are_kept_apart(self, sides: Sides) -> None:
        one, other = a_ref(), a_ref()
        async with (
            sides.reader.follow(one) as first,
            sides.reader.follow(one) as second,
            sides.reader.follow(other) as third,
        ):
            reading = [asyncio.create_task(collect(source, -1, 1)) for source in (first, second)]
            reading.append(asyncio.create_task(collect(third, -1, 0)))
            await sides.writer.append([a_run(one, words(2)), a_run(other, said("else"))])
            assert await asyncio.gather(*reading) == [words(2), words(2), said("else")]

    async def test_a_slow_reader_loses_nothing(self, sides: Sides) -> None:
        ref = a_ref()
        async with sides.reader.follow(ref) as source:
            assert not await source.after(-1, seconds_max=0)
            for entry in words(200):
                await sides.writer.append([a_run(ref, [entry])])
            assert await collect(source, -1, 199) == words(200)

    async def test_silence_ends_a_read_in_time(self, sides: Sides) -> None:
        async with sides.reader.follow(a_ref()) as source:
            async with asyncio.timeout(10):
                assert not await source.after(-1, seconds_max=0.1)

    async def test_after_a_flush_a_reader_goes_on_where_it_was(self, sides: Sides) -> None:
        ref = a_ref()
        async with sides.reader.follow(ref) as source:
            await sides.writer.append([a_run(ref, words(3))])
            assert await collect(source, -1, 2) == words(3)
            await sides.flush()
            assert await sides.writer.append([a_run(ref, words(1, first=3))]) == [0]
            reading = asyncio.create_task(collect(source, 2, 3))
            assert await sides.writer.append([a_run(ref, words(4))]) == [4]
            assert (await reading)[0] == words(1, first=3)[0]

    async def test_signs_of_life_are_seen_and_a_flush_takes_them(self, sides: Sides) -> None:
        ref = a_ref()
        everywhere = range(4)
        assert await sides.writer.keep_up(everywhere, "a") == frozenset(everywhere)
        assert await sides.reader.is_kept_up(ref)
        assert await sides.writer.keep_up(everywhere, "a") == frozenset()
        await sides.flush()
        assert await sides.writer.keep_up([0, 1], "a") == {0, 1}

    async def test_nobody_keeps_up_what_no_recorder_has(self, sides: Sides) -> None:
        assert not await sides.reader.is_kept_up(a_ref())
