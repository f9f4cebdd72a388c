"""What the worker is told of a request, from the events of its conversation."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import pytest

from commands.errors import StoreUnavailable
from events.codec import Undecodable
from events.conversations import (
    AnswerCancelRequested,
    AnswerEnded,
    AnswerRequested,
    Band,
    BranchChosen,
    ConversationArchived,
    ConversationDeleted,
    ConversationStarted,
    EndKind,
    MessagePosted,
    Role,
    Sampling,
    Usage,
)
from events.envelope import Event, Meta, Recorded
from events.ids import AnswerId, ConversationId, MessageId, NodeId, TenantId, fresh_id
from infra.answers_worker.tasks import StoreRequests
from infra.event_store.answers import AnswerRow
from processors.answers.engine import Message
from processors.answers.ports import Place, Request, RequestsUnavailable

C = ConversationId(fresh_id())
META = Meta(fresh_id(), "call:1", "tester", "somebody", datetime.now(UTC), fresh_id())


class Stored:
    """A store that holds one conversation; the answers table is told apart."""

    def __init__(self, *events: Event, row: AnswerRow | None = None) -> None:
        self.events, self.row, self.away = events, row, False
        self.unreadable = False
        self.sealed: str | None = None

    async def find_asked(
        self, answer: UUID, stream: UUID
    ) -> tuple[AnswerRow | None, Sequence[Recorded] | Exception]:
        if self.away:
            raise StoreUnavailable("postgres is away")
        if self.unreadable:
            return self.row, Undecodable("an event of a later version")
        return self.row, [
            Recorded(fresh_id(), stream, n, META, e, self.sealed)
            for n, e in enumerate(self.events, 1)
        ]


def row(answer: AnswerId, *, ended: bool = False, seconds_left: float = 30.0) -> AnswerRow:
    return AnswerRow(answer, TenantId(fresh_id()), C, seconds_left, ended, 1.0)


def posted(content: str, parent: NodeId | None, role: Role = Role.USER) -> MessagePosted:
    message = MessageId(fresh_id())
    return MessagePosted(conversation=C, message=message, role=role, content=content, parent=parent)


def asked(parent: NodeId, max_tokens: int = 100) -> AnswerRequested:
    return AnswerRequested(
        conversation=C,
        answer=AnswerId(fresh_id()),
        parent=parent,
        model="m",
        band=Band.DEFAULT,
        deadline_seconds=30,
        sampling=Sampling(max_tokens=max_tokens),
    )


def ended(answer: AnswerId, text: str) -> AnswerEnded:
    return AnswerEnded(
        conversation=C,
        answer=answer,
        kind=EndKind.FINISH,
        reason="stop",
        text=text,
        chunk_lengths=(len(text),),
        usage=Usage(),
    )


def requests(store: Stored) -> StoreRequests:
    return StoreRequests(store, answer_tokens_max=50)


def request(answer: AnswerId) -> Request:
    return Request(answer, C, UUID(int=1), "m", Place(Band.DEFAULT, 0, 0))


async def test_the_branch_is_told_and_its_siblings_are_not() -> None:
    system = posted("be kind", None, Role.SYSTEM)
    first = posted("hello", system.message)
    other = posted("another beginning", system.message)
    reply = asked(first.message)
    second = posted("and then?", reply.answer)
    last = asked(second.message)
    store = Stored(
        ConversationStarted(conversation=C),
        system,
        first,
        other,
        reply,
        ended(reply.answer, "hi"),
        second,
        last,
        row=row(last.answer),
    )
    task = await requests(store).load(request(last.answer))
    assert task.messages == (
        Message(Role.SYSTEM, "be kind"),
        Message(Role.USER, "hello"),
        Message(Role.ASSISTANT, "hi"),
        Message(Role.USER, "and then?"),
    )
    assert (task.tokens_max, task.seconds_left, task.ended, task.cancel_requested) == (
        50,
        30.0,
        False,
        False,
    )


async def test_an_edit_and_another_answer_are_told_with_their_own_branches() -> None:
    system = posted("be kind", None, Role.SYSTEM)
    first = posted("hello", system.message)
    reply = asked(first.message)
    edit = posted("good day", system.message).model_copy(update={"edits": first.message})
    of_edit, again = asked(edit.message), asked(first.message)
    told = posted("be brief", reply.answer, Role.SYSTEM)
    second = posted("and then?", told.message)
    last = asked(second.message)
    conversation = (
        ConversationStarted(conversation=C),
        system,
        first,
        reply,
        edit,  # while the answer runs
        of_edit,
        ended(reply.answer, "hi"),
        again,
        BranchChosen(conversation=C, head=reply.answer),
        told,
        second,
        last,
    )
    beginning = (Message(Role.SYSTEM, "be kind"),)
    for answer, branch in (
        (of_edit, (Message(Role.USER, "good day"),)),
        (again, (Message(Role.USER, "hello"),)),
        (
            last,
            (
                Message(Role.USER, "hello"),
                Message(Role.ASSISTANT, "hi"),
                Message(Role.SYSTEM, "be brief"),
                Message(Role.USER, "and then?"),
            ),
        ),
    ):
        store = Stored(*conversation, row=row(answer.answer))
        task = await requests(store).load(request(answer.answer))
        assert task.messages == beginning + branch
        assert not task.cancel_requested


async def test_what_became_of_the_conversation_meanwhile_is_no_obstacle() -> None:
    first = posted("hello", None)
    reply = asked(first.message)
    begun = (ConversationStarted(conversation=C), first, reply)
    archived = Stored(*begun, ConversationArchived(conversation=C), row=row(reply.answer))
    task = await requests(archived).load(request(reply.answer))
    assert (task.messages, task.cancel_requested) == ((Message(Role.USER, "hello"),), False)
    gone = ConversationDeleted(conversation=C)
    cancel = AnswerCancelRequested(conversation=C, answer=reply.answer)
    deleted = Stored(*begun, gone, cancel, row=row(reply.answer))
    task = await requests(deleted).load(request(reply.answer))
    assert (task.ended, task.cancel_requested) == (False, True)


async def test_a_cancel_and_an_end_are_told() -> None:
    first = posted("hello", None)
    reply = asked(first.message)
    cancel = AnswerCancelRequested(conversation=C, answer=reply.answer)
    open_answer = Stored(first, reply, cancel, row=row(reply.answer))
    assert (await requests(open_answer).load(request(reply.answer))).cancel_requested
    closed = Stored(first, reply, row=row(reply.answer, ended=True))
    assert (await requests(closed).load(request(reply.answer))).ended


async def test_a_request_that_the_store_does_not_know_counts_as_ended() -> None:
    assert (await requests(Stored()).load(request(AnswerId(fresh_id())))).ended


async def test_a_store_that_is_away_is_told() -> None:
    store = Stored()
    store.away = True
    with pytest.raises(RequestsUnavailable):
        await requests(store).load(request(AnswerId(fresh_id())))


async def test_a_conversation_that_cannot_be_read_is_told_unless_the_answer_has_ended() -> None:
    answer = AnswerId(fresh_id())
    store = Stored(row=row(answer))
    store.unreadable = True
    with pytest.raises(Undecodable):
        await requests(store).load(request(answer))
    store.row = row(answer, ended=True)
    assert (await requests(store).load(request(answer))).ended


async def test_a_conversation_whose_key_is_gone_has_expired() -> None:
    first = posted("", None)
    reply = asked(first.message)
    store = Stored(first, reply, row=row(reply.answer))
    assert not (await requests(store).load(request(reply.answer))).unreadable
    store.sealed = "sealed"
    assert (await requests(store).load(request(reply.answer))).unreadable


async def test_a_message_whose_parent_is_missing_is_told() -> None:
    first = posted("hello", MessageId(fresh_id()))
    reply = asked(first.message)
    with pytest.raises(KeyError):
        await requests(Stored(first, reply, row=row(reply.answer))).load(request(reply.answer))
