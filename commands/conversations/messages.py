"""Messages: at the head of the conversation, or another wording of one that is there."""

from dataclasses import dataclass

from commands.conversations.answers import AskAnswer, requested
from commands.conversations.state import Conversation, talking
from commands.errors import (
    AnswerInProgress,
    EditElsewhere,
    EditOfAnotherRole,
    StaleHead,
    UnknownMessage,
)
from events.conversations import Attachment, MessagePosted, Role
from events.envelope import Event
from events.ids import AnswerId, ConversationId, MessageId, NodeId


@dataclass(frozen=True, slots=True)
class NewMessage:
    message: MessageId
    role: Role
    content: str
    attachments: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True)
class PostMessage:
    """A message, and the wish for an answer to it; without `ask` nobody is to answer."""

    conversation: ConversationId
    parent: NodeId | None
    message: NewMessage
    ask: AskAnswer | None
    edits: MessageId | None = None
    """The message that this one is another wording of. The two are siblings, so that it begins a
    branch; an answer that is being given on another branch goes on."""


def post_message(state: Conversation, command: PostMessage) -> list[Event]:
    id_ = talking(state, command.conversation)
    if command.edits is None:
        _check_head(state, id_, command.parent)
    else:
        _check_edit(state, id_, command, command.edits)
    events: list[Event] = [posted(id_, command.message, command.parent, command.edits)]
    if command.ask is not None:
        events.append(requested(id_, command.ask, command.message.message))
    return events


def posted(
    conversation: ConversationId,
    message: NewMessage,
    parent: NodeId | None,
    edits: MessageId | None = None,
) -> MessagePosted:
    return MessagePosted(
        conversation=conversation,
        message=message.message,
        role=message.role,
        content=message.content,
        parent=parent,
        attachments=message.attachments,
        edits=edits,
    )


def _check_head(state: Conversation, id_: ConversationId, parent: NodeId | None) -> None:
    if state.head in state.open_answers:
        raise AnswerInProgress(id_, AnswerId(state.head))
    if parent != state.head:
        raise StaleHead(id_, parent, state.head)


def _check_edit(
    state: Conversation, id_: ConversationId, command: PostMessage, edits: MessageId
) -> None:
    """The edited message is not below an open answer, so its sibling is not either."""
    edited = state.messages.get(edits)
    if edited is None:
        raise UnknownMessage(id_, edits)
    if command.parent != edited.parent:
        raise EditElsewhere(id_, edits, command.parent, edited.parent)
    if command.message.role is not edited.role:
        raise EditOfAnotherRole(id_, edits, edited.role.value)
