"""What every saga is made of: a pure function from state and input to state, commands and timers.

No clock, no random, no I/O: what the time is shows in which timers have fired, and the ids of
commands derive from what they are about, so that the same command sent twice takes effect once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from events.envelope import Recorded


class Kept(BaseModel):
    """What is stored between two inputs: states and commands. Bounded, whatever happens."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Command(Kept):
    """Asked of a context. Sent until it is known what came of it, so maybe more than once."""

    id: str
    """The command's id at its context: the same for each send of it."""


State = TypeVar("State", bound=Kept)
Sent = TypeVar("Sent", bound=Command)


@dataclass(frozen=True, slots=True)
class Timer:
    """Fires once, so many seconds after the event that is reacted to (else: after now)."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Fired:
    """A timer's time has come."""

    timer: str


class Answer(StrEnum):
    """What a context said to a command."""

    DONE = "done"
    POINTLESS = "pointless"
    """What the saga is about is over, or nobody knows it."""
    TOO_EARLY = "too_early"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Answered(Generic[Sent]):
    """What came of a command."""

    command: Sent
    answer: Answer
    seconds: float = 0.0
    """Too early by so much."""


@dataclass(frozen=True, slots=True)
class Reaction(Generic[State, Sent]):
    state: State | None
    """None: the instance is over, and its timers with it."""
    commands: tuple[Sent, ...] = ()
    timers: tuple[Timer, ...] | None = None
    """In place of all that it had; None: those stay."""
    alarm: str = ""
    """What a person should look into. It stays until the instance is over."""


class Saga(Protocol[State, Sent]):
    """One kind of process. Each instance of it is about one thing, and has an id of its own."""

    name: str
    """Of its rows and of its consumer group; for ever."""
    context: str
    """Whose events it hears."""
    opens: str
    """The type of event that an instance begins with."""
    closes: str
    """The type of event that ends it. One that begins and is closed in one batch is never kept."""
    state: type[State]
    command: type[Sent]

    def instance(self, data: Mapping[str, object]) -> UUID:
        """Which instance an event is about, by its data. Raises KeyError, ValueError, TypeError."""

    def react(
        self, state: State | None, put: Recorded | Fired | Answered[Sent]
    ) -> Reaction[State, Sent]:
        """What an instance does next; its state is None before its beginning and after its end."""
