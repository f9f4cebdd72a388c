"""What every implementation of the gateway's read ports does."""

import asyncio
from datetime import date, timedelta

from events import conversations as said
from events.conversations import Attachment, EndKind, Kind
from events.ids import fresh_id
from gateway.read_ports import (
    ActivityPlace,
    Seen,
    StreamPosition,
    UsagePlace,
    UsageQuery,
)
from tests.contracts.read_models.sides import Side
from tests.projections.histories_events import NOON, OTHER_TENANT, SUBJECT, TENANT, Told

ODD = "a\0b \x1a0 <b>&\U0001f600"
"""NUL, our escape for it, markup, and a character beyond the first plane."""


def several(count: int, subject: str = SUBJECT) -> list[Told]:
    return [
        Told(subject=subject, begins=NOON + timedelta(minutes=minute)) for minute in range(count)
    ]


class HistoriesContract:
    async def test_a_conversation_is_found_with_all_that_is_said_of_it(self, side: Side) -> None:
        told = Told(title=ODD, metadata={ODD: ODD}, subject=ODD)
        told.turn(ODD)
        told.post("?")
        answer = told.ask(model=ODD)
        side.tell(told)
        row = (await side.histories.conversation(TENANT, told.id)).value
        assert row is not None
        assert (row.subject, row.title, row.metadata) == (ODD, ODD, {ODD: ODD})
        assert (row.head, row.model, row.answering) == (answer, ODD, (answer,))
        assert (row.messages, row.answers, row.unread, row.position) == (2, 2, 0, 6)
        assert (row.created_at, row.last_activity) == (NOON, NOON + timedelta(seconds=5))
        assert (row.archived, row.deleted, row.parked) == (False, False, False)
        assert (await side.histories.conversation(OTHER_TENANT, told.id)).value is None
        assert (await side.histories.conversation(TENANT, fresh_id())).value is None

    async def test_a_deleted_one_is_not_found_and_not_listed(self, side: Side) -> None:
        told = Told()
        told.post("secret")
        told.about(said.ConversationDeleted)
        side.tell(told)
        assert (await side.histories.conversation(TENANT, told.id)).value is None
        assert await side.histories.tree(told.id) == []
        listed = await side.histories.conversations(
            TENANT, SUBJECT, archived=None, below=None, limit=5
        )
        assert listed.value == []

    async def test_a_list_is_by_activity_below_a_place(self, side: Side) -> None:
        told = several(6)
        told[1].about(said.ConversationArchived)
        side.tell(*told, Told(kind=Kind.COMPLETION), *several(1, "bob"))
        side.tell(*several(2, subject="carol"))

        async def listed(
            archived: bool | None = None, below: ActivityPlace | None = None, limit: int = 10
        ) -> list[int]:
            read = await side.histories.conversations(
                TENANT, SUBJECT, archived=archived, below=below, limit=limit
            )
            ids = [one.id for one in told]
            return [ids.index(row.conversation) for row in read.value]  # type: ignore[arg-type]

        assert await listed() == [5, 4, 3, 2, 1, 0]
        assert await listed(limit=2) == [5, 4]
        assert await listed(archived=True) == [1]
        assert await listed(archived=False) == [5, 4, 3, 2, 0]
        place = ActivityPlace(NOON + timedelta(minutes=3), told[3].id)
        assert await listed(below=place) == [2, 1, 0]
        assert await listed(archived=False, below=place, limit=1) == [2]

    async def test_equal_times_have_an_order_too(self, side: Side) -> None:
        side.tell(*(Told() for _ in range(5)))
        found = []
        below = None
        while True:
            read = await side.histories.conversations(
                TENANT, SUBJECT, archived=None, below=below, limit=2
            )
            if not read.value:
                break
            found += [row.conversation for row in read.value]
            below = ActivityPlace(read.value[-1].last_activity, read.value[-1].conversation)
        assert len(found) == len(set(found)) == 5

    async def test_nodes_are_what_was_said(self, side: Side) -> None:
        told = Told()
        attachment = Attachment(uri=ODD, name=ODD, bytes=1)
        message = told.post(ODD, attachments=(attachment,))
        answer = told.ask(model=ODD)
        open_ = told.ask(message)
        told.about(said.AnswerCancelRequested, answer=open_)
        told.end(answer, ODD, EndKind.FAIL, "engine", error=ODD)
        edited = told.post("other", parent=None, edits=message)
        side.tell(told)
        tree = await side.histories.tree(told.id)
        assert [(one.position, one.node, one.parent) for one in tree] == [
            (2, message, None),
            (3, answer, message),
            (4, open_, message),
            (7, edited, None),
        ]
        assert [one.text_bytes for one in tree] == [len(ODD.encode())] * 2 + [0, 5]
        read = await side.histories.nodes(told.id, [7, 3, 2, 4, 99])
        nodes = {node.position: node for node in read.value}
        assert sorted(nodes) == [2, 3, 4, 7]
        assert (nodes[2].text, nodes[2].attachments, nodes[2].model) == (ODD, (attachment,), None)
        assert (nodes[3].text, nodes[3].model, nodes[3].status) == (ODD, ODD, "fail")
        assert (nodes[3].reason, nodes[3].error, nodes[3].completion_tokens) == ("engine", ODD, 2)
        assert nodes[3].ended_at == NOON + timedelta(seconds=5)
        assert (nodes[4].status, nodes[4].text, nodes[4].ended_at) == ("cancelling", None, None)
        assert (nodes[7].edits, nodes[7].role) == (message, "user")

    async def test_a_search_finds_ones_own_words_and_marks_them(self, side: Side) -> None:
        told, bobs = Told(title="Rivers"), Told(subject="bob")
        message = told.post(f"{ODD} the thalweg of a river {ODD}")
        told.post("nothing of the kind")
        bobs.post("a thalweg of bob's")
        side.tell(told, bobs, Told(tenant=OTHER_TENANT))
        read = await side.histories.search(TENANT, SUBJECT, "Thalweg RIVER", below=None, limit=5)
        [found] = read.value
        assert (found.place.conversation, found.node) == (told.id, message)
        assert (found.title, found.role, found.archived) == ("Rivers", "user", False)
        marked = [found.excerpt[start:end] for start, end in found.marks]
        assert marked == ["thalweg", "river"]
        for nothing in ("sea", "--", "", "\0", "'"):
            read = await side.histories.search(TENANT, SUBJECT, nothing, below=None, limit=5)
            assert read.value == [], nothing

    async def test_the_better_match_comes_first_and_pages_go_on(self, side: Side) -> None:
        told = Told()
        best = told.post("thalweg thalweg thalweg")
        others = [told.post("thalweg alone") for _ in range(4)]
        told.about(said.ConversationArchived)
        side.tell(told)
        found = []
        below = None
        while True:
            read = await side.histories.search(TENANT, SUBJECT, "thalweg", below=below, limit=2)
            if not read.value:
                break
            found += [one.node for one in read.value]
            below = read.value[-1].place
        assert found == [best, *reversed(others)]

    async def test_each_change_has_a_greater_number_and_the_newest_form(self, side: Side) -> None:
        first, second = several(2)
        histories = side.histories
        assert await histories.last_number(TENANT, SUBJECT) == 0
        side.tell(first)
        side.tell(second)
        before = await histories.last_number(TENANT, SUBJECT)
        assert [
            change.row.conversation
            for change in await histories.changes(TENANT, SUBJECT, above=0, limit=9)
        ] == [first.id, second.id]
        assert await histories.changes(TENANT, SUBJECT, above=before, limit=9) == []
        first.about(said.ConversationRenamed, title="new")
        first.about(said.ConversationRenamed, title="newer")
        side.tell(first)
        second.about(said.ConversationDeleted)
        side.tell(second, *several(1, "bob"))
        renamed, deleted = await histories.changes(TENANT, SUBJECT, above=before, limit=9)
        assert (renamed.row.title, renamed.row.deleted) == ("newer", False)
        assert (deleted.row.conversation, deleted.row.deleted) == (second.id, True)
        assert before < renamed.number < deleted.number
        assert await histories.last_number(TENANT, SUBJECT) == deleted.number
        one = await histories.changes(TENANT, SUBJECT, above=before, limit=1)
        assert one == [renamed]

    async def test_open_answers_are_known_with_their_conversations(self, side: Side) -> None:
        told, ended = Told(), Told()
        told.post("?")
        answer = told.ask()
        ended.turn("?")
        side.tell(told, ended)
        assert await side.histories.answering(TENANT, SUBJECT) == {answer: told.id}
        assert await side.histories.answering(TENANT, "bob") == {}


class AppliedContract:
    async def test_a_wait_ends_when_it_is_applied(self, side: Side) -> None:
        told = Told()
        side.tell(told)
        applied = side.histories.applied
        assert await applied.wait([StreamPosition(told.id, 1)], seconds_max=0)
        assert not await applied.wait([StreamPosition(told.id, 2)], seconds_max=0.05)
        waiting = [
            asyncio.create_task(applied.wait([StreamPosition(told.id, position)], seconds_max=30))
            for position in (2, 3)
        ]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in waiting)
        told.post("?")
        told.post("?")
        side.tell(told)
        assert await asyncio.gather(*waiting) == [True, True]
        assert not await applied.wait([StreamPosition(fresh_id(), 1)], seconds_max=0.05)

    async def test_a_parked_stream_is_not_waited_for(self, side: Side) -> None:
        told = Told()
        side.tell(told)
        side.park(told)
        assert await side.histories.applied.wait([StreamPosition(told.id, 9)], seconds_max=0)
        assert await side.histories.applied.parked([fresh_id(), told.id])
        assert not await side.histories.applied.parked([fresh_id()])
        row = (await side.histories.conversation(TENANT, told.id)).value
        assert row is not None
        assert row.parked

    async def test_what_a_read_has_seen_can_be_waited_for(self, side: Side) -> None:
        told = Told()
        side.tell(told)
        seen = (await side.histories.conversation(TENANT, told.id)).seen
        applied = side.histories.applied
        assert await applied.seen() == seen
        assert await applied.wait([seen], seconds_max=0)
        partition, offset = next(iter(seen.offsets.items()))
        more = Seen(seen.context, {partition: offset + 1})
        assert not await applied.wait([more], seconds_max=0.05)
        assert await applied.wait([Seen("accounts", more.offsets)], seconds_max=0)
        told.post("?")
        side.tell(told)
        assert await applied.wait([more], seconds_max=0)


class UsageContract:
    async def test_usage_is_summed_as_it_was_asked_for(self, side: Side) -> None:
        ann, bob = Told(), Told(subject="bob", begins=NOON + timedelta(days=1))
        for one in (ann, bob):
            one.turn("?")
            one.post("?")
            one.end(one.ask(model="large"), kind=EndKind.CANCELLED, tokens=(10, 5))
        stranger = Told(tenant=OTHER_TENANT)
        stranger.turn("?")
        side.tell(ann, bob, stranger)
        first, last = date(2026, 11, 1), date(2026, 11, 2)

        async def rows(behind: UsagePlace | None = None, limit: int = 9, **how: object) -> list:  # type: ignore[type-arg]
            query = UsageQuery(TENANT, first, last, **how)  # type: ignore[arg-type]
            read = await side.usage.rows(query, behind=behind, limit=limit)
            return [
                (row.place, row.prompt_tokens, row.completion_tokens, row.finished, row.cancelled)
                for row in read.value
            ]

        everything = await rows()
        assert everything == [
            (UsagePlace(first, SUBJECT, "large"), 10, 5, 0, 1),
            (UsagePlace(first, SUBJECT, "m"), 3, 2, 1, 0),
            (UsagePlace(last, "bob", "large"), 10, 5, 0, 1),
            (UsagePlace(last, "bob", "m"), 3, 2, 1, 0),
        ]
        for at, row in enumerate(everything):
            assert await rows(behind=row[0], limit=2) == everything[at + 1 : at + 3]
        nothing = UsagePlace(None, None, None)
        assert await rows(by=frozenset()) == [(nothing, 26, 14, 2, 2)]
        assert await rows(by=frozenset({"model"}), subject="bob") == [
            (UsagePlace(None, None, "large"), 10, 5, 0, 1),
            (UsagePlace(None, None, "m"), 3, 2, 1, 0),
        ]
        assert await rows(by=frozenset({"day"}), model="large") == [
            (UsagePlace(first, None, None), 10, 5, 0, 1),
            (UsagePlace(last, None, None), 10, 5, 0, 1),
        ]
        assert await rows(subject="nobody") == []
