"""The judge sees each kind of broken promise: a check that cannot fail proves nothing."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from events.conversations import (
    AnswerCancelRequested,
    AnswerEnded,
    AnswerRequested,
    Band,
    ConversationStarted,
    EndKind,
    MessagePosted,
    Role,
    Sampling,
    Usage,
)
from events.envelope import Event, Meta, Recorded
from events.ids import AnswerId, ConversationId, MessageId
from tests.faults.clients import Turn
from tests.faults.judge import Census, shown, stored, wanted_census

GOOD = [(0, " 0 1"), (1, " 2"), (2, " 3"), (3, "")]


def turn(seen: list[tuple[int, str]], *, kind: str | None = "finish") -> Turn:
    end = {"kind": kind} if kind else None
    return Turn(uuid4(), "tokens=4", "key", {}, answer=uuid4(), seen=seen, end=end)


def test_a_whole_answer_is_found_good() -> None:
    assert shown(turn(GOOD)) == []


@pytest.mark.parametrize(
    ("what", "seen", "kind"),
    [
        ("a gap", [(0, " 0 1"), (2, " 3"), (3, "")], "finish"),
        ("a repeat", [(0, " 0 1"), (1, " 2"), (1, " 2"), (2, " 3"), (3, "")], "finish"),
        ("a splice", [(0, " 0 1"), (1, " 0"), (2, " 1"), (3, "")], "finish"),
        ("a lost token", [(0, " 0 1"), (1, " 3"), (2, "")], "finish"),
        ("a truncated answer", [(0, " 0 1"), (1, "")], "finish"),
        ("no end", GOOD, None),
        ("a failure", GOOD, "fail"),
    ],
)
def test_it_sees(what: str, seen: list[tuple[int, str]], kind: str | None) -> None:
    assert shown(turn(seen, kind=kind)), what


CONVERSATION, ANSWER, MESSAGE = ConversationId(uuid4()), AnswerId(uuid4()), MessageId(uuid4())
ENDED = AnswerEnded(
    conversation=CONVERSATION,
    answer=ANSWER,
    kind=EndKind.FINISH,
    reason="stop",
    text=" 0 1 2 3",
    chunk_lengths=(4, 2, 2, 0),
    usage=Usage(),
)
EVENTS: list[Event] = [
    ConversationStarted(conversation=CONVERSATION),
    MessagePosted(
        conversation=CONVERSATION,
        message=MESSAGE,
        role=Role.USER,
        content="tokens=4",
        parent=None,
    ),
    AnswerRequested(
        conversation=CONVERSATION,
        answer=ANSWER,
        parent=MESSAGE,
        model="numbered",
        band=Band.DEFAULT,
        deadline_seconds=60,
        sampling=Sampling(max_tokens=10),
    ),
    ENDED,
]
META = Meta(uuid4(), "key:x", "key", "person", datetime.now(UTC), uuid4())


def recorded(events: list[Event]) -> list[Recorded]:
    return [
        Recorded(uuid4(), CONVERSATION, position, META, event)
        for position, event in enumerate(events, 1)
    ]


def its_turn() -> Turn:
    return Turn(CONVERSATION, "tokens=4", "key", {}, answer=ANSWER, seen=GOOD)


def test_a_stream_with_each_event_once_is_found_good() -> None:
    assert stored(recorded(EVENTS), [its_turn()]) == []


@pytest.mark.parametrize(
    ("what", "events"),
    [
        ("a message posted twice", [*EVENTS[:2], *EVENTS[1:]]),
        ("an answer asked for twice", [*EVENTS[:3], *EVENTS[2:]]),
        ("an end recorded twice", [*EVENTS, ENDED]),
        ("no end", EVENTS[:3]),
        ("a start too many", [EVENTS[0], *EVENTS]),
        ("another text", [*EVENTS[:3], ENDED.model_copy(update={"text": " 0 1 2 4"})]),
        ("other chunks", [*EVENTS[:3], ENDED.model_copy(update={"chunk_lengths": (8, 0)})]),
        (
            "what nobody asked for",
            [*EVENTS, AnswerCancelRequested(conversation=CONVERSATION, answer=ANSWER)],
        ),
    ],
)
def test_it_sees_in_a_stream(what: str, events: list[Event]) -> None:
    assert stored(recorded(events), [its_turn()]), what


def test_it_sees_a_hole_in_a_stream() -> None:
    whole = recorded(EVENTS)
    assert stored([whole[0], *whole[2:]], [its_turn()])


def test_a_turn_adds_three_events_and_two_commands() -> None:
    assert wanted_census([its_turn()]) == Census(1, 4, 3, 1, 0)
