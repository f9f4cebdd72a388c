"""What deciding needs to know of a conversation, and how each event changes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from commands.errors import (
    ArchivedConversation,
    CompletionClosed,
    ConversationFull,
    DeletedConversation,
    UnknownConversation,
)
from commands.growing import Growing
from commands.submit import Decider
from events.conversations import (
    AnswerAskedAgain,
    AnswerCancelRequested,
    AnswerEnded,
    AnswerRequested,
    BranchChosen,
    ConversationArchived,
    ConversationDeleted,
    ConversationRead,
    ConversationRenamed,
    ConversationStarted,
    ConversationUnarchived,
    Kind,
    MessagePosted,
    MetadataReplaced,
)
from events.envelope import Event
from events.ids import AnswerId, ConversationId, MessageId, NodeId

NODES_MAX = 10_000
"""Messages and answers of a conversation: each decision replays them all, and each page of its
messages reads the whole tree, without texts."""


@dataclass(frozen=True, slots=True)
class Conversation:
    id: ConversationId | None = None
    kind: Kind = Kind.CONVERSATION
    stored: bool = True
    title: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    archived: bool = False
    deleted: bool = False
    position: int = 0
    """Of its last event."""
    news: int = 0
    """Position of the last event that its user would want to see."""
    read: int = 0
    """Up to where its user has seen it."""
    head: NodeId | None = None
    open_answers: tuple[AnswerId, ...] = ()
    """Asked for and not ended, in the order in which they were asked for."""
    messages: Growing[MessageId, MessagePosted] = field(default_factory=Growing)
    answers: Growing[AnswerId, AnswerRequested] = field(default_factory=Growing)
    cancels: Growing[AnswerId, AnswerCancelRequested] = field(default_factory=Growing)
    ends: Growing[AnswerId, AnswerEnded] = field(default_factory=Growing)
    followed: Growing[NodeId, NodeId] = field(default_factory=Growing)
    """Each node that has others below it, with the first of them."""

    def has(self, node: NodeId) -> bool:
        return node in self.messages or node in self.answers

    def open_answer_to(self, message: NodeId) -> AnswerId | None:
        """The answer to this message that is being given."""
        return next((one for one in self.open_answers if self.answers[one].parent == message), None)


def there(state: Conversation, conversation: ConversationId) -> ConversationId:
    """Its id. Raises UnknownConversation and DeletedConversation."""
    if state.id is None:
        raise UnknownConversation(conversation)
    if state.deleted:
        raise DeletedConversation(state.id)
    return state.id


def talking(state: Conversation, conversation: ConversationId) -> ConversationId:
    """Its id, if it takes messages. Raises also CompletionClosed, ArchivedConversation and
    ConversationFull.
    """
    id_ = there(state, conversation)
    if state.kind is Kind.COMPLETION:
        raise CompletionClosed(id_)
    if state.archived:
        raise ArchivedConversation(id_)
    if len(state.messages) + len(state.answers) >= NODES_MAX:
        raise ConversationFull(id_, NODES_MAX)
    return id_


def evolve(state: Conversation, event: Event) -> Conversation:
    position = state.position + 1
    match event:
        case ConversationRead():
            return replace(state, position=position, read=max(state.read, event.position))
        case AnswerAskedAgain():
            return replace(state, position=position)
        case MessagePosted():
            return replace(
                state,
                position=position,
                news=position,
                head=event.message,
                messages=state.messages.plus(event.message, event),
                followed=_followed(state, event.parent, event.message),
            )
        case AnswerRequested():
            return replace(
                state,
                position=position,
                news=position,
                head=event.answer,
                open_answers=(*state.open_answers, event.answer),
                answers=state.answers.plus(event.answer, event),
                followed=_followed(state, event.parent, event.answer),
            )
        case AnswerEnded():
            return replace(
                state,
                position=position,
                news=position,
                open_answers=tuple(one for one in state.open_answers if one != event.answer),
                ends=state.ends.plus(event.answer, event),
            )
    return _changed(replace(state, position=position, news=position), event)


def _changed(state: Conversation, event: Event) -> Conversation:
    match event:
        case ConversationStarted():
            return replace(
                state,
                id=event.conversation,
                kind=event.kind,
                stored=event.stored,
                title=event.title,
                metadata=event.metadata,
            )
        case AnswerCancelRequested():
            return replace(state, cancels=state.cancels.plus(event.answer, event))
        case BranchChosen():
            return replace(state, head=event.head)
        case ConversationRenamed():
            return replace(state, title=event.title)
        case MetadataReplaced():
            return replace(state, metadata=event.metadata)
        case ConversationArchived():
            return replace(state, archived=True)
        case ConversationUnarchived():
            return replace(state, archived=False)
        case ConversationDeleted():
            return replace(state, deleted=True)
    return state


def _followed(state: Conversation, parent: NodeId | None, node: NodeId) -> Growing[NodeId, NodeId]:
    return state.followed if parent is None else state.followed.plus(parent, node)


CONVERSATIONS: Decider[Conversation] = Decider(Conversation(), evolve)
