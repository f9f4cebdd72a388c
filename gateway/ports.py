"""What the gateway needs of the outside. Implemented in infra/, joined in infra/wiring.py."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from commands.store import Attempt, Receipt
from events.answers import Entry
from events.ids import KeyId, TenantId
from gateway.answer_streams import AnswerRef, Idle


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom an API key stands for."""

    tenant: TenantId
    key: KeyId
    owner: str
    """The data subject of calls that name no other."""


class Keys(Protocol):
    async def find(self, key_hash: str) -> Caller | None:
        """Whose key has this SHA-256 (hexadecimal); None if there is none, or it was revoked.

        Raises StoreUnavailable.
        """


class AnswerRow(Protocol):
    """What the gateway reads of an answer before it opens its stream."""

    @property
    def tenant(self) -> UUID: ...
    @property
    def conversation(self) -> UUID: ...
    @property
    def ended(self) -> bool: ...
    @property
    def expired(self) -> bool:
        """It was not to be stored, and nobody can read it any more."""

    @property
    def gone(self) -> bool:
        """It was deleted with its conversation, and nobody is to read it any more."""


class Answers(Protocol):
    async def find_answer(self, answer: UUID) -> AnswerRow | None:
        """The answer as the event store has it, at once after its command was accepted.

        Raises StoreUnavailable.
        """


class Streams(Protocol):
    def read(self, ref: AnswerRef, *, after: int = -1) -> AsyncIterator[Entry | Idle]:
        """Entries of index > after, in order, without gap or repeat, the end included; then stops.

        Yields an Idle at least every keepalive interval. Raises AnswerStreamUnavailable, and
        AnswerExpired.
        """


class Receipts(Protocol):
    async def receipt(self, tenant: UUID, command: str, fingerprint: bytes) -> Receipt | None:
        """What the command with that id got, if it was stored. Raises CommandReused."""


class Turns(Protocol):
    """Turns that repeats without a key may join, by tenant and the command that began them."""

    async def join(self, command: str, attempt: Attempt) -> Receipt | None:
        """The receipt of the turn that this repeat joins, if there is one.

        The same as commands.store.EventStore.append does, but nothing begins. Raises
        StoreUnavailable.
        """

    async def settle(self, turns: Sequence[tuple[UUID, str]]) -> None:
        """Nobody joins these any more. Raises StoreUnavailable."""

    async def sweep_turns(self) -> int:
        """Forgets turns that are too old to be joined, a bounded number; says how many.

        Raises StoreUnavailable.
        """


class Models(Protocol):
    async def ids(self) -> Sequence[str] | None:
        """The models that the fleet serves, the default one first; None: not known yet.

        Answers from memory: it is asked on every request. Keeps the last known while engines are
        away, so that they can be away without anybody being refused.
        """

    async def may_serve(self, model: str) -> bool:
        """False: no engine serves it, and all have said what they serve. From memory as well."""


class Admission(Protocol):
    async def unanswered(self) -> Mapping[UUID, int]:
        """How many answers were asked for and have no recorded end, by tenant."""


@dataclass(frozen=True, slots=True)
class HealthReport:
    commands_ready: bool
    """Whether commands can be accepted: the event store answers."""
    answers_ready: bool
    """Whether answers can be given now."""
    dependencies: Mapping[str, str] = field(default_factory=dict)
    """Each dependency by name: "ready", or what is wrong with it."""


class Health(Protocol):
    async def check(self) -> HealthReport:
        """The state of every dependency. Bounded in time; never raises."""
