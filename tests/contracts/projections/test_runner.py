"""The runner on a real Postgres: repeats, gaps, poison, kills, and a rebuild that equals live."""

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import orjson
import psycopg
import pytest

from events import trace
from events.codec import to_cloudevent
from events.envelope import Recorded
from projections.answers import Answers
from projections.dead_letters import retry
from projections.keys import Keys
from projections.runner import Runner
from projections.tables import Db
from tests.contracts.projections.deliver import (
    TENANT,
    TOPIC,
    Partition,
    a_conversation,
    an_account,
    drop_live,
    ended,
    recorded_stream,
)
from tests.fixtures.servers import DatabaseUrl

GAP_SECONDS_MAX = 5.0


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def runner(db: Db, clock: Clock) -> Runner:
    made = Runner(Answers(), gap_seconds_max=GAP_SECONDS_MAX, clock=clock)
    made.create(db)
    return made


def rows(db: Db, table: str = "answers_v1") -> list[tuple[object, ...]]:
    return db.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()  # type: ignore[arg-type]


def answers(db: Db) -> set[object]:
    return {row[0] for row in rows(db)}


def positions(db: Db) -> dict[object, object]:
    return dict(rows(db, "answers_v1_positions"))  # type: ignore[arg-type]


def answers_in(recorded: Sequence[Recorded]) -> set[object]:
    found = [getattr(one.event, "answer", None) for one in recorded]
    return {answer for answer in found if answer is not None}


def test_an_end_becomes_a_row_and_every_event_moves_the_position(runner: Runner, db: Db) -> None:
    recorded = a_conversation()
    assert runner.apply(db, Partition().send(recorded)) == 1
    assert answers(db) == answers_in(recorded)
    assert positions(db) == {recorded[0].stream: 3}
    assert runner.offsets(db, TOPIC) == {0: 3}


def test_repeats_change_nothing(runner: Runner, db: Db) -> None:
    log, recorded = Partition(), a_conversation(answers=2)
    runner.apply(db, log.send(recorded))
    before = rows(db)
    assert runner.apply(db, log.send(recorded)) == 0
    assert runner.apply(db, log.send(recorded[1:3])) == 0
    assert rows(db) == before
    assert runner.offsets(db, TOPIC) == {0: 12}


def test_a_gap_waits_and_what_fills_it_sets_all_free(runner: Runner, db: Db) -> None:
    log, recorded = Partition(), a_conversation(answers=2)
    runner.apply(db, log.send(recorded[:1]))
    runner.apply(db, log.send(recorded[2:]))
    assert answers(db) == set()
    assert runner.waits
    assert runner.offsets(db, TOPIC) == {0: 1}, "a restart must read again what waits"
    runner.apply(db, log.send(recorded[1:2]))
    assert answers(db) == answers_in(recorded)
    assert not runner.waits
    assert runner.offsets(db, TOPIC) == {0: 5}


def test_a_gap_that_stays_parks_its_stream_and_no_other(
    runner: Runner, db: Db, clock: Clock
) -> None:
    log, broken, whole = Partition(), a_conversation(answers=2), a_conversation()
    runner.apply(db, log.send([broken[0], *broken[2:], *whole]))
    assert answers(db) == answers_in(whole)
    clock.now += GAP_SECONDS_MAX + 1
    runner.apply(db, [])
    assert [row[0] for row in rows(db, "answers_v1_parked")] == [broken[0].stream]
    assert len(rows(db, "answers_v1_dead_letters")) == 3
    assert not runner.waits
    assert runner.offsets(db, TOPIC) == {0: 7}
    more = recorded_stream(broken[0].stream, [ended(broken[0].stream, TENANT)], first=6)
    runner.apply(db, log.send(more))
    assert len(rows(db, "answers_v1_dead_letters")) == 4, "later events follow it there"


def test_a_parked_stream_goes_on_by_itself_when_what_it_waits_for_comes_after_all(
    runner: Runner, db: Db, clock: Clock
) -> None:
    log, broken = Partition(), a_conversation(answers=2)
    runner.apply(db, log.send([broken[0], *broken[2:]]))
    clock.now += GAP_SECONDS_MAX + 1
    runner.apply(db, [])
    still = retry(db, runner.projection, broken[0].stream, by="me")
    assert (still.applied, still.left, still.problem) == (0, 3, "position 2 is missing")
    more = recorded_stream(broken[0].stream, [ended(broken[0].stream, TENANT)], first=6)
    runner.apply(db, log.send([*more, broken[1]]))
    assert answers(db) == answers_in([*broken, *more])
    assert positions(db) == {broken[0].stream: 6}
    assert rows(db, "answers_v1_parked") == rows(db, "answers_v1_dead_letters") == []
    assert runner.apply(db, log.send([*broken, *more])) == 0, "a relay's repeats"


def test_a_repeat_of_what_cannot_be_applied_leaves_its_stream_parked(
    runner: Runner, db: Db
) -> None:
    log, poisoned = Partition(), a_conversation(answers=2)
    _, headers, _ = to_cloudevent(poisoned[2])
    sent = [*log.send(poisoned[:2]), log.send_raw(headers, b"{"), *log.send(poisoned[3:])]
    runner.apply(db, sent)
    runner.apply(db, [log.send_raw(headers, b"{"), *log.send(poisoned[3:])])
    assert answers(db) == set()
    assert positions(db) == {poisoned[0].stream: 2}
    assert len(rows(db, "answers_v1_dead_letters")) == 3


def test_an_unreadable_event_parks_its_stream(runner: Runner, db: Db) -> None:
    log, poisoned, whole = Partition(), a_conversation(answers=2), a_conversation()
    sent = log.send(poisoned[:2])
    readable = log.send(poisoned[2:3])[0]
    sent.append(log.send_raw(readable.headers, b"{}"))
    sent += log.send([*poisoned[3:], *whole])
    runner.apply(db, sent)
    assert answers(db) == answers_in(whole)
    assert positions(db)[poisoned[0].stream] == 2
    assert len(rows(db, "answers_v1_dead_letters")) == 3


def test_a_record_that_is_no_event_is_buried_alone(runner: Runner, db: Db) -> None:
    log, whole = Partition(), a_conversation()
    runner.apply(db, [log.send_raw([("ce_subject", b"\xff")], None), *log.send(whole)])
    assert answers(db) == answers_in(whole)
    (letter,) = rows(db, "answers_v1_dead_letters")
    assert letter[3] is None
    assert runner.offsets(db, TOPIC) == {0: 4}


def test_an_event_that_cannot_be_applied_parks_its_stream(runner: Runner, db: Db) -> None:
    log, whole, poisoned = Partition(), a_conversation(), a_conversation()
    bad = ended(poisoned[0].stream, TENANT).model_copy(update={"reason": "nul \0 in text"})
    later = recorded_stream(poisoned[0].stream, [bad, poisoned[0].event], first=4)
    runner.apply(db, log.send([*poisoned, *later, *whole]))
    assert answers(db) == answers_in(whole) | answers_in(poisoned)
    assert positions(db)[poisoned[0].stream] == 3
    assert len(rows(db, "answers_v1_dead_letters")) == 2


def test_a_kill_in_the_middle_of_a_batch_leaves_nothing_half_done(
    db: Db, database_url: DatabaseUrl, runner: Runner
) -> None:
    log, first, second = Partition(), a_conversation(), a_conversation()
    runner.apply(db, log.send(first))

    class Killed(BaseException):
        pass

    class Mortal(Answers):
        def apply(self, connection: Db, events: Sequence[Recorded], *, live: bool) -> None:
            super().apply(connection, events, live=live)
            raise Killed

    batch = log.send([*second, *first])
    with pytest.raises(Killed):
        Runner(Mortal(), gap_seconds_max=GAP_SECONDS_MAX).apply(db, batch)
    assert answers(db) == answers_in(first)
    assert runner.offsets(db, TOPIC) == {0: 3}
    fresh = Runner(Answers(), gap_seconds_max=GAP_SECONDS_MAX)
    fresh.apply(db, batch)
    assert answers(db) == answers_in(first) | answers_in(second)
    assert runner.offsets(db, TOPIC) == {0: 9}


@pytest.mark.parametrize("table", ["positions", "offsets"])
def test_rows_whose_positions_cannot_be_written_are_not_written_either(
    runner: Runner, db: Db, table: str
) -> None:
    log, first, second = Partition(), a_conversation(), a_conversation()
    runner.apply(db, log.send(first))
    batch = log.send(second)
    refused = f"ALTER TABLE answers_v1_{table} ADD CONSTRAINT full_ CHECK (false) NOT VALID"
    db.execute(refused)  # type: ignore[arg-type]
    with pytest.raises(psycopg.errors.CheckViolation):
        runner.apply(db, batch)
    assert answers(db) == answers_in(first)
    assert runner.offsets(db, TOPIC) == {0: len(first)}
    db.execute(f"ALTER TABLE answers_v1_{table} DROP CONSTRAINT full_")  # type: ignore[arg-type]
    runner.apply(db, batch)
    assert answers(db) == answers_in(first) | answers_in(second)


def test_two_runners_of_one_projection_do_no_harm(runner: Runner, db: Db) -> None:
    log, recorded = Partition(), a_conversation(answers=4)
    sent = log.send(recorded)
    other = Runner(Answers(), gap_seconds_max=GAP_SECONDS_MAX)
    runner.apply(db, sent[:6])
    other.apply(db, sent[:3])
    other.apply(db, sent[3:])
    runner.apply(db, sent[6:8])
    assert answers(db) == answers_in(recorded)
    assert runner.offsets(db, TOPIC) == {0: 9}
    assert not runner.waits
    assert not other.waits


def test_rebuilt_from_nothing_equals_live(runner: Runner, db: Db) -> None:
    chance = random.Random(3)
    partitions = [Partition(number) for number in range(3)]
    histories = [a_conversation(answers=chance.randint(0, 4)) for _ in range(60)]
    sent = []
    for number, history in enumerate(histories):
        partition = partitions[number % 3]
        at = 0
        while at < len(history):  # a relay that repeats itself, from anywhere before
            since = max(0, at - chance.randint(0, 4))
            at = min(len(history), at + chance.randint(1, 3))
            sent += partition.send(history[since:at])
    for start in range(0, len(sent), 37):
        runner.apply(db, sent[start : start + 37])
        if start % 5 == 0:
            runner = Runner(Answers(), gap_seconds_max=GAP_SECONDS_MAX)
    live, live_positions = rows(db), positions(db)
    assert live
    assert live_positions == {history[0].stream: len(history) for history in histories}
    drop_live(db, runner.projection)
    with pytest.raises(psycopg.errors.UndefinedTable):
        rows(db)
    again = Runner(Answers(), gap_seconds_max=GAP_SECONDS_MAX)
    again.create(db)
    for start in range(0, len(sent), 500):
        again.apply(db, sent[start : start + 500])
    assert rows(db) == live
    assert positions(db) == live_positions


def test_keys_are_found_until_they_are_revoked(db: Db) -> None:
    runner = Runner(Keys(), gap_seconds_max=GAP_SECONDS_MAX)
    runner.create(db)
    runner.apply(db, Partition().send(an_account()))
    found = db.execute("SELECT name, revoked_at IS NULL FROM keys_v1 ORDER BY name").fetchall()
    assert found == [("first", False), ("next", True)]
    assert db.execute("SELECT name FROM keys_v1_tenants").fetchall() == [("default",)]


class Strict(Answers):
    """Adds a row that Postgres refuses, with a DETAIL that holds all of it."""

    def apply(self, connection: Db, events: Sequence[Recorded], *, live: bool) -> None:
        super().apply(connection, events, live=live)
        connection.execute("CREATE TEMP TABLE strict (said text, CHECK (said = '')) ON COMMIT DROP")
        connection.execute("INSERT INTO strict VALUES (%s)", ("the words of somebody",))


def test_why_a_stream_is_parked_is_said_without_its_content_and_in_its_trace(
    db: Db, caplog: pytest.LogCaptureFixture
) -> None:
    runner = Runner(Strict(), gap_seconds_max=GAP_SECONDS_MAX)
    runner.create(db)
    traceparent = trace.new_traceparent()
    traced = [
        replace(one, meta=replace(one.meta, traceparent=traceparent)) for one in a_conversation()
    ]
    traces: list[str | None] = []

    class Traces(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            traces.append(trace.current.get())

    seen = Traces()
    logging.getLogger("thalweg.projections").addHandler(seen)
    try:
        runner.apply(db, Partition().send(traced))
    finally:
        logging.getLogger("thalweg.projections").removeHandler(seen)
    assert traces == [traceparent]
    (parked,) = rows(db, "answers_v1_parked")
    assert "CheckViolation (23514): new row for relation" in str(parked)
    assert "words of somebody" not in f"{parked} {[vars(one) for one in caplog.records]}"


def test_an_event_with_wrong_fields_is_parked_without_their_values(runner: Runner, db: Db) -> None:
    recorded = a_conversation()
    partition = Partition()
    runner.apply(db, partition.send(recorded[:2]))
    _, headers, value = to_cloudevent(recorded[2])
    damaged = orjson.dumps({**orjson.loads(value), "text": ["the words of somebody"]})
    runner.apply(db, [partition.send_raw(headers, damaged)])
    (parked,) = rows(db, "answers_v1_parked")
    assert "wrong fields" in str(parked)
    assert "words of somebody" not in str(parked)
