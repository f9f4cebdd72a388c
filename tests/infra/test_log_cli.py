"""The parts of `replay`, `export` and `topics` that need no server."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from commands.conversations import CONVERSATIONS
from events.conversations import ConversationRenamed, ConversationStarted, MessagePosted, Role
from events.envelope import Event, Meta, Recorded
from events.ids import ConversationId, MessageId, fresh_id
from gateway.log.ports import Logged
from infra.cli.export import _written
from infra.cli.log_reading import (
    WrongArgument,
    context_named,
    exit_status,
    stream_of,
    tenant_of,
    time_of,
    types_of,
)
from infra.cli.replay import as_of, plain
from infra.cli.topics import size_of
from infra.kafka.overview import lag_of

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
C = ConversationId(fresh_id())


def logged(position: int, event: Event, minute: float) -> Logged:
    at = NOON + timedelta(minutes=minute)
    meta = Meta(fresh_id(), "c", "a", "s", at, fresh_id())
    return Logged(position * 10, Recorded(fresh_id(), C, position, meta, event))


EVENTS = [
    logged(1, ConversationStarted(conversation=C), 0),
    logged(2, ConversationRenamed(conversation=C, title="one"), 1),
    logged(3, ConversationRenamed(conversation=C, title="two"), 3),
    logged(4, ConversationRenamed(conversation=C, title="three"), 2.5),  # another clock
]


@pytest.mark.parametrize(("minute", "seen"), [(-1, 0), (0, 1), (2.9, 2), (3, 4), (9, 4)])
def test_a_state_at_a_time_is_that_of_a_prefix(minute: float, seen: int) -> None:
    assert len(as_of(EVENTS, NOON + timedelta(minutes=minute))) == seen
    assert len(as_of(EVENTS, None)) == 4


def test_a_state_is_shown_as_json_has_it() -> None:
    message = MessageId(fresh_id())
    posted = MessagePosted(
        conversation=C, message=message, role=Role.USER, content="Hi", parent=None
    )
    events = [*EVENTS, logged(5, posted, 4)]
    state = plain(CONVERSATIONS.replay([one.recorded for one in events]))
    assert state["id"] == str(C)
    assert state["title"] == "three"
    assert state["head"] == str(message)
    assert state["messages"][str(message)]["content"] == "Hi"


def test_arguments_are_what_they_should_be() -> None:
    assert time_of("2026-11-27T12:00:00Z") == NOON
    assert stream_of(str(C)) == C
    assert tenant_of(str(C)) == C
    assert tenant_of("default") == tenant_of("default")
    assert types_of((ConversationStarted.TYPE,)) == {ConversationStarted.TYPE}
    for wrong in (
        lambda: time_of("noon"),
        lambda: stream_of("x"),
        lambda: types_of(("x",)),
        lambda: context_named("files"),
    ):
        with pytest.raises(WrongArgument):
            wrong()


def test_a_wrong_argument_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    async def work() -> int:
        stream_of("x")
        return 0

    assert exit_status(work()) == 2
    assert capsys.readouterr().err == "'x' is not the id of a stream, which is a UUID.\n"


def test_an_export_goes_on_behind_its_last_whole_line(tmp_path: Path) -> None:
    out = tmp_path / "events.ndjson"
    with _written(out, resume=True) as (file, last):  # a first one may say so too
        assert last == 0
        file.write(b'{"logposition":"7"}\n{"logposition":"9"}\n{"logpos')
    with pytest.raises(WrongArgument), _written(out, resume=False):
        pass
    with _written(out, resume=True) as (file, last):
        assert last == 9
        file.write(b'{"logposition":"10"}\n')
    assert out.read_bytes().splitlines() == [
        b'{"logposition":"7"}',
        b'{"logposition":"9"}',
        b'{"logposition":"10"}',
    ]
    out.write_text("something else\n")
    with pytest.raises(WrongArgument), _written(out, resume=True):
        pass


def test_a_lag_counts_from_the_oldest_record_if_nothing_was_committed() -> None:
    assert lag_of({}, {0: 5, 1: 0}, {0: 9, 1: 3}) == 7
    assert lag_of({0: 8, 1: 3}, {0: 5, 1: 0}, {0: 9, 1: 3}) == 1
    assert lag_of({0: 20}, {0: 5}, {0: 9}) == 0


def test_sizes_are_told_in_a_unit_that_people_read() -> None:
    assert [size_of(count) for count in (None, 0, 1_023, 1_536, 5 << 30)] == [
        "?",
        "0 B",
        "1,023 B",
        "1.5 KiB",
        "5.0 GiB",
    ]
