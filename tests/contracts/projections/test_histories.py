"""`histories@1` on a real Postgres: what is stored of conversations, and what is told of them."""

from collections.abc import Sequence
from typing import Any

import orjson
import psycopg
import pytest
from psycopg.rows import dict_row

from events import conversations as said
from events.conversations import Attachment, EndKind, Kind, Role
from projections.conversations import CHANNEL, Histories, search_scope, unpack_metadata
from projections.exact_text import exact, subject_digest
from projections.runner import Runner
from projections.tables import Db
from tests.contracts.projections.deliver import Partition
from tests.projections.histories_events import SUBJECT, TENANT, Told

HUGE = 300_000
"""Characters: more than a tsvector holds of text without a repeat."""


@pytest.fixture
def runner(db: Db) -> Runner:
    made = Runner(Histories(), gap_seconds_max=5)
    made.create(db)
    return made


def tell(runner: Runner, db: Db, *conversations: Told) -> None:
    log = Partition()
    for one in conversations:
        runner.apply(db, log.send(one.recorded))
    assert rows(db, "SELECT * FROM histories_v1_dead_letters") == []


def rows(db: Db, query: str, *values: object) -> list[dict[str, Any]]:
    with db.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, values).fetchall()  # type: ignore[arg-type]


def nodes(db: Db, told: Told) -> list[dict[str, Any]]:
    query = "SELECT * FROM histories_v1_nodes WHERE conversation = %s ORDER BY position"
    return rows(db, query, told.id)


def one_row(db: Db, told: Told) -> dict[str, Any]:
    (row,) = rows(db, "SELECT * FROM histories_v1 WHERE conversation = %s", told.id)
    return row


def test_a_turn_becomes_a_row_and_two_nodes(runner: Runner, db: Db) -> None:
    told = Told(title="Rivers", metadata={"a": "b"})
    message, answer = told.turn("What is a thalweg?", "The deepest line.")
    tell(runner, db, told)
    row = one_row(db, told)
    assert (row["title"], row["metadata"], row["opening"]) == (
        "Rivers",
        {"a": "b"},
        "What is a thalweg?",
    )
    assert (row["head"], row["messages"], row["answers"]) == (answer, 1, 1)
    assert (row["unread"], row["answering"], row["position"]) == ([4], {}, 4)
    asked, answered = nodes(db, told)
    assert (asked["node"], asked["parent"], asked["role"]) == (message, None, "user")
    assert (answered["node"], answered["parent"]) == (answer, message)
    assert (answered["text"], answered["status"], answered["reason"]) == (
        "The deepest line.",
        "finish",
        "stop",
    )
    assert (answered["prompt_tokens"], answered["completion_tokens"]) == (3, 2)


def test_an_answer_is_open_then_cancelling_then_ended(runner: Runner, db: Db) -> None:
    told = Told()
    told.post("?")
    answer = told.ask()
    log = Partition()
    runner.apply(db, log.send(told.recorded))
    assert nodes(db, told)[1]["status"] == "open"
    assert one_row(db, told)["answering"] == {str(answer): 3}
    told.about(said.AnswerCancelRequested, answer=answer)
    runner.apply(db, log.send(told.recorded[3:]))
    assert nodes(db, told)[1]["status"] == "cancelling"
    told.end(answer, "Ye", EndKind.CANCELLED, "cancelled")
    runner.apply(db, log.send(told.recorded[4:]))
    assert (nodes(db, told)[1]["status"], nodes(db, told)[1]["text"]) == ("cancelled", "Ye")
    assert one_row(db, told)["answering"] == {}


@pytest.mark.parametrize(
    "text",
    [
        "a\0b",
        "\x1a0 and \x1a1 and \x1a",
        "\U0001f600 \ufeff \u202e",
        "x" * HUGE,
        " ".join(str(number) for number in range(HUGE // 6)),
        "".join(chr(0x4E00 + number % 20_000) for number in range(HUGE)),
    ],
    ids=["nul", "escapes", "odd", "one-word", "many-words", "no-spaces"],
)
def test_any_text_comes_back_exactly(runner: Runner, db: Db, text: str) -> None:
    told = Told(subject=f"who {text[:40]}", title=text, metadata={text[:64]: text[:512]})
    told.post(text, attachments=(Attachment(uri="s3://a", name=text),))
    answer = told.ask(model=text[:200])
    told.end(answer, text, EndKind.FAIL, text[:200], error=text)
    tell(runner, db, told)
    row, (asked, answered) = one_row(db, told), nodes(db, told)
    assert exact(row["title"]) == exact(asked["text"]) == exact(answered["text"]) == text
    assert exact(answered["error"]) == text
    assert unpack_metadata(row["metadata"]) == {text[:64]: text[:512]}
    assert orjson.loads(asked["attachments"]) == [
        {"uri": "s3://a", "name": text, "media_type": None, "bytes": None}
    ]
    assert asked["text_bytes"] == len(text.encode())


def test_a_deleted_conversation_keeps_its_tombstone_alone(runner: Runner, db: Db) -> None:
    told = Told(title="secret", metadata={"secret": "secret"})
    told.turn("secret", "secret")
    answer = told.ask()
    told.about(said.ConversationDeleted)
    told.end(answer, "secret")
    tell(runner, db, told)
    assert nodes(db, told) == []
    row = one_row(db, told)
    assert row["deleted"]
    assert row["position"] == len(told.recorded)
    assert "secret" not in str(row)


def test_what_is_not_stored_leaves_no_row(runner: Runner, db: Db) -> None:
    told = Told(stored=False)
    told.turn("secret")
    log = Partition()
    runner.apply(db, log.send(told.recorded[:3]))
    runner.apply(db, log.send(told.recorded[3:]))
    for table in ("", "_nodes", "_heads", "_numbers"):
        assert rows(db, f"SELECT * FROM histories_v1{table}") == []
    (position,) = rows(db, "SELECT * FROM histories_v1_positions")
    assert position["position"] == len(told.recorded)


def test_words_are_found_in_whose_nodes_they_are(runner: Runner, db: Db) -> None:
    mine, other = Told(), Told(subject="bob")
    completion = Told(kind=Kind.COMPLETION)
    for told in (mine, other, completion):
        told.turn("The deepest line of a RIVER", "Thalweg, from German.")
    tell(runner, db, mine, other, completion)
    query = """
    SELECT conversation, position FROM histories_v1_nodes
    WHERE words @@ (to_tsquery('simple', %s) && quote_literal(%s)::tsquery)
    """
    scope = search_scope(TENANT, SUBJECT)
    found = rows(db, query, "river", scope)
    assert [(one["conversation"], one["position"]) for one in found] == [(mine.id, 2)]
    found = rows(db, query, "thalweg & german", scope)
    assert [(one["conversation"], one["position"]) for one in found] == [(mine.id, 3)]


def test_each_change_gets_a_greater_number_and_its_subject_is_told(
    runner: Runner, db: Db, url: str
) -> None:
    first, second, completion = Told(), Told(), Told(kind=Kind.COMPLETION)
    log = Partition()

    def told_of(recorded: Sequence[Any]) -> list[str]:
        runner.apply(db, log.send(recorded))
        gathered: list[str] = []
        for one in listener.notifies(timeout=30, stop_after=1):
            gathered += orjson.loads(one.payload)
        return gathered

    with psycopg.connect(url, autocommit=True) as listener:
        listener.execute(f"LISTEN {CHANNEL}")  # type: ignore[arg-type]
        digest = subject_digest(TENANT, SUBJECT)
        assert told_of([*first.recorded, *second.recorded]) == [digest]
        before = numbers(db)
        assert len(set(before.values())) == 2
        first.post("?", role=Role.USER)
        assert told_of(first.recorded[1:]) == [digest]
    after = numbers(db)
    assert after[first.id] > max(before.values())
    assert after[second.id] == before[second.id]
    (head,) = rows(db, "SELECT number FROM histories_v1_heads")
    assert head["number"] == after[first.id]
    runner.apply(db, log.send(completion.recorded))
    assert one_row(db, completion)["kind"] == "completion"
    assert numbers(db) == after, "a completion is no part of a feed"


def numbers(db: Db) -> dict[object, int]:
    found = rows(db, "SELECT conversation, number FROM histories_v1_numbers")
    return {one["conversation"]: one["number"] for one in found}
