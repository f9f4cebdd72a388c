"""What every event has in common: the class that each derives from, and the envelope around it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, ClassVar, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from events.sealing import ContentKey

T = TypeVar("T")


class PersonalMark:
    """Marks a field whose content is about a person; the codec treats it apart."""


Personal = Annotated[T, PersonalMark()]
"""A field with personal content: what the codec seals, if the record has a key. Its type has a
blank: None, "", {} or ()."""

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
"""Of a sealed event it gets the personal fields alone, and once more all the others."""


class Event(BaseModel):
    """A fact, in the past tense. Subclasses name a stable TYPE, and a VERSION of their fields.

    When fields change, VERSION rises by one and UPCASTERS gets the function that turns the data of
    the version before into this one's, so that what was stored stays readable for ever.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    TYPE: ClassVar[str]
    VERSION: ClassVar[int] = 1
    UPCASTERS: ClassVar[Mapping[int, Upcaster]] = {}
    GOES_ON: ClassVar[bool] = False
    """It goes on what was said before: refused where that has expired and can't be read."""

    @property
    def begins_sealed(self) -> bool:
        """Whether the stream that it begins gets a key of its own, for all personal fields."""
        return False

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
    key: ContentKey | None = field(default=None, compare=False, repr=False)
    """What the personal fields are sealed under wherever this is written; None: they are not."""
