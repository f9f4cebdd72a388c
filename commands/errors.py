"""Why a command was not accepted. One class a case; the message says what to do."""

from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID


@dataclass(unsafe_hash=True)
class Refused(Exception):
    """A command that was not accepted; nothing was stored."""

    CODE: ClassVar[str] = "refused"

    def __str__(self) -> str:
        raise NotImplementedError


@dataclass(unsafe_hash=True)
class StalePosition(Refused):
    """The stream is not where the sender expected it to be."""

    CODE: ClassVar[str] = "stale_position"
    stream: UUID
    expected: int
    actual: int

    def __str__(self) -> str:
        return (
            f"stream {self.stream} is at position {self.actual}, not at {self.expected}; "
            "read it again and decide anew"
        )


@dataclass(unsafe_hash=True)
class CommandReused(Refused):
    """The same command id came with another body."""

    CODE: ClassVar[str] = "idempotency_key_reused"
    command: str

    def __str__(self) -> str:
        return (
            f"the idempotency key {self.command!r} was already used for a request with another "
            "route or body; send a new key for a new request"
        )


@dataclass(unsafe_hash=True)
class Busy(Refused):
    """Others kept writing to the same stream."""

    CODE: ClassVar[str] = "busy"
    stream: UUID
    attempts: int

    def __str__(self) -> str:
        return (
            f"stream {self.stream} changed {self.attempts} times under this command; send it again"
        )


@dataclass(unsafe_hash=True)
class EventTooLarge(Refused):
    CODE: ClassVar[str] = "event_too_large"
    bytes: int
    bytes_max: int

    def __str__(self) -> str:
        return f"an event would have {self.bytes} bytes; send less, at most {self.bytes_max} fit"


@dataclass(unsafe_hash=True)
class StoreUnavailable(Refused):
    """The event store could not be asked, or did not say what became of the command."""

    CODE: ClassVar[str] = "store_unavailable"
    reason: str
    """In words of ours: clients see it."""
    maybe_stored: bool = False
    """The command was on its way: it may have been stored, or may be yet."""

    def __str__(self) -> str:
        return f"the event store does not answer ({self.reason}); send the same command again"


@dataclass(unsafe_hash=True)
class StoreSaturated(Refused):
    CODE: ClassVar[str] = "store_saturated"
    queued_max: int

    def __str__(self) -> str:
        return f"{self.queued_max} commands already wait to be stored; send it again in a moment"


@dataclass(unsafe_hash=True)
class UnknownConversation(Refused):
    CODE: ClassVar[str] = "conversation_not_found"
    conversation: UUID

    def __str__(self) -> str:
        return f"there is no conversation {self.conversation}; check the id, or start one first"


@dataclass(unsafe_hash=True)
class ConversationExists(Refused):
    CODE: ClassVar[str] = "conversation_exists"
    conversation: UUID

    def __str__(self) -> str:
        return f"conversation {self.conversation} was already started; post messages to it"


@dataclass(unsafe_hash=True)
class ContentExpired(Refused):
    """It was not to be stored, and its key is gone."""

    CODE: ClassVar[str] = "conversation_expired"
    conversation: UUID

    def __str__(self) -> str:
        return (
            f"conversation {self.conversation} was started with `stored: false` and has expired: "
            "nobody can read it any more; start a new one"
        )


@dataclass(unsafe_hash=True)
class DeletedConversation(Refused):
    CODE: ClassVar[str] = "conversation_deleted"
    conversation: UUID

    def __str__(self) -> str:
        return f"conversation {self.conversation} was deleted; start another one"


@dataclass(unsafe_hash=True)
class ArchivedConversation(Refused):
    CODE: ClassVar[str] = "conversation_archived"
    conversation: UUID

    def __str__(self) -> str:
        return (
            f"conversation {self.conversation} is archived and takes no messages; "
            "take it out of the archive first"
        )


@dataclass(unsafe_hash=True)
class ConversationFull(Refused):
    CODE: ClassVar[str] = "conversation_full"
    conversation: UUID
    nodes_max: int

    def __str__(self) -> str:
        return (
            f"conversation {self.conversation} has {self.nodes_max} messages and answers on all "
            "its branches, and takes no more; go on in a new one"
        )


@dataclass(unsafe_hash=True)
class CompletionClosed(Refused):
    """A stateless call has its messages and one answer, and no more."""

    CODE: ClassVar[str] = "completion_closed"
    conversation: UUID

    def __str__(self) -> str:
        return (
            f"{self.conversation} is a completion and takes no messages; "
            "start a conversation, or send another completion with all its messages"
        )


@dataclass(unsafe_hash=True)
class UnknownMessage(Refused):
    CODE: ClassVar[str] = "message_not_found"
    conversation: UUID
    message: UUID

    def __str__(self) -> str:
        return (
            f"there is no message {self.message} in conversation {self.conversation}; check the id"
        )


@dataclass(unsafe_hash=True)
class UnknownNode(Refused):
    CODE: ClassVar[str] = "node_not_found"
    conversation: UUID
    node: UUID

    def __str__(self) -> str:
        return (
            f"there is no message or answer {self.node} in conversation {self.conversation}; "
            "check the id"
        )


@dataclass(unsafe_hash=True)
class NotAnswerable(Refused):
    CODE: ClassVar[str] = "not_answerable"
    conversation: UUID
    node: UUID

    def __str__(self) -> str:
        return (
            f"{self.node} is what an assistant said; name the message of the user, or of the "
            "system, that is to be answered"
        )


@dataclass(unsafe_hash=True)
class EditElsewhere(Refused):
    """An edit is a sibling of what it edits."""

    CODE: ClassVar[str] = "edit_elsewhere"
    conversation: UUID
    edits: UUID
    seen: UUID | None
    parent: UUID | None

    def __str__(self) -> str:
        return (
            f"message {self.edits} is below {self.parent}, not below {self.seen}; "
            "send an edit with the parent of the message that it edits"
        )


@dataclass(unsafe_hash=True)
class EditOfAnotherRole(Refused):
    CODE: ClassVar[str] = "edit_of_another_role"
    conversation: UUID
    edits: UUID
    role: str

    def __str__(self) -> str:
        return (
            f"message {self.edits} is one of the role {self.role!r}; send the edit with that role"
        )


@dataclass(unsafe_hash=True)
class BranchGoesOn(Refused):
    """A branch is chosen by its last node."""

    CODE: ClassVar[str] = "branch_goes_on"
    conversation: UUID
    node: UUID
    followed_by: UUID

    def __str__(self) -> str:
        return (
            f"{self.node} is followed by {self.followed_by}; read the conversation again and "
            "choose the last node of a branch"
        )


@dataclass(unsafe_hash=True)
class ReadBeyondEnd(Refused):
    CODE: ClassVar[str] = "read_beyond_end"
    conversation: UUID
    position: int
    last: int

    def __str__(self) -> str:
        return (
            f"conversation {self.conversation} has events up to position {self.last}, "
            f"not {self.position}; send the position of what was read"
        )


@dataclass(unsafe_hash=True)
class UnknownAnswer(Refused):
    CODE: ClassVar[str] = "answer_not_found"
    answer: UUID

    def __str__(self) -> str:
        return f"there is no answer {self.answer}; check the id"


@dataclass(unsafe_hash=True)
class AnswerInProgress(Refused):
    CODE: ClassVar[str] = "answer_in_progress"
    conversation: UUID
    answer: UUID

    def __str__(self) -> str:
        return (
            f"answer {self.answer} is still being given in conversation {self.conversation}; "
            "wait for its end, or cancel it, then post"
        )


@dataclass(unsafe_hash=True)
class StaleHead(Refused):
    """The branch went on since the sender read it."""

    CODE: ClassVar[str] = "stale_head"
    conversation: UUID
    seen: UUID | None
    head: UUID | None

    def __str__(self) -> str:
        return (
            f"parent {self.seen} is not the head of conversation {self.conversation}, "
            f"{self.head} is; read the conversation again and post to its head"
        )


@dataclass(unsafe_hash=True)
class NothingToAnswer(Refused):
    CODE: ClassVar[str] = "nothing_to_answer"

    def __str__(self) -> str:
        return "there are no messages; send at least one for an answer to be given"


@dataclass(unsafe_hash=True)
class UnknownKey(Refused):
    CODE: ClassVar[str] = "key_not_found"
    key: UUID

    def __str__(self) -> str:
        return f"there is no API key {self.key}; list the keys to see their ids"


@dataclass(unsafe_hash=True)
class UnknownTenant(Refused):
    CODE: ClassVar[str] = "tenant_not_found"
    tenant: UUID

    def __str__(self) -> str:
        return f"there is no tenant {self.tenant}; create it first"
