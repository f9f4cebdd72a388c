"""What happens in a conversation: a tree of messages and answers, each node with one parent.

Stream: the conversation's id. An answer is a node of the tree like a message, and may be a parent.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from events.envelope import Event, Personal, Upcaster
from events.ids import AnswerId, ConversationId, MessageId, NodeId


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class Kind(StrEnum):
    """What a conversation is for."""

    CONVERSATION = "conversation"
    """People talk in it, turn by turn."""
    COMPLETION = "completion"
    """One stateless call: its messages, and one answer."""


class Band(StrEnum):
    """How urgent an answer is, the most urgent first; each band has a work topic of its own."""

    PRIORITY = "priority"
    DEFAULT = "default"
    FLEX = "flex"


class EndKind(StrEnum):
    FINISH = "finish"
    FAIL = "fail"
    CANCELLED = "cancelled"


class Sampling(BaseModel):
    """How the next token is chosen, and when to stop. None: the engine's default."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    max_tokens: int = Field(ge=1)
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logprobs: bool = False
    """Each token's log probability is wanted, where the engine gives it."""
    top_logprobs: int = 0
    """And those of so many of the likeliest tokens in its place."""


class Usage(BaseModel):
    """Tokens: of the prompt as the engine counted it, and of what was said."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Seam(BaseModel):
    """From chunk `index` on, another call (of the same or of another engine) spoke, as `model`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    index: int
    model: str


class TokenLogprob(BaseModel):
    """One token of an answer and how likely the model found it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    token: str
    logprob: float
    """Natural logarithm of the probability."""
    top: tuple[tuple[str, float], ...] = ()
    """The likeliest tokens in this place with their logprobs, likeliest first."""


class Attachment(BaseModel):
    """A reference to something that belongs to a message; it is not fetched."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    uri: str
    name: str | None = None
    media_type: str | None = None
    bytes: int | None = Field(default=None, ge=0)


def _added(**fields: Any) -> Upcaster:
    """An upcaster for a version that only has more fields: what they were before they existed."""
    return lambda data: {**fields, **data}


class ConversationStarted(Event):
    """A conversation began; what follows in its stream belongs to it."""

    TYPE: ClassVar[str] = "thalweg.conversations.conversation_started"
    VERSION: ClassVar[int] = 2
    UPCASTERS: ClassVar[Mapping[int, Upcaster]] = {
        1: _added(kind="conversation", stored=True, title=None, metadata={})
    }
    conversation: ConversationId
    kind: Kind = Kind.CONVERSATION
    stored: bool = True
    """False: kept out of lists and search, and unreadable once its key has expired."""
    title: Personal[str | None] = None
    metadata: Personal[dict[str, str]] = Field(default_factory=dict)
    """What the client wants to find again; nothing here reads it."""

    @property
    def begins_sealed(self) -> bool:
        return not self.stored


class ConversationRenamed(Event):
    """A conversation got another title; None: none of its own."""

    TYPE: ClassVar[str] = "thalweg.conversations.conversation_renamed"
    GOES_ON: ClassVar[bool] = True
    conversation: ConversationId
    title: Personal[str | None]


class MetadataReplaced(Event):
    """The client's metadata of a conversation is now this, all of it."""

    TYPE: ClassVar[str] = "thalweg.conversations.metadata_replaced"
    GOES_ON: ClassVar[bool] = True
    conversation: ConversationId
    metadata: Personal[dict[str, str]]


class ConversationArchived(Event):
    """A conversation was put away: it takes no messages until it is taken out again."""

    TYPE: ClassVar[str] = "thalweg.conversations.conversation_archived"
    conversation: ConversationId


class ConversationUnarchived(Event):
    """An archived conversation was taken out again."""

    TYPE: ClassVar[str] = "thalweg.conversations.conversation_unarchived"
    conversation: ConversationId


class ConversationDeleted(Event):
    """A conversation was deleted: readers see it no more. Ends of its answers still follow."""

    TYPE: ClassVar[str] = "thalweg.conversations.conversation_deleted"
    conversation: ConversationId


class ConversationRead(Event):
    """Its user has seen a conversation as it was at a position of its stream."""

    TYPE: ClassVar[str] = "thalweg.conversations.conversation_read"
    conversation: ConversationId
    position: int


class BranchChosen(Event):
    """Another branch is now the one that is shown, and that the next message goes on."""

    TYPE: ClassVar[str] = "thalweg.conversations.branch_chosen"
    conversation: ConversationId
    head: NodeId
    """The last node of the branch."""


class MessagePosted(Event):
    """A message was accepted into a conversation."""

    TYPE: ClassVar[str] = "thalweg.conversations.message_posted"
    VERSION: ClassVar[int] = 2
    GOES_ON: ClassVar[bool] = True
    UPCASTERS: ClassVar[Mapping[int, Upcaster]] = {1: _added(attachments=[], edits=None)}
    conversation: ConversationId
    message: MessageId
    role: Role
    content: Personal[str]
    parent: NodeId | None
    """None: the first message."""
    attachments: Personal[tuple[Attachment, ...]] = ()
    edits: MessageId | None = None
    """The message that this one is another wording of: its sibling, on a branch of its own."""


class AnswerRequested(Event):
    """An answer to the branch that ends in `parent` was asked for."""

    TYPE: ClassVar[str] = "thalweg.conversations.answer_requested"
    VERSION: ClassVar[int] = 2
    GOES_ON: ClassVar[bool] = True
    UPCASTERS: ClassVar[Mapping[int, Upcaster]] = {1: _added()}  # sampling's fields have defaults
    conversation: ConversationId
    answer: AnswerId
    parent: NodeId
    model: str
    band: Band
    deadline_seconds: float
    """Counted from the database's time at the append."""
    sampling: Sampling


class AnswerAskedAgain(Event):
    """An answer was still open after its deadline and a grace: whoever takes it is to end it.

    It asks for the same answer, so that however often it is asked for, it has one end.
    """

    TYPE: ClassVar[str] = "thalweg.conversations.answer_asked_again"
    conversation: ConversationId
    answer: AnswerId
    model: str
    band: Band
    times: int
    """How often it has been asked for again, this time included."""


class AnswerCancelRequested(Event):
    """Somebody asked that an answer stop. A wish, not an end: the end is decided in the tokens."""

    TYPE: ClassVar[str] = "thalweg.conversations.answer_cancel_requested"
    conversation: ConversationId
    answer: AnswerId


class AnswerEnded(Event):
    """The end of an answer, as the fold of its token records has it."""

    TYPE: ClassVar[str] = "thalweg.conversations.answer_ended"
    VERSION: ClassVar[int] = 2
    UPCASTERS: ClassVar[Mapping[int, Upcaster]] = {1: _added(logprobs=None)}
    conversation: ConversationId
    answer: AnswerId
    kind: EndKind
    reason: str
    """Why it ended: stop, length, cancelled, deadline, refused, engine, poisonous, ..."""
    error: str | None = None
    text: Personal[str]
    chunk_lengths: tuple[int, ...]
    """Code points of each chunk in order; the last one is the text that the end itself carried."""
    logprobs: Personal[tuple[tuple[TokenLogprob, ...], ...] | None] = None
    """Of each chunk's tokens, if they were asked for and given; the chunks are chunk_lengths', and
    those after its end have none."""
    seams: tuple[Seam, ...] = ()
    usage: Usage
