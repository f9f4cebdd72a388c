"""What `histories@1` makes of events, without its tables; and the law of its batches."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from events import conversations as said
from events.conversations import Band, EndKind, Kind, Role
from events.envelope import Recorded
from projections.histories_fold import (
    OPENING_CHARACTERS_MAX,
    UNREAD_COUNTED_MAX,
    Node,
    Row,
    apply_end,
    fold,
)
from tests.projections.histories_events import NOON, Told, mixed
from tests.projections.pasts import pasts


class Tables:
    """What the tables of the read model would hold, batch after batch."""

    def __init__(self) -> None:
        self.rows: dict[UUID, Row] = {}
        self.nodes: dict[tuple[UUID, int], Node] = {}
        self.shown: list[UUID] = []

    def apply(self, batch: Sequence[Recorded]) -> None:
        streams = {one.stream for one in batch}
        known = {stream: deepcopy(row) for stream, row in self.rows.items() if stream in streams}
        changes = fold(known, batch)
        self.nodes |= changes.nodes
        for key in changes.cancelling:
            self.nodes[key].status = "cancelling"
        for end in changes.ends:
            apply_end(self.nodes[end.conversation, end.position], end)
        for conversation in changes.wiped:
            self.nodes = {key: node for key, node in self.nodes.items() if key[0] != conversation}
        self.rows |= changes.rows
        self.shown += changes.shown

    @classmethod
    def of(cls, *batches: Sequence[Recorded]) -> "Tables":
        tables = cls()
        for batch in batches:
            tables.apply(deepcopy(batch))
        return tables


@given(st.integers(0, 2**32), st.data())
def test_batches_of_any_cut_give_the_same_rows(seed: int, data: st.DataObject) -> None:
    log = mixed(pasts(seed, 4))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(log)), max_size=6)))
    cut = Tables.of(*(log[a:b] for a, b in zip([0, *cuts], [*cuts, len(log)], strict=True)))
    whole = Tables.of(log)
    one_by_one = Tables.of(*([one] for one in log))
    for other in (whole, one_by_one):
        assert (cut.rows, cut.nodes) == (other.rows, other.nodes)


@given(st.integers(0, 2**32))
def test_what_a_conversation_says_follows_from_its_own_stream(seed: int) -> None:
    conversations = pasts(seed, 4)
    together = Tables.of(mixed(conversations))
    apart = Tables.of(*(told.recorded for told in conversations))
    assert (together.rows, together.nodes) == (apart.rows, apart.nodes)


@given(st.integers(0, 2**32))
def test_counts_agree_with_the_nodes_and_only_what_is_stored_has_rows(seed: int) -> None:
    conversations = pasts(seed, 4)
    tables = Tables.of(mixed(conversations))
    started = {one.id: one.recorded[0].event for one in conversations}
    stored = {
        id_
        for id_, event in started.items()
        if isinstance(event, said.ConversationStarted) and event.stored
    }
    assert set(tables.rows) == stored
    for id_, row in tables.rows.items():
        nodes = [node for key, node in tables.nodes.items() if key[0] == id_]
        assert row.messages == sum(node.model is None for node in nodes)
        assert row.answers == sum(node.model is not None for node in nodes)
        still = {node.node for node in nodes if node.status in ("open", "cancelling")}
        assert set(row.answering) == still
        assert all((node.ended_at is None) == (node.node in still) for node in nodes if node.model)


def of_one(told: Told) -> tuple[Row, list[Node]]:
    tables = Tables.of(told.recorded)
    nodes = [tables.nodes[key] for key in sorted(tables.nodes)]
    return tables.rows[told.id], nodes


def test_an_edit_and_another_answer_are_siblings_and_the_head_follows() -> None:
    told = Told()
    first, answer = told.turn("?")
    edited = told.post("??", parent=None, edits=first)
    row, nodes = of_one(told)
    assert row.head == edited
    assert [(node.node, node.parent, node.edits) for node in nodes] == [
        (first, None, None),
        (answer, first, None),
        (edited, None, first),
    ]
    again = told.ask(first)
    assert of_one(told)[0].head == again
    told.about(said.BranchChosen, head=answer)
    assert of_one(told)[0].head == answer


def test_two_branches_can_be_answered_at_once() -> None:
    told = Told()
    first = told.post("?")
    one = told.ask()
    told.post("??", parent=None, edits=first)
    other = told.ask()
    told.end(other, "other")
    row, nodes = of_one(told)
    assert row.answering == {one: 3}
    told.end(one, "one")
    row, nodes = of_one(told)
    assert {node.node: node.text for node in nodes if node.model} == {one: "one", other: "other"}
    assert row.answering == {}


def test_an_end_counts_once_and_only_for_an_answer_that_was_asked_for() -> None:
    told = Told()
    _, answer = told.turn("?", "first")
    told.end(answer, "second", EndKind.FAIL)
    row, nodes = of_one(told)
    assert (nodes[1].text, nodes[1].status, row.unread) == ("first", "finish", [4])


def test_ends_are_unread_until_their_user_reads_or_writes() -> None:
    told = Told()
    told.turn("?")
    told.turn("?")
    assert of_one(told)[0].unread == [7], "writing is reading what was there"
    told.about(said.ConversationRead, position=6)
    assert of_one(told)[0].unread == [7]
    told.about(said.ConversationRead, position=7)
    told.about(said.ConversationRead, position=1)
    row, _ = of_one(told)
    assert (row.unread, row.read_position) == ([], 7)
    told.post("from outside", role=Role.ASSISTANT)
    assert of_one(told)[0].read_position == 7


def test_unread_ends_are_counted_up_to_a_bound() -> None:
    told = Told()
    for _ in range(UNREAD_COUNTED_MAX + 10):
        told.post("?", role=Role.SYSTEM)
        told.end(told.ask())
    unread = of_one(told)[0].unread
    assert len(unread) == UNREAD_COUNTED_MAX
    assert unread[-1] == len(told.recorded)


def test_a_completion_has_nothing_unread() -> None:
    told = Told(kind=Kind.COMPLETION)
    told.turn("?")
    assert of_one(told)[0].unread == []


def test_how_a_conversation_opens_is_short_and_says_something() -> None:
    told = Told()
    told.post("be brief", role=Role.SYSTEM)
    told.post(" \n ")
    assert of_one(told)[0].opening is None
    told.post("  many\n words " * 100)
    told.post("later")
    opening = of_one(told)[0].opening
    assert opening is not None
    assert opening.startswith("many words many words")
    assert len(opening) == OPENING_CHARACTERS_MAX


def test_the_last_activity_never_goes_back() -> None:
    told = Told()
    told.post("?")
    late = told.recorded[-1]
    early = replace(late.meta, time=NOON - timedelta(hours=1))
    told.recorded[-1] = replace(late, meta=early)
    assert of_one(told)[0].last_activity == NOON


def test_after_a_deletion_nothing_is_left_but_that_it_was() -> None:
    told = Told(title="t", metadata={"a": "b"})
    told.turn("secret")
    open_one = told.ask()
    told.about(said.ConversationDeleted)
    told.end(open_one, "secret")
    told.about(said.ConversationRenamed, title="secret")
    row, nodes = of_one(told)
    assert nodes == []
    assert row.deleted
    assert (row.title, row.metadata, row.opening, row.head, row.model) == (
        None,
        {},
        None,
        None,
        None,
    )
    assert (row.messages, row.answers, row.unread, row.answering) == (0, 0, [], {})
    assert row.position == len(told.recorded)


def test_what_comes_after_a_deletion_is_not_shown_as_a_change() -> None:
    told = Told()
    told.post("?")
    answer = told.ask()
    told.about(said.ConversationDeleted)
    tables = Tables.of(told.recorded)
    assert tables.shown == [told.id], "the deletion itself is"
    told.end(answer)
    tables.shown.clear()
    tables.apply(told.recorded[-1:])
    assert tables.shown == []


def test_an_answer_that_is_asked_for_again_is_the_same_node() -> None:
    told = Told()
    told.post("?")
    answer = told.ask()
    before = Tables.of(told.recorded)
    told.about(said.AnswerAskedAgain, answer=answer, model="m", band=Band.DEFAULT, times=1)
    after = Tables.of(told.recorded)
    assert after.nodes == before.nodes
    row = after.rows[told.id]
    assert (row.position, row.answers, row.unread) == (4, 1, [])
    assert replace(row, position=3) == before.rows[told.id]
