"""What the gateway needs of the read models. Implemented in infra/read_models/.

Each read says what it has seen, so that a later one, of whatever read model, can be held to it.
All of them raise StoreUnavailable.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from events.conversations import Attachment

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """A place that one stream must have reached."""

    stream: UUID
    position: int


@dataclass(frozen=True, slots=True)
class Seen:
    """How much of its context's topic a read model had applied: the next offset, by partition.

    It holds for every read model of the context, and for whatever they are built into next.
    """

    context: str
    offsets: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Read(Generic[T]):
    value: T
    seen: Seen
    """All that `value` shows is in it, perhaps more."""


class Applied(Protocol):
    """How far one read model is."""

    async def wait(self, after: Sequence[StreamPosition | Seen], *, seconds_max: float) -> bool:
        """Whether all of it is applied, or will not be because its stream is parked. Looks at
        least once.
        """

    async def seen(self) -> Seen:
        """What it has applied by now: all that a read showed that came back before."""

    async def parked(self, streams: Sequence[UUID]) -> bool:
        """Whether one of the streams is parked: its newest events could not be applied."""


@dataclass(frozen=True, slots=True)
class ConversationRow:
    """A conversation as lists show it. Of a deleted one only ids and times say anything."""

    conversation: UUID
    tenant: UUID
    subject: str
    kind: str
    created_at: datetime
    last_activity: datetime
    title: str | None
    opening: str | None
    """How the first user's message begins."""
    metadata: Mapping[str, str]
    archived: bool
    deleted: bool
    head: UUID | None
    model: str | None
    messages: int
    answers: int
    unread: int
    answering: Sequence[UUID]
    """Answers without an end."""
    position: int
    parked: bool
    """Its newest events could not be applied: what is shown is older."""


@dataclass(frozen=True, slots=True)
class ActivityPlace:
    """A place in the list of conversations: it goes on below."""

    last_activity: datetime
    conversation: UUID


@dataclass(frozen=True, slots=True)
class NodePlace:
    """Where a message or an answer stands in the tree, without what it says."""

    position: int
    node: UUID
    parent: UUID | None
    text_bytes: int


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A message, or an answer from its request to its end."""

    position: int
    node: UUID
    parent: UUID | None
    role: str
    created_at: datetime
    text: str | None
    """None: an answer without an end."""
    attachments: Sequence[Attachment] = ()
    edits: UUID | None = None
    model: str | None = None
    """None: a message."""
    band: str | None = None
    status: str | None = None
    reason: str | None = None
    error: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class FoundPlace:
    """A place among the results of a search: they go on below."""

    rank: float
    created_at: datetime
    conversation: UUID
    position: int


@dataclass(frozen=True, slots=True)
class Found:
    """A message or an answer that a search has found."""

    place: FoundPlace
    node: UUID
    role: str
    title: str | None
    """Of its conversation."""
    opening: str | None
    archived: bool
    excerpt: str
    marks: Sequence[tuple[int, int]]
    """What was found in the excerpt: from, and up to but without, in code points."""


@dataclass(frozen=True, slots=True)
class Changed:
    """The newest form of a conversation that has changed, and the number of the change."""

    number: int
    row: ConversationRow


class Histories(Protocol):
    """Conversations, messages and answers of `histories`."""

    @property
    def applied(self) -> Applied: ...

    async def conversations(
        self,
        tenant: UUID,
        subject: str,
        *,
        archived: bool | None,
        below: ActivityPlace | None,
        limit: int,
    ) -> Read[Sequence[ConversationRow]]:
        """Those of a data subject, by last activity, the newest first."""

    async def conversation(self, tenant: UUID, conversation: UUID) -> Read[ConversationRow | None]:
        """None if there is none of this tenant, or it is deleted."""

    async def tree(self, conversation: UUID) -> Sequence[NodePlace]:
        """All nodes by position: deciders bound them. Whose they are was asked before."""

    async def nodes(self, conversation: UUID, positions: Sequence[int]) -> Read[Sequence[NodeRow]]:
        """These nodes, in any order."""

    async def search(
        self, tenant: UUID, subject: str, query: str, *, below: FoundPlace | None, limit: int
    ) -> Read[Sequence[Found]]:
        """Messages and answers that a websearch query matches, the best first."""

    async def last_number(self, tenant: UUID, subject: str) -> int:
        """Of the subject's newest change; 0 before the first."""

    async def changes(
        self, tenant: UUID, subject: str, *, above: int, limit: int
    ) -> Sequence[Changed]:
        """Conversations that have changed since number `above`, deleted ones too, by number."""

    async def answering(self, tenant: UUID, subject: str) -> Mapping[UUID, UUID]:
        """Answers without an end, and their conversations: the newest, a bounded number."""


class Changes(Protocol):
    """Says which subjects' conversations have changed. One connection for a whole gateway."""

    def joined(
        self, tenant: UUID, subject: str, wake: Callable[[], None]
    ) -> AbstractContextManager[None]:
        """Calls `wake` after each change of the subject, and whenever one may have been missed."""


@dataclass(frozen=True, slots=True)
class UsagePlace:
    """A row's key, and a place in the list: it goes on behind. None: it is summed over."""

    day: date | None
    subject: str | None
    model: str | None


@dataclass(frozen=True, slots=True)
class UsageRow:
    place: UsagePlace
    prompt_tokens: int
    completion_tokens: int
    finished: int
    failed: int
    cancelled: int


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Whose usage, from when to when (both included), and what gets rows of its own."""

    tenant: UUID
    first: date
    last: date
    subject: str | None = None
    model: str | None = None
    by: frozenset[str] = field(default_factory=lambda: frozenset({"day", "user", "model"}))


class UsageSums(Protocol):
    """The sums of `usage`."""

    @property
    def applied(self) -> Applied: ...

    async def rows(
        self, query: UsageQuery, *, behind: UsagePlace | None, limit: int
    ) -> Read[Sequence[UsageRow]]:
        """By day, user and model."""
