"""What every event has in common: the class that each derives from, and the envelope around it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict

T = TypeVar("T")


class PersonalMark:
    """Marks a field whose content is about a person; the codec treats it apart."""


Personal = Annotated[T, PersonalMark()]
"""A field with personal content. Plain text for now; the place of encryption per data subject."""

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]


class Event(BaseModel):
    """A fact, in the past tense. Subclasses name a stable TYPE, and a VERSION of their fields.

    When fields change, VERSION rises by one and UPCASTERS gets the function that turns the data of
    the version before into this one's, so that what was stored stays readable for ever.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    TYPE: ClassVar[str]
    VERSION: ClassVar[int] = 1
    UPCASTERS: ClassVar[Mapping[int, Upcaster]] = {}

    @classmethod
    def context(cls) -> str:
        """The bounded context that writes this event: the middle part of its TYPE."""
        return cls.TYPE.split(".")[1]


@dataclass(frozen=True, slots=True)
class Meta:
    """Who asked for what, when: the part of the envelope that comes in with a command."""

    tenant: UUID
    command: str
    """Unique per tenant and context, kept for ever. A client's idempotency key, or a fresh id."""
    actor: str
    """Who acted: an API key's id, or one of our roles."""
    subject: str
    """Whose data it is (the data subject of data protection law)."""
    time: datetime
    correlation: UUID
    causation: UUID | None = None
    traceparent: str | None = None
    """W3C Trace Context, version 00."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One event where it stands: in a stream, at a position (dense, from 1)."""

    id: UUID
    stream: UUID
    position: int
    meta: Meta
    event: Event
    sealed: str | None = None
    """The personal fields of `event`, encrypted under a key that was not at hand, or is no more:
    in `event` they are blank. None: they are there."""
