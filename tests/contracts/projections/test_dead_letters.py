"""Whatever comes, everybody else goes on; what was parked can be retried or left out, for good."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import psycopg
import pytest

from events.codec import to_cloudevent
from events.conversations import AnswerEnded
from events.envelope import Recorded
from projections import dead_letters, versions
from projections.answers import Answers
from projections.dead_letters import Decision, NotNext, NotParked, discard, discard_letter, retry
from projections.deliveries import Delivery
from projections.projection import beside
from projections.reasons import PROBLEM_CHARACTERS_MAX
from projections.runner import Runner
from projections.tables import Db
from tests.contracts.projections.deliver import TOPIC, Partition, a_conversation, drop_live

Headers = Sequence[tuple[str, bytes]]
BIG = 10 * 1024 * 1024


class Moody(Answers):
    """Raises over the answers of one conversation, until it is told not to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.refused: object = None

    def apply(self, connection: Db, events: Sequence[Recorded], *, live: bool) -> None:
        super().apply(connection, events, live=live)
        if self.error is not None and any(one.stream == self.refused for one in events):
            raise self.error


def runner_of(db: Db, projection: Answers) -> Runner:
    made = Runner(projection, gap_seconds_max=5)
    made.create(db)
    return made


def answers(db: Db) -> list[object]:
    return [row[0] for row in db.execute("SELECT answer FROM answers_v1 ORDER BY 1").fetchall()]


def answers_in(*conversations: Sequence[Recorded]) -> list[object]:
    events = [one.event for recorded in conversations for one in recorded]
    return sorted(one.answer for one in events if isinstance(one, AnswerEnded))


def with_header(headers: Headers, name: str, value: bytes) -> list[tuple[str, bytes]]:
    return [(each, value if each == name else found) for each, found in headers]


DAMAGED: dict[str, Callable[[Headers, bytes], tuple[Headers, bytes | None]]] = {
    "no-value": lambda headers, value: (headers, None),
    "not-json": lambda headers, value: (headers, b"\x00\xff{"),
    "not-an-object": lambda headers, value: (headers, b"[[]]"),
    "deep": lambda headers, value: (headers, b"[" * 100_000),
    "other-fields": lambda headers, value: (headers, b'{"a": 1}'),
    "10-MB": lambda headers, value: (headers, value[:-1] + b',"x":"' + b"x" * BIG + b'"}'),
    "unknown-type": lambda headers, value: (
        with_header(headers, "ce_type", b"thalweg.conversations.never_heard_of"),
        value,
    ),
    "endless-type": lambda headers, value: (with_header(headers, "ce_type", b"x\0" * BIG), value),
    "unknown-version": lambda headers, value: (
        with_header(headers, "ce_schemaversion", b"999"),
        value,
    ),
    "no-time": lambda headers, value: (with_header(headers, "ce_time", b"\xff"), value),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_what_cannot_be_read_parks_its_stream_and_no_other(
    db: Db, damage: Callable[[Headers, bytes], tuple[Headers, bytes | None]]
) -> None:
    runner, log = runner_of(db, Answers()), Partition()
    bad, whole = a_conversation(answers=2), a_conversation()
    sent = log.send(bad[:2])
    _, headers, value = to_cloudevent(bad[2])
    sent.append(log.send_raw(*damage(headers, value)))
    sent += log.send([*bad[3:], *whole])
    runner.apply(db, sent)
    assert answers(db) == answers_in(whole)
    (parked,) = dead_letters.parked_streams(db, Answers.tables, limit=10)
    assert (parked.stream, parked.position, parked.letters) == (bad[0].stream, 2, 3)
    assert 0 < len(parked.problem) <= PROBLEM_CHARACTERS_MAX
    first, *_ = dead_letters.letters(db, Answers.tables, bad[0].stream, limit=10)
    assert first.delivery == sent[2], "byte for byte"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("ce_subject", b"\xff")],
        [("ce_subject", b"7b7e6f0e-0000-7000-8000-000000000000"), ("ce_sequence", b"9" * 30)],
        [("ce_subject", b"7b7e6f0e-0000-7000-8000-000000000000"), ("ce_sequence", b"9" * 9_999)],
    ],
    ids=["no-headers", "no-stream", "position-beyond-a-column", "position-beyond-a-number"],
)
def test_what_is_no_event_is_put_aside_and_can_be_discarded(db: Db, headers: Headers) -> None:
    runner, log, whole = runner_of(db, Answers()), Partition(), a_conversation()
    runner.apply(db, [log.send_raw(headers, b"?"), *log.send(whole)])
    assert answers(db) == answers_in(whole)
    (stray,) = dead_letters.strays(db, Answers.tables, limit=10)
    assert (stray.topic, stray.partition, stray.offset) == (TOPIC, 0, 0)
    discard_letter(db, Answers(), TOPIC, 0, 0, by="ann")
    assert dead_letters.strays(db, Answers.tables, limit=10) == []
    kept = db.execute("SELECT decided_by, record_offset, value FROM projection_decisions")
    assert kept.fetchall() == [("ann", 0, b"?")]
    with pytest.raises(NotParked):
        discard_letter(db, Answers(), TOPIC, 0, 0, by="ann")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("secret"),
        AttributeError("secret"),
        AssertionError("secret"),
        RecursionError("secret"),
        psycopg.errors.CheckViolation("secret"),
        psycopg.errors.ProgramLimitExceeded("secret"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_projection_raises_parks_the_stream(db: Db, error: Exception) -> None:
    moody, log = Moody(error), Partition()
    runner, bad, whole = runner_of(db, moody), a_conversation(answers=3), a_conversation()
    moody.refused = bad[0].stream
    runner.apply(db, log.send([*bad, *whole]))
    assert answers(db) == answers_in(whole)
    assert still_parked(db, bad) == 2
    (parked,) = dead_letters.parked_streams(db, Answers.tables, limit=10)
    assert type(error).__name__ in parked.problem
    assert "secret" not in parked.problem
    moody.error = None
    outcome = retry(db, moody, bad[0].stream, by="ann")
    assert (outcome.applied, outcome.left, outcome.position) == (5, 0, 7)
    assert answers(db) == answers_in(whole, bad)
    assert dead_letters.counts(db, Answers.tables).letters == 0


def still_parked(db: Db, recorded: Sequence[Recorded]) -> int:
    """The position that the parked stream stands at."""
    (parked,) = dead_letters.parked_streams(db, Answers.tables, limit=10)
    assert parked.stream == recorded[0].stream
    return parked.position


def test_an_outage_is_no_fault_of_an_event(db: Db) -> None:
    moody, log, recorded = Moody(psycopg.OperationalError()), Partition(), a_conversation()
    runner = runner_of(db, moody)
    moody.refused = recorded[0].stream
    sent = log.send(recorded)
    with pytest.raises(psycopg.OperationalError):
        runner.apply(db, sent)
    moody.error = None
    assert runner.apply(db, sent) == 1
    assert dead_letters.counts(db, Answers.tables).streams == 0


def test_a_retry_that_fails_again_applies_what_it_can_and_says_why(db: Db) -> None:
    moody, log = Moody(ValueError()), Partition()
    runner, bad = runner_of(db, moody), a_conversation(answers=2)
    moody.refused = bad[0].stream
    sent = log.send(bad[:3])
    _, headers, _ = to_cloudevent(bad[4])
    runner.apply(db, [*sent, *log.send(bad[3:4]), log.send_raw(headers, b"{}")])
    moody.error = None
    outcome = retry(db, moody, bad[0].stream, by="ann")
    assert (outcome.applied, outcome.left, outcome.position) == (2, 1, 4)
    assert outcome.problem is not None
    assert "wrong fields" in outcome.problem
    assert answers(db) == answers_in(bad[:3])
    assert still_parked(db, bad) == 4


def test_a_discard_goes_on_without_the_event_and_keeps_it_and_who_decided(db: Db) -> None:
    moody, log = Moody(), Partition()
    runner, bad = runner_of(db, moody), a_conversation(answers=2)
    _, headers, _ = to_cloudevent(bad[2])
    lost = log.send_raw(headers, b"{}")
    sent: list[Delivery] = [*log.send(bad[:2]), lost, *log.send(bad[3:])]
    runner.apply(db, sent)
    with pytest.raises(NotNext, match="waits for position 3"):
        discard(db, moody, bad[0].stream, 4, by="ann")
    outcome = discard(db, moody, bad[0].stream, 3, by="ann")
    assert (outcome.applied, outcome.left, outcome.position) == (2, 0, 5)
    assert answers(db) == answers_in(bad[3:])
    (decision,) = dead_letters.decisions(db, Answers.tables, bad[0].stream, limit=9)
    assert isinstance(decision, Decision)
    assert (decision.decision, decision.position, decision.by) == ("discarded", 3, "ann")
    kept = db.execute("SELECT value FROM projection_decisions").fetchone()
    assert kept == (b"{}",)
    with pytest.raises(NotParked):
        discard(db, moody, bad[0].stream, 6, by="ann")
    drop_live(db, runner.projection)
    again = runner_of(db, moody)
    again.apply(db, sent)
    assert answers(db) == answers_in(bad[3:]), "left out for good"
    assert dead_letters.counts(db, Answers.tables).streams == 0


def waited_in_vain(db: Db) -> tuple[Runner, Sequence[Recorded], Partition]:
    """A runner that has parked a conversation whose second event never came; all its events."""
    log, broken, now = Partition(), a_conversation(answers=2), [0.0]
    runner = Runner(Answers(), gap_seconds_max=5, clock=lambda: now[0])
    runner.create(db)
    runner.apply(db, log.send([broken[0], *broken[2:]]))
    now[0] = 6.0
    runner.apply(db, [])
    return runner, broken, log


def test_a_position_that_never_came_can_be_discarded(db: Db) -> None:
    runner, broken, _ = waited_in_vain(db)
    assert still_parked(db, broken) == 1
    outcome = discard(db, runner.projection, broken[0].stream, 2, by="ann")
    assert (outcome.applied, outcome.left, outcome.position) == (3, 0, 5)
    assert answers(db) == answers_in(broken)


def test_a_retry_applies_nothing_in_place_of_a_position_that_never_came(db: Db) -> None:
    runner, broken, log = waited_in_vain(db)
    outcome = retry(db, runner.projection, broken[0].stream, by="ann")
    assert (outcome.applied, outcome.left, outcome.position) == (0, 3, 1)
    assert outcome.problem == "position 2 is missing"
    assert answers(db) == []
    assert still_parked(db, broken) == 1
    runner.apply(db, log.send(broken[1:2]))
    assert answers(db) == answers_in(broken)


def test_events_that_come_while_somebody_retries_are_not_left_behind(db: Db, url: str) -> None:
    """A retry and the runner take turns: none can add a letter to a stream that was just freed."""
    moody, log = Moody(ValueError()), Partition()
    runner, bad = runner_of(db, moody), a_conversation(answers=3)
    moody.refused = bad[0].stream
    runner.apply(db, log.send(bad[:5]))
    moody.error = None
    with psycopg.connect(url) as busy:
        busy.execute("SELECT FROM answers_v1_offsets FOR UPDATE")
        db.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            retry(db, moody, bad[0].stream, by="ann")
    retry(db, moody, bad[0].stream, by="ann")
    runner.apply(db, log.send(bad[5:]))
    assert answers(db) == answers_in(bad)


def test_a_discard_is_for_every_build_of_the_version(db: Db) -> None:
    first, log = runner_of(db, Answers()), Partition()
    versions.begin(db, replace(Answers.tables, build=2))
    second = Runner(beside(Answers(), 2), gap_seconds_max=5)
    second.create(db)
    bad = a_conversation(answers=2)
    _, headers, _ = to_cloudevent(bad[2])
    sent = [*log.send(bad[:2]), log.send_raw(headers, b"{}"), *log.send(bad[3:])]
    for runner in (first, second):
        runner.apply(db, sent)
    for runner in (first, second):
        outcome = discard(db, runner.projection, bad[0].stream, 3, by="ann")
        assert (outcome.applied, outcome.left, outcome.position) == (2, 0, 5)
    assert len(dead_letters.decisions(db, Answers.tables, bad[0].stream, limit=9)) == 1


def test_what_lies_about_its_position_is_taken_out_alone(db: Db) -> None:
    log, told, now = Partition(), a_conversation(answers=2), [0.0]
    runner = Runner(Answers(), gap_seconds_max=5, clock=lambda: now[0])
    runner.create(db)
    _, headers, value = to_cloudevent(told[2])
    lie = log.send_raw(with_header(headers, "ce_sequence", b"999999"), value)
    runner.apply(db, [lie, *log.send(told[:2])])
    now[0] = 6.0
    runner.apply(db, [])
    runner.apply(db, log.send(told[2:3]))
    assert still_parked(db, told) == 3
    outcome = discard_letter(db, runner.projection, TOPIC, 0, 0, by="ann")
    assert outcome is not None
    assert (outcome.left, outcome.position, outcome.problem) == (0, 3, None)
    runner.apply(db, log.send(told[3:]))
    assert answers(db) == answers_in(told)
    assert dead_letters.counts(db, Answers.tables).streams == 0
    kept = db.execute("SELECT stream, record_offset, decided_by FROM projection_decisions")
    assert kept.fetchall() == [(None, 0, "ann")]


def test_garbage_that_came_first_does_not_take_the_place_of_the_true_event(db: Db) -> None:
    runner, log, told = runner_of(db, Answers()), Partition(), a_conversation(answers=2)
    _, headers, _ = to_cloudevent(told[2])
    runner.apply(db, [*log.send(told[:2]), log.send_raw(headers, b"{"), *log.send(told[3:])])
    assert still_parked(db, told) == 2
    runner.apply(db, log.send(told[2:3]))
    assert answers(db) == answers_in(told)
    counted = dead_letters.counts(db, Answers.tables)
    assert (counted.streams, counted.letters) == (0, 0)


@pytest.mark.parametrize("by_itself", [True, False])
def test_many_letters_are_applied_a_few_a_transaction(
    db: Db, monkeypatch: pytest.MonkeyPatch, by_itself: bool
) -> None:
    monkeypatch.setattr(dead_letters, "LETTERS_PER_TRANSACTION", 3)
    moody, log = Moody(ValueError()), Partition()
    runner, bad = runner_of(db, moody), a_conversation(answers=10)
    moody.refused = bad[0].stream
    if by_itself:
        now = [0.0]
        runner = Runner(moody, gap_seconds_max=5, clock=lambda: now[0])
        runner.apply(db, log.send([bad[0], *bad[2:]]))
        now[0], moody.error = 6.0, None
        runner.apply(db, [])
        runner.apply(db, log.send(bad[1:2]))
        rounds = 1
        while runner.waits:
            runner.apply(db, [])
            rounds += 1
        assert rounds == 7
    else:
        runner.apply(db, log.send(bad))
        moody.error = None
        outcome = retry(db, moody, bad[0].stream, by="ann")
        assert (outcome.applied, outcome.left, outcome.position) == (19, 0, 21)
        assert len(dead_letters.decisions(db, Answers.tables, bad[0].stream, limit=9)) == 1
    assert answers(db) == answers_in(bad)
    assert dead_letters.counts(db, Answers.tables).streams == 0
