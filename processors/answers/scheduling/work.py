"""A request that waits for an engine, and how long it may."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from uuid import UUID

from events.conversations import Band
from events.ids import AnswerId, ConversationId


class Level(IntEnum):
    """What goes first. Work begins at its band's level and climbs as it waits."""

    BEGUN = 0
    """A part of the answer was shown: a reader waits for its next token."""
    PRIORITY = 1
    DEFAULT = 2
    FLEX = 3


Needs = tuple[str, frozenset[str]]
"""A model, and the engines that will not do."""

LEVELS = {band: Level[band.name] for band in Band}


@dataclass(frozen=True, slots=True)
class Queued:
    """Times are of one clock that never goes back, in seconds."""

    answer: AnswerId
    conversation: ConversationId
    tenant: UUID
    band: Band
    model: str
    tokens: int
    """What its tenant is charged until it is known what was used: the prompt, and what may be
    said."""
    asked_at: float
    deadline: float
    begun: bool = False
    unable: frozenset[str] = frozenset()
    """Engines that can't do it, by name."""
    avoid: str | None = None
    """An engine that just failed it: taken only if there is no other."""
    attempt: int = 1
    """Calls of this worker for this answer, with the one that it waits for."""
    said_tokens: int = 0
    """Of the answer, which is to go on."""

    @property
    def needs(self) -> "Needs":
        return self.model, self.unable

    @property
    def level(self) -> Level:
        return Level.BEGUN if self.begun else LEVELS[self.band]


class Why(Enum):
    """Why work leaves the queue without an engine."""

    DEADLINE = "deadline"
    """Its own deadline has passed."""
    CONTENDED = "contended"
    """Engines are there, and others had them all the time."""
    NO_CAPACITY = "no_capacity"
    """No engine that serves its model could take work."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long work of one band waits, in seconds."""

    waited_seconds_max: float
    """Then it counts as one band higher; and after as long again, as of two."""
    contended_seconds_max: float
    """Then it is refused, while others are served."""


PATIENCE: Mapping[Band, Patience] = {
    Band.PRIORITY: Patience(waited_seconds_max=float("inf"), contended_seconds_max=30),
    Band.DEFAULT: Patience(waited_seconds_max=15, contended_seconds_max=60),
    Band.FLEX: Patience(waited_seconds_max=60, contended_seconds_max=float("inf")),
}
"""Who chose flex has no hurry: its deadline is the only bound."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    queued_max: int = 2_048
    """Requests; more are not taken."""
    no_capacity_seconds_max: float = 120
    """An engine's container is started again in less, with its model."""
    patience: Mapping[Band, Patience] = field(default_factory=lambda: PATIENCE)
