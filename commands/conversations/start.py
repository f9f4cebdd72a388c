"""How a conversation begins: empty, with a system message, or whole, as a stateless call."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from commands.conversations.answers import AskAnswer, requested
from commands.conversations.messages import NewMessage, posted
from commands.conversations.state import Conversation
from commands.errors import ConversationExists, NothingToAnswer
from events.conversations import ConversationStarted, Kind
from events.envelope import Event
from events.ids import ConversationId


@dataclass(frozen=True, slots=True)
class StartConversation:
    conversation: ConversationId
    title: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    stored: bool = True
    """False: kept out of lists and search, and unreadable once its key has expired."""
    system: NewMessage | None = None
    """A first message that nobody is to answer."""


@dataclass(frozen=True, slots=True)
class CompleteOnce:
    """A stateless call: a conversation of its own, with all its messages and one answer."""

    conversation: ConversationId
    messages: tuple[NewMessage, ...]
    ask: AskAnswer
    metadata: Mapping[str, str] = field(default_factory=dict)
    stored: bool = True


def start_conversation(state: Conversation, command: StartConversation) -> list[Event]:
    if state.id is not None:
        raise ConversationExists(state.id)
    started = ConversationStarted(
        conversation=command.conversation,
        stored=command.stored,
        title=command.title,
        metadata=dict(command.metadata),
    )
    if command.system is None:
        return [started]
    return [started, posted(command.conversation, command.system, None)]


def complete_once(state: Conversation, command: CompleteOnce) -> list[Event]:
    if not command.messages:
        raise NothingToAnswer
    if state.id is not None:
        raise ConversationExists(state.id)
    events: list[Event] = [
        ConversationStarted(
            conversation=command.conversation,
            kind=Kind.COMPLETION,
            stored=command.stored,
            metadata=dict(command.metadata),
        )
    ]
    parents = (None, *(message.message for message in command.messages))
    for message, parent in zip(command.messages, parents, strict=False):
        events.append(posted(command.conversation, message, parent))
    last = command.messages[-1].message
    return [*events, requested(command.conversation, command.ask, last)]
