"""Why the door itself refuses a request. One class a case; the message says what to do.

What is about the fleet, or about the log, stands in the folders of those.
"""

from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from commands import errors as commands


@dataclass(unsafe_hash=True)
class Declined(Exception):
    """A request that the gateway does not pass on. `param` names the part at fault, if one is."""

    STATUS: ClassVar[int] = 400
    CODE: ClassVar[str] = "invalid_request"

    def __str__(self) -> str:
        raise NotImplementedError

    @property
    def parameter(self) -> str | None:
        return None


@dataclass(unsafe_hash=True)
class InvalidRequest(Declined):
    """Something in the request is not as it should be."""

    detail: str
    param: str | None = None

    def __str__(self) -> str:
        return self.detail

    @property
    def parameter(self) -> str | None:
        return self.param


@dataclass(unsafe_hash=True)
class UnsupportedParameter(InvalidRequest):
    """A parameter that we don't take, refused by its name: it is never ignored."""

    CODE: ClassVar[str] = "unsupported_parameter"


@dataclass(unsafe_hash=True)
class InvalidKey(Declined):
    STATUS: ClassVar[int] = 401
    CODE: ClassVar[str] = "invalid_api_key"

    def __str__(self) -> str:
        return (
            "send a valid API key as `Authorization: Bearer KEY`; `thalweg keys create` makes one"
        )


@dataclass(unsafe_hash=True)
class NotFound(Declined):
    STATUS: ClassVar[int] = 404
    CODE: ClassVar[str] = "not_found"
    what: str

    def __str__(self) -> str:
        return f"there is no {self.what}; check the address and the API key"


@dataclass(unsafe_hash=True)
class BodyTooLarge(Declined):
    STATUS: ClassVar[int] = 413
    CODE: ClassVar[str] = "body_too_large"
    bytes_max: int

    def __str__(self) -> str:
        return f"the body is too large; send at most {self.bytes_max} bytes"


@dataclass(unsafe_hash=True)
class BodyTooSlow(Declined):
    STATUS: ClassVar[int] = 408
    CODE: ClassVar[str] = "body_too_slow"
    seconds_max: float

    def __str__(self) -> str:
        return f"the body did not arrive within {self.seconds_max:g} s; send it again"


@dataclass(unsafe_hash=True)
class ClientGone(Declined):
    """The client left while it was still sending: nobody reads what we answer."""

    CODE: ClassVar[str] = "client_gone"

    def __str__(self) -> str:
        return "the connection was closed before the body was complete; send it again"


@dataclass(unsafe_hash=True)
class AnswerExpired(Declined):
    """An answer that was not to be stored, and whose key is gone."""

    STATUS: ClassVar[int] = 410
    CODE: ClassVar[str] = "answer_expired"
    answer: UUID

    def __str__(self) -> str:
        return (
            f"answer {self.answer} belongs to a conversation with `stored: false` and has expired: "
            "nobody can read it any more; ask again in a new conversation"
        )


@dataclass(unsafe_hash=True)
class Draining(Declined):
    """This gateway is stopping; another one serves the same streams."""

    STATUS: ClassVar[int] = 503
    CODE: ClassVar[str] = "gateway_draining"
    answer: UUID

    def __str__(self) -> str:
        return (
            f"this gateway is stopping; the answer goes on: read it at /api/answers/{self.answer}"
            "/stream"
        )


@dataclass(unsafe_hash=True)
class Unavailable(Declined):
    """The answer was accepted, but its stream can't be read at the moment."""

    STATUS: ClassVar[int] = 503
    CODE: ClassVar[str] = "answer_stream_unavailable"
    answer: UUID

    def __str__(self) -> str:
        return (
            "the answer's stream can't be read at the moment; nothing is lost: "
            f"read it later at /api/answers/{self.answer}/stream"
        )


@dataclass(unsafe_hash=True)
class NotAppliedYet(Declined):
    """A read that should have seen what it was asked to wait for."""

    STATUS: ClassVar[int] = 503
    CODE: ClassVar[str] = "not_applied_yet"
    seconds_max: float

    def __str__(self) -> str:
        return (
            f"what `after` names was not applied within {self.seconds_max:g} s; send it again in a "
            "moment, or without `after` to read what there is"
        )

    @property
    def parameter(self) -> str | None:
        return "after"


@dataclass(unsafe_hash=True)
class ListBehind(Declined):
    """An empty page would say that the list has ended."""

    STATUS: ClassVar[int] = 503
    CODE: ClassVar[str] = "not_applied_yet"
    deleted: int

    def __str__(self) -> str:
        return (
            f"the list is behind: the next {self.deleted} that it names were deleted since; send "
            "it again in a moment"
        )


@dataclass(unsafe_hash=True)
class ConversationParked(Declined):
    """Not even its beginning could be applied to the read models: nothing of it can be shown."""

    STATUS: ClassVar[int] = 503
    CODE: ClassVar[str] = "conversation_parked"
    conversation: UUID
    parked: bool = True

    def __str__(self) -> str:
        return (
            f"conversation {self.conversation} is stored, but its events could not be applied to "
            "what is read; an operator has to look into it (`thalweg dead-letters`)"
        )


@dataclass(unsafe_hash=True)
class PerhapsAccepted(Declined):
    """The event store was lost during a commit of a call without an idempotency key."""

    STATUS: ClassVar[int] = 503
    CODE: ClassVar[str] = "store_unavailable"

    def __str__(self) -> str:
        return (
            "the event store went away while this was being stored, so it may have been accepted "
            "or not; only a call with an Idempotency-Key can safely be sent again"
        )


STATUS_OF_REFUSED: dict[type[commands.Refused], int] = {
    commands.StalePosition: 409,
    commands.CommandReused: 422,
    commands.Busy: 503,
    commands.EventTooLarge: 413,
    commands.StoreUnavailable: 503,
    commands.StoreSaturated: 503,
    commands.UnknownConversation: 404,
    commands.ConversationExists: 409,
    commands.ContentExpired: 410,
    commands.DeletedConversation: 410,
    commands.ArchivedConversation: 409,
    commands.ConversationFull: 409,
    commands.CompletionClosed: 409,
    commands.UnknownMessage: 404,
    commands.UnknownNode: 404,
    commands.NotAnswerable: 400,
    commands.EditElsewhere: 409,
    commands.EditOfAnotherRole: 400,
    commands.BranchGoesOn: 409,
    commands.ReadBeyondEnd: 400,
    commands.UnknownAnswer: 404,
    commands.AnswerInProgress: 409,
    commands.StaleHead: 409,
    commands.NothingToAnswer: 400,
    commands.UnknownKey: 404,
    commands.UnknownTenant: 404,
}


def status_of(error: Declined | commands.Refused) -> int:
    """The HTTP status of a refusal; a refusal that nobody has listed is a server error."""
    if isinstance(error, Declined):
        return error.STATUS
    return STATUS_OF_REFUSED.get(type(error), 500)
