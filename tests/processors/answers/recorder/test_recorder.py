"""The recorder against a log, live streams and an event store in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import orjson
import pytest

from events.answers import Claim, ClaimId
from events.ids import fresh_id
from processors.answers import recorder as module
from processors.answers.recorder import Recorder
from processors.answers.recorder_ports import Run, RunRefused
from tests.contracts.live_streams.sides import MemoryLiveStreams
from tests.processors.answers.recorder.fakes import MemoryEnds, MemoryLog, MemoryTokenLog, Speaker


class World:
    def __init__(self) -> None:
        self.log = MemoryLog()
        self.live: MemoryLiveStreams = MemoryLiveStreams()
        self.ends = MemoryEnds()

    def speaker(self) -> Speaker:
        return Speaker(self.log, self.ends)

    @asynccontextmanager
    async def recorder(
        self, *, answer_seconds_max: float = 60, ends_waiting_max: int = 100
    ) -> AsyncIterator[Recorder]:
        made = Recorder(
            self.live,
            self.ends,
            answer_seconds_max=answer_seconds_max,
            ends_waiting_max=ends_waiting_max,
        )
        task = asyncio.create_task(made.run(MemoryTokenLog(self.log, made)))
        yield made
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(module, "COMMIT_SECONDS", 0.02)
    monkeypatch.setattr(module, "KEEP_UP_SECONDS", 0.02)
    monkeypatch.setattr(module, "RETRY_SECONDS_MAX", 0.05)
    return World()


async def becomes(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # what it waits for has no event
            await asyncio.sleep(0.005)


async def test_what_counts_is_streamed_and_the_end_is_recorded_once(world: World) -> None:
    speaker = world.speaker()
    async with world.recorder():
        speaker.claim()
        speaker.say("one ", "two ")
        await becomes(lambda: world.live.stream(speaker.answer) == speaker.entries)
        speaker.end("three")
        await becomes(lambda: world.log.committed == len(world.log.records))
        assert world.live.stream(speaker.answer) == speaker.entries
        await becomes(lambda: speaker.answer in world.live.expiring)
    ended = world.ends.recorded[speaker.answer]
    assert ended.text == "one two three"
    assert ended.chunk_lengths == (4, 4, 5)
    assert world.ends.calls == 1


async def test_nothing_is_committed_past_an_answer_that_is_not_over(world: World) -> None:
    first, second = world.speaker(), world.speaker()
    async with world.recorder():
        first.claim()
        second.claim()
        second.say("short")
        second.end()
        await becomes(lambda: second.answer in world.ends.recorded)
        first.say("long")
        await becomes(lambda: world.live.stream(first.answer) == first.entries)
        await asyncio.sleep(0.06)
        assert world.log.committed == 0
        first.end()
        await becomes(lambda: world.log.committed == len(world.log.records))


async def test_an_end_that_is_not_recorded_holds_the_offset(world: World) -> None:
    speaker = world.speaker()
    world.ends.away = True
    async with world.recorder():
        speaker.claim()
        speaker.end("all")
        await becomes(lambda: world.live.stream(speaker.answer) == speaker.entries)
        await becomes(lambda: world.ends.calls > 1)
        assert world.log.committed == 0
        world.ends.away = False
        await becomes(lambda: world.log.committed == 2)
    assert world.ends.recorded[speaker.answer].text == "all"


async def test_a_recorder_killed_anywhere_is_replaced_without_a_gap(world: World) -> None:
    speakers = [world.speaker() for _ in range(4)]
    for round_number in range(12):
        async with world.recorder():
            for number, speaker in enumerate(speakers):
                if round_number == number:
                    speaker.claim()
                elif round_number == 8 + number:
                    speaker.end("end")
                elif number < round_number < 8 + number:
                    speaker.say(f"{round_number} ")
            await asyncio.sleep(0.003 * (round_number % 3))
    async with world.recorder():
        await becomes(lambda: world.log.committed == len(world.log.records))
    for speaker in speakers:
        assert world.live.stream(speaker.answer) == speaker.entries
        assert world.ends.recorded[speaker.answer].text == speaker.fold.text


async def test_what_is_not_a_record_is_counted_and_skipped(world: World) -> None:
    speaker = world.speaker()
    async with world.recorder() as recorder:
        world.log.write_raw(b"k", b"garbage")
        world.log.write_raw(None, None)
        world.log.write_raw(b"\xff", b'{"kind":"claim"}')
        speaker.claim()
        speaker.end("fine")
        await becomes(lambda: world.log.committed == 5)
        assert recorder.counts.undecodable == 3
    assert speaker.answer in world.ends.recorded


async def test_a_record_with_fields_of_the_wrong_kind_harms_nobody(world: World) -> None:
    speaker = world.speaker()
    async with world.recorder() as recorder:
        speaker.claim()
        key = str(speaker.conversation).encode()
        epoch, claim = speaker.claim_id
        start = {"answer": str(speaker.answer), "claim": str(claim), "kind": "claim"}
        rest = {"worker": "w", "model": "m", "protocol": 1, "traceparent": None}
        world.log.write_raw(key, orjson.dumps({**start, **rest, "epoch": "high"}))
        chunk = {**start, "kind": "chunk", "epoch": epoch, "index": 0, "tokens": 1}
        world.log.write_raw(key, orjson.dumps({**chunk, "text": 5}))
        world.log.write_raw(key, orjson.dumps({**chunk, "text": "x", "tokens": "many"}))
        speaker.say("fine")
        speaker.end()
        await becomes(lambda: world.log.committed == 6)
        assert recorder.counts.undecodable == 3
    assert world.live.stream(speaker.answer) == speaker.entries


async def test_the_rest_of_an_answer_that_is_over_holds_nothing_up(world: World) -> None:
    speaker = world.speaker()
    speaker.claim()
    speaker.say("said ")
    world.log.committed = 1  # another answer held the offset here once, this one is long recorded
    async with world.recorder():
        await becomes(lambda: world.log.committed == 2)


async def test_an_end_of_an_unknown_answer_is_dropped_and_blocks_nothing(world: World) -> None:
    stranger = Speaker(world.log)
    async with world.recorder() as recorder:
        stranger.claim()
        stranger.end("who?")
        await becomes(lambda: world.log.committed == 2)
        assert recorder.counts.unknown == 1


async def test_without_redis_ends_are_recorded_and_later_all_is_streamed(world: World) -> None:
    open_one, over = world.speaker(), world.speaker()
    world.live.away = True
    async with world.recorder():
        for speaker in (open_one, over):
            speaker.claim()
            speaker.say("a", "b")
        over.end("c")
        await becomes(lambda: over.answer in world.ends.recorded)
        world.live.away = False
        both = (open_one, over)
        await becomes(lambda: all(world.live.stream(s.answer) == s.entries for s in both))


async def test_a_flush_is_noticed_without_a_new_token(world: World) -> None:
    speaker = world.speaker()
    async with world.recorder() as recorder:
        speaker.claim()
        speaker.say("a", "b")
        await becomes(lambda: world.live.stream(speaker.answer) == speaker.entries)
        await becomes(lambda: recorder._kept_up)
        await world.live.flush()
        assert world.live.stream(speaker.answer) == []
        await becomes(lambda: world.live.stream(speaker.answer) == speaker.entries)


async def test_too_many_waiting_ends_pause_reading_until_the_store_is_back(world: World) -> None:
    world.ends.away = True
    speakers = [world.speaker() for _ in range(8)]
    async with world.recorder(ends_waiting_max=4):
        for speaker in speakers[:5]:
            speaker.claim()
            speaker.end("x")
        await becomes(lambda: world.log.paused)
        for speaker in speakers[5:]:
            speaker.claim()
            speaker.end("y")
        await asyncio.sleep(0.05)
        assert not world.live.stream(speakers[7].answer)
        world.ends.away = False
        await becomes(lambda: len(world.ends.recorded) == 8)
        await becomes(lambda: world.log.committed == len(world.log.records))


async def test_a_late_claim_for_an_answer_that_is_over_holds_nothing_up(world: World) -> None:
    speaker = world.speaker()
    speaker.claim()
    speaker.end("over")
    async with world.recorder():
        await becomes(lambda: world.log.committed == 2)
    async with world.recorder(answer_seconds_max=0.05) as recorder:
        late = Claim(speaker.answer, ClaimId(9, fresh_id()), "sleepy", "m")
        world.log.write(speaker.conversation, late)
        await becomes(lambda: world.log.committed == 3)
        assert recorder.counts.forgotten == 1


async def test_an_open_answer_is_never_forgotten_however_long_it_takes(world: World) -> None:
    speaker = world.speaker()
    async with world.recorder(answer_seconds_max=0.02):
        speaker.claim()
        speaker.say("slow")
        await asyncio.sleep(0.15)
        assert world.log.committed == 0
        speaker.end("ly")
        await becomes(lambda: world.log.committed == 3)
    assert world.ends.recorded[speaker.answer].text == "slowly"


async def test_folds_of_lost_partitions_are_dropped(world: World) -> None:
    speaker = world.speaker()
    async with world.recorder() as recorder:
        speaker.claim()
        speaker.say("mine")
        await becomes(lambda: world.live.stream(speaker.answer) == speaker.entries)
        recorder.revoked([0])
        before = list(speaker.entries)
        speaker.say("not mine")
        await asyncio.sleep(0.03)
        assert world.live.stream(speaker.answer) == before


class NeverIdle(MemoryLiveStreams):
    """While a round trip runs, another token comes and is folded."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self.speaker = world.speaker()
        self.recorder: Recorder
        self.trips = 0

    async def append(self, runs: Sequence[Run]) -> Sequence[int | RunRefused]:
        has = await super().append(runs)
        self.trips += 1
        self.speaker.say("more ")
        await becomes(lambda: self.recorder.counts.records == len(self._world.log.records))
        return has


async def test_the_sign_of_life_is_renewed_while_there_is_always_something_to_write(
    world: World,
) -> None:
    live = world.live = NeverIdle(world)
    async with world.recorder() as recorder:
        live.recorder = recorder
        live.speaker.claim()
        live.speaker.say("first ")
        await becomes(lambda: live.trips)
        signs = live.signs
        await becomes(lambda: live.signs > signs + 3)


async def test_a_stream_that_can_not_be_written_holds_up_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RUNS_PER_PIPELINE_MAX", 2)
    stuck = [world.speaker() for _ in range(2)]
    world.live.refusing = {speaker.answer for speaker in stuck}
    well = world.speaker()
    async with world.recorder():
        for speaker in (*stuck, well):
            speaker.claim()
            speaker.say("a")
        for _ in range(5):
            await becomes(lambda: world.live.stream(well.answer) == well.entries)
            well.say("b")
            stuck[0].say("c")
        signs = world.live.signs
        await becomes(lambda: world.live.signs > signs + 1)
        world.live.refusing = set()
        await becomes(lambda: all(world.live.stream(s.answer) == s.entries for s in stuck))


async def test_a_stream_that_never_was_written_is_given_up_once_its_end_is_recorded(
    world: World,
) -> None:
    speaker = world.speaker()
    world.live.refusing = {speaker.answer}
    async with world.recorder() as recorder:
        speaker.claim()
        speaker.say("a")
        await becomes(lambda: recorder._refused)
        speaker.end("b")
        await becomes(lambda: speaker.answer in world.ends.recorded)
        await becomes(lambda: not recorder._refused and not recorder._owing)
