"""What the answering worker needs of the outside. Implemented in infra/answers_worker/."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from events.answers import TokenRecord
from events.conversations import Band, Sampling
from events.ids import AnswerId, ConversationId
from processors.answers.engine import Message


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request stands in the work topics."""

    band: Band
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Request:
    """That an answer was asked for, as the work topics say it."""

    answer: AnswerId
    conversation: ConversationId
    tenant: UUID
    model: str
    place: Place
    traceparent: str | None = None
    """Of the request that asked for it."""
    received_ns: int = 0
    """When this worker got it, for spans."""
    appended_ms: int = 0
    """When Kafka got this work record, by its own clock (milliseconds); 0: nobody knows."""
    tokens_max: int = 0
    """Budget of the answer; 0: the record does not say."""
    seconds_left: float = 0.0
    """Of its deadline, about: by two machines' clocks. The event store knows."""


@dataclass(frozen=True, slots=True)
class Task:
    """What the event store knows about a request: the truth, at the time of the load."""

    messages: tuple[Message, ...]
    """The branch up to the message that is to be answered."""
    sampling: Sampling
    tokens_max: int
    """Budget of the whole answer."""
    seconds_left: float
    """Of the deadline; zero or less: it has passed."""
    ended: bool
    """The answer's end is recorded, or nothing is known of such a request."""
    cancel_requested: bool
    age_seconds: float = 0.0
    """Since it was asked for first, by the event store's clock."""
    unreadable: bool = False
    """The conversation was not to be stored, and its key is gone: what was said can't be read."""


class RequestsUnavailable(Exception):
    """The event store cannot be read now. Try again."""


class Requests(Protocol):
    """The event store, as far as requests go."""

    async def load(self, request: Request) -> Task:
        """Raises RequestsUnavailable. Any other error: what is stored cannot be understood."""


class NotSent(Exception):
    """It is not known whether the record is in the log."""


class LogUnavailable(Exception):
    """The token log cannot be asked now. Try again."""


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a partition's log: from `first` up to, but without, `end`."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class TokenRead:
    """One record as it stands in the log."""

    partition: int
    offset: int
    record: TokenRecord | None
    """None: it could not be decoded, and nobody else could either."""


class TokenLog(Protocol):
    """`thalweg.tokens`: one partition number is one conversation's, here and on the work topics."""

    def send(
        self, partition: int, conversation: ConversationId, record: TokenRecord
    ) -> "asyncio.Future[object]":
        """Appends, in the order of the calls. The future fails if it is not sure: then all that
        was sent before it and is not done fails too. Raises NotSent if it can't take it at all.
        """

    async def locate(self, since_ms: Mapping[int, int]) -> Mapping[int, Span]:
        """For each partition the first record of that time or later (milliseconds, of the log's
        clock), and the end of this moment. Raises LogUnavailable.
        """

    def earlier(
        self, partition: int, since_ms: int, conversations: Collection[ConversationId]
    ) -> AsyncGenerator[tuple[int, Sequence[TokenRead]], None]:
        """Reads a partition beside `read`, from that time on: how far it is (the offset of what
        comes next), and what of these conversations it has found. It goes on until it is closed.
        Raises LogUnavailable.
        """

    async def begin(self, offsets: Mapping[int, int]) -> None:
        """Reads these partitions too, each from its offset on."""

    async def stop(self, partitions: Collection[int]) -> None:
        """Reads these no more; when it returns, no record of theirs is still to come."""

    async def read(self) -> Sequence[TokenRead]:
        """What has come, in the order of each partition; waits a bounded time for the first."""


class Work(Protocol):
    """The work topics, as the consumer group sees them."""

    async def oldest(self, partitions: Collection[int]) -> Mapping[int, int]:
        """For each partition the time (milliseconds) of its oldest unacknowledged message on any
        work topic; now, if there is none. Raises LogUnavailable.
        """

    def is_member(self) -> bool:
        """The consumer group counts this worker in. False: others may own its partitions now."""

    def acknowledge(self, place: Place) -> None:
        """The answer asked for there has ended. Committed up to the oldest that has not."""

    def hold_back(self, bands: Collection[Band]) -> None:
        """From now on new requests of these bands wait in Kafka; those of the others come."""
