"""What happens in a conversation: a tree of messages and answers, each node with one parent.

Stream: the conversation's id. An answer is a node of the tree like a message, and may be a parent.
"""

from enum import StrEnum
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from events.envelope import Event, Personal
from events.ids import AnswerId, ConversationId, MessageId, NodeId


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class Band(StrEnum):
    """How urgent an answer is; each band has a work topic of its own."""

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


class ConversationStarted(Event):
    """A conversation began; what follows in its stream belongs to it."""

    TYPE: ClassVar[str] = "thalweg.conversations.conversation_started"
    conversation: ConversationId


class MessagePosted(Event):
    """A message was accepted into a conversation."""

    TYPE: ClassVar[str] = "thalweg.conversations.message_posted"
    conversation: ConversationId
    message: MessageId
    role: Role
    content: Personal[str]
    parent: NodeId | None
    """None: the first message."""


class AnswerRequested(Event):
    """An answer to the branch that ends in `parent` was asked for."""

    TYPE: ClassVar[str] = "thalweg.conversations.answer_requested"
    conversation: ConversationId
    answer: AnswerId
    parent: NodeId
    model: str
    band: Band
    deadline_seconds: float
    """Counted from the database's time at the append."""
    sampling: Sampling


class AnswerCancelRequested(Event):
    """Somebody asked that an answer stop. A wish, not an end: the end is decided in the tokens."""

    TYPE: ClassVar[str] = "thalweg.conversations.answer_cancel_requested"
    conversation: ConversationId
    answer: AnswerId


class AnswerEnded(Event):
    """The end of an answer, as the fold of its token records has it."""

    TYPE: ClassVar[str] = "thalweg.conversations.answer_ended"
    conversation: ConversationId
    answer: AnswerId
    kind: EndKind
    reason: str
    """Why it ended: stop, length, cancelled, deadline, refused, engine, poisonous, ..."""
    error: str | None = None
    text: Personal[str]
    chunk_lengths: tuple[int, ...]
    """Code points of each chunk in order; the last one is the text that the end itself carried."""
    seams: tuple[Seam, ...] = ()
    usage: Usage
