"""What a conversation's events say, folded into rows: `histories@1` without its tables.

Pure, and nothing but the events goes in, so that a rebuild gives the same rows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from events.conversations import (
    AnswerCancelRequested,
    AnswerEnded,
    AnswerRequested,
    Attachment,
    BranchChosen,
    ConversationArchived,
    ConversationDeleted,
    ConversationRead,
    ConversationRenamed,
    ConversationStarted,
    ConversationUnarchived,
    Kind,
    MessagePosted,
    MetadataReplaced,
    Role,
)
from events.envelope import Event, Recorded

OPENING_CHARACTERS_MAX = 80
"""Of the first user's message: what a list shows of a conversation without a title."""
UNREAD_COUNTED_MAX = 1_000
"""Ends behind the read mark that a row remembers; a list says "many" long before."""

OPEN = "open"
CANCELLING = "cancelling"


@dataclass(slots=True)
class Row:
    """A conversation. After its deletion only the tombstone's fields say anything."""

    conversation: UUID
    tenant: UUID
    subject: str
    kind: str
    created_at: datetime
    last_activity: datetime
    title: str | None
    metadata: Mapping[str, str]
    position: int
    """Of the last event that was applied, in its stream."""
    opening: str | None = None
    """How the first user's message begins."""
    archived: bool = False
    deleted: bool = False
    head: UUID | None = None
    model: str | None = None
    """The one that was last asked for."""
    messages: int = 0
    answers: int = 0
    read_position: int = 0
    unread: list[int] = field(default_factory=list)
    """Positions of ends behind `read_position`, the newest UNREAD_COUNTED_MAX of them."""
    answering: dict[UUID, int] = field(default_factory=dict)
    """Answers that have no end yet, and the positions of their requests."""


@dataclass(slots=True)
class Node:
    """A message, or an answer from its request to its end."""

    conversation: UUID
    position: int
    """Of the event that made it: no other node of the conversation has it."""
    node: UUID
    parent: UUID | None
    role: str
    created_at: datetime
    text: str | None = None
    """None: an answer that has no end yet."""
    attachments: tuple[Attachment, ...] = ()
    edits: UUID | None = None
    model: str | None = None
    """None: a message."""
    band: str | None = None
    status: str | None = None
    """Of an answer: open, cancelling, or how it ended: finish, fail, cancelled."""
    reason: str | None = None
    error: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    ended_at: datetime | None = None
    ended_position: int | None = None


@dataclass(frozen=True, slots=True)
class End:
    """An end of an answer whose node was made earlier, at `position`."""

    conversation: UUID
    position: int
    at: int
    """The position of the end."""
    time: datetime
    ended: AnswerEnded


@dataclass(slots=True)
class Changes:
    """What a batch of events changes. Apply `wiped` last."""

    rows: dict[UUID, Row] = field(default_factory=dict)
    nodes: dict[tuple[UUID, int], Node] = field(default_factory=dict)
    """New ones, as they are after the batch."""
    cancelling: list[tuple[UUID, int]] = field(default_factory=list)
    """Nodes of before the batch, by conversation and position."""
    ends: list[End] = field(default_factory=list)
    """Of nodes of before the batch."""
    wiped: set[UUID] = field(default_factory=set)
    """Conversations that lose their nodes."""
    shown: set[UUID] = field(default_factory=set)
    """Conversations that a reader may see changed: all but ends in deleted ones."""


def fold(known: Mapping[UUID, Row], events: Iterable[Recorded]) -> Changes:
    """What `events` change, where `known` has the rows of before. Changes the known rows too.

    Events of conversations without a row (those that are not stored) change nothing.
    """
    changes = Changes()
    for one in events:
        event = one.event
        if isinstance(event, ConversationStarted):
            if event.stored:
                changes.rows[one.stream] = _started(one, event)
                changes.shown.add(one.stream)
            continue
        row = changes.rows.get(one.stream) or known.get(one.stream)
        if row is None:
            continue
        row.position = one.position
        changes.rows[one.stream] = row
        if not row.deleted:
            changes.shown.add(one.stream)
            _apply(changes, row, one, event)
    return changes


def apply_end(node: Node, end: End) -> None:
    """Writes the end into the answer's node."""
    ended = end.ended
    node.text = ended.text
    node.status = ended.kind.value
    node.reason = ended.reason
    node.error = ended.error
    node.prompt_tokens = ended.usage.prompt_tokens
    node.completion_tokens = ended.usage.completion_tokens
    node.ended_at = end.time
    node.ended_position = end.at


def _started(one: Recorded, event: ConversationStarted) -> Row:
    meta = one.meta
    return Row(
        conversation=one.stream,
        tenant=meta.tenant,
        subject=meta.subject,
        kind=event.kind.value,
        created_at=meta.time,
        last_activity=meta.time,
        title=event.title,
        metadata=event.metadata,
        position=one.position,
    )


def _apply(changes: Changes, row: Row, one: Recorded, event: Event) -> None:
    match event:
        case MessagePosted():
            _posted(changes, row, one, event)
        case AnswerRequested():
            _requested(changes, row, one, event)
        case AnswerEnded():
            _ended(changes, row, one, event)
        case AnswerCancelRequested() if event.answer in row.answering:
            key = row.conversation, row.answering[event.answer]
            if key in changes.nodes:
                changes.nodes[key].status = CANCELLING
            else:
                changes.cancelling.append(key)
        case ConversationRenamed():
            row.title = event.title
        case MetadataReplaced():
            row.metadata = event.metadata
        case ConversationArchived():
            row.archived = True
        case ConversationUnarchived():
            row.archived = False
        case ConversationRead():
            _read_to(row, event.position)
        case BranchChosen():
            row.head = event.head
        case ConversationDeleted():
            _deleted(changes, row)


def _posted(changes: Changes, row: Row, one: Recorded, event: MessagePosted) -> None:
    changes.nodes[row.conversation, one.position] = Node(
        conversation=row.conversation,
        position=one.position,
        node=event.message,
        parent=event.parent,
        role=event.role.value,
        created_at=one.meta.time,
        text=event.content,
        attachments=event.attachments,
        edits=event.edits,
    )
    row.head = event.message
    row.messages += 1
    _active(row, one)
    if event.role is Role.USER:
        _read_to(row, one.position)
        if row.opening is None:
            row.opening = _opening(event.content)


def _requested(changes: Changes, row: Row, one: Recorded, event: AnswerRequested) -> None:
    changes.nodes[row.conversation, one.position] = Node(
        conversation=row.conversation,
        position=one.position,
        node=event.answer,
        parent=event.parent,
        role=Role.ASSISTANT.value,
        created_at=one.meta.time,
        model=event.model,
        band=event.band.value,
        status=OPEN,
    )
    row.head = event.answer
    row.model = event.model
    row.answers += 1
    row.answering[event.answer] = one.position
    _active(row, one)


def _ended(changes: Changes, row: Row, one: Recorded, event: AnswerEnded) -> None:
    asked_at = row.answering.pop(event.answer, None)
    if asked_at is None:
        return
    end = End(row.conversation, asked_at, one.position, one.meta.time, event)
    node = changes.nodes.get((row.conversation, asked_at))
    if node is None:
        changes.ends.append(end)
    else:
        apply_end(node, end)
    if row.kind == Kind.CONVERSATION:
        row.unread = [*row.unread[1 - UNREAD_COUNTED_MAX :], one.position]
    _active(row, one)


def _deleted(changes: Changes, row: Row) -> None:
    row.deleted = True
    row.title = row.opening = row.head = row.model = None
    row.metadata = {}
    row.unread, row.answering = [], {}
    row.messages = row.answers = 0
    row.archived = False
    mine = [key for key in changes.nodes if key[0] == row.conversation]
    for key in mine:
        del changes.nodes[key]
    changes.wiped.add(row.conversation)


def _active(row: Row, one: Recorded) -> None:
    """Gateways' clocks differ: the time of the last activity never goes back."""
    row.last_activity = max(row.last_activity, one.meta.time)


def _read_to(row: Row, position: int) -> None:
    if position > row.read_position:
        row.read_position = position
        row.unread = [at for at in row.unread if at > position]


def _opening(text: str) -> str | None:
    """None for blank text: a later message may say more."""
    words = " ".join(text[: 8 * OPENING_CHARACTERS_MAX].split())
    return words[:OPENING_CHARACTERS_MAX] or None
